"""The progress of a run for a person: one screen that is redrawn, or a line now and then."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

LINES_SECONDS = 10.0
BAR = 30
MAX_NAMES = 3  # of topologies that are prepared at a time
YEAR = 365 * 86400.0  # s; a longer duration is none
_HOME, _CLEAR_LINE, _CLEAR_BELOW, _CLEAR = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"


class Progress:
    """Shows views on `stream` in a style: "screen" redraws, "lines" prints one line in 10 s, "none" is silent."""

    def __init__(self, style: str, stream: TextIO | None = None):
        self.stream = stream or sys.stdout
        if style == "auto":
            # Launchers give ranks a terminal of their own: only who started the launcher knows where its output goes.
            style = os.environ.get("DDMD_MPI_PROGRESS", "lines")
        self.style = style
        self._due, self._drawn = 0.0, False

    def announce(self, text: str) -> None:
        """Say what takes time before there is a view."""
        if self.style != "none":
            self.stream.write(text + "\n")
            self.stream.flush()

    def show(self, view: dict[str, Any]) -> None:
        """Draw a view."""
        if self.style == "screen":
            start = _HOME if self._drawn else _CLEAR + _HOME
            self.stream.write(start + screen(view).replace("\n", _CLEAR_LINE + "\n") + _CLEAR_BELOW)
            self._drawn = True
        elif self.style == "lines" and time.monotonic() >= self._due:
            self._due = time.monotonic() + LINES_SECONDS
            self.stream.write(line(view) + "\n")
        self.stream.flush()

    def finish(self, summary: dict[str, Any], directory: Path) -> None:
        """Print the short summary and the paths of what was written."""
        if self.style != "none":
            self.stream.write("\n" + epilogue(summary, directory))
            self.stream.flush()


def line(view: dict[str, Any]) -> str:
    """A view in one line."""
    return (
        f"{clock(view['duration_s'] - view['left_s'])}  {view['ns']:.3f} ns  {view['frames']} frames  "
        + (f"({dropped(view)})  " if view["dropped"] else "")
        + f"model v{view['version']}  {view['restarts']} restarts  best RMSD {rmsd(view)}  "
        + "".join(f"{text}  " for text in (preparing(view),) if text)
        + remaining(view)
    )


def screen(view: dict[str, Any]) -> str:
    """A view as one screen: a row per role."""
    spent = 1 - view["left_s"] / view["duration_s"]
    filled = round(BAR * min(1.0, max(0.0, spent)))
    rows = [
        (
            "simulation",
            f"{view['walkers']} walkers, {view['frames']} frames, {view['ns']:.3f} ns, "
            f"{view['segments']} segments"
            + (f", {view['failures']} failures" if view["failures"] else "")
            + (f"; {preparing(view)}" if view["preparing"] else ""),
        ),
        (
            "aggregation",
            f"{view['received']} frames in {view['blocks']} blocks"
            + (f", {view['silent']} silent" if view["silent"] else "")
            + (f", {dropped(view)}" if view["dropped"] else ""),
        ),
        (
            "training",
            f"model v{view['version']}, {view['training_rounds']} rounds"
            + (f" by {view['data_parallel']}" if view["data_parallel"] != "none" else "")
            + (f", loss {view['loss']:.4g}" if view["version"] and view["loss"] is not None else ""),
        ),
        (
            "inference",
            f"{view['inference_rounds']} rounds, window {view['window']}, {view['outliers']} outliers, "
            f"{view['decisions']} decisions"
            + (f" ({view['instant_decisions']} by pca)" if view["instant_decisions"] else ""),
        ),
    ]
    table = "\n".join(
        f"  {role:<12}{view['ranks'].get(role, 0):>5}  {doing(view['activities'].get(role, {})):<22}{text}"
        for role, text in rows
    )
    return (
        f"ddmd-mpi  {view['usecase']}, strategy {view['strategy']}\n"
        + (f"{view['note']}\n" if view["note"] else "")
        + f"\n  [{'#' * filled}{'.' * (BAR - filled)}]  {remaining(view)}\n\n"
        f"  {'role':<12}{'ranks':>5}  {'now':<22}so far\n{table}\n\n"
        f"  restarts delivered  {view['restarts']}\n"
        f"  best RMSD           {rmsd(view)}\n\n"
        f"  {view['directory']}\n"
    )


def figures(summary: dict[str, Any]) -> list[str]:
    """What a run came to, in a few lines."""
    science, steering, simulation = summary["science"], summary["steering"], summary["simulation"]
    best, source = science["best_rmsd_angstrom"], science["best_rmsd_source"]
    latency, instant = steering["latency_ms"]["p50"], steering["instant_decisions"]
    ended = "Completed" if summary["completed"] else "NOT completed"
    reason = "; ".join(text for text in (summary["stop_reason"], summary["unfinished"]) if text)
    lines = [
        f"{ended} ({reason}) "
        f"after {clock(summary['wall_s'])}: {simulation['aggregate_ns']:.3f} ns in {simulation['segments']} segments "
        f"of {simulation['walkers']} walkers, {simulation['frames']} frames ({simulation['archived']} archived), "
        f"{simulation['ns_per_day']:.0f} ns/day"
        + (f", {simulation['failures']} failures" if simulation["failures"] else "")
        + (f", {len(simulation['lost_ranks'])} simulation ranks lost" if simulation["lost_ranks"] else ""),
        f"Steering {steering['strategy']}: {steering['decisions']} decisions"
        + (f" ({instant} by pca, before the first model version)" if instant else "")
        + f", {steering['delivered']} delivered, "
        f"{steering['stale']} stale"
        + (f", median latency {latency:.0f} ms" if latency is not None else "")
        + f"; {summary['training']['versions']} model versions",
    ]
    if best is not None:
        where = f"frame {source['frame']} of {source['trajectory']}"
        lines.append(f"Best RMSD {best:.2f} Å to {science['target']}: {where}")
    return lines


def epilogue(summary: dict[str, Any], directory: Path) -> str:
    """The last words of a run."""
    lines = [*figures(summary), *(text for text in (*summary["note"].split("; "), summary["warning"]) if text)]
    paths = ("summary.json", "decisions.jsonl", "trajectories/", "topology/", "frames/", "segments/", "models/")
    lines += [
        "",
        f"Written to {directory}:",
        "  " + "  ".join(p for p in paths if (directory / p).exists()),
        f"Next: ddmd-mpi report {directory}",
        "",
    ]
    return "\n".join(lines)


def preparing(view: dict[str, Any]) -> str:
    """What is made ready before it can move; empty for nothing."""
    names = ", ".join(view["prepares"][:MAX_NAMES]) + (", ..." if len(view["prepares"]) > MAX_NAMES else "")
    return f"preparing {view['preparing']} of {view['walkers']} walkers ({names})" if view["preparing"] else ""


def dropped(view: dict[str, Any]) -> str:
    """Blocks that full queues have dropped, and what is left of their frames."""
    return f"{view['dropped']} blocks dropped, {view['archived']} frames archived"


def doing(activities: dict[str, int]) -> str:
    """What the ranks of a role do at the moment."""
    if len(activities) == 1:
        return next(iter(activities))
    return ", ".join(f"{count} {name}" for name, count in activities.items())


def rmsd(view: dict[str, Any]) -> str:
    """The best RMSD and its walker."""
    best = view["best_rmsd_angstrom"]
    return "-" if best is None else f"{best:.2f} Å to {view['target']} (walker {view['best_walker']})"


def remaining(view: dict[str, Any]) -> str:
    """The time that is left, if there is a limit, of a run that has not ended."""
    if view["done"]:
        return "ended"
    return f"{clock(view['left_s'])} left" if view["duration_s"] < YEAR else "no time limit"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
