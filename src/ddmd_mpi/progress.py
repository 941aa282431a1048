"""What a person sees of a run: one screen that is redrawn, or a line now and then."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

LINES_SECONDS = 10.0
BAR = 30
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
        f"model v{view['version']}  {view['restarts']} restarts  best RMSD {rmsd(view)}  "
        f"{remaining(view)}"
    )


def screen(view: dict[str, Any]) -> str:
    """A view as one screen: a row per role."""
    spent = 1 - view["left_s"] / view["duration_s"]
    filled = round(BAR * min(1.0, max(0.0, spent)))
    rows = [
        ("simulation", f"{view['walkers']} walkers, {view['frames']} frames, {view['ns']:.3f} ns, "
                       f"{view['segments']} segments" + (f", {view['failures']} failures" if view["failures"] else "")),
        ("aggregation", f"{view['received']} frames in {view['blocks']} blocks"
                        + (f", {view['silent']} silent" if view["silent"] else "")
                        + (f", {view['dropped']} dropped" if view["dropped"] else "")),
        ("training", f"model v{view['version']}, {view['training_rounds']} rounds"
                     + (f" by {view['data_parallel']}" if view["data_parallel"] != "none" else "")
                     + (f", loss {view['loss']:.4g}" if view["version"] and view["loss"] is not None else "")),
        ("inference", f"{view['inference_rounds']} rounds, window {view['window']}, {view['outliers']} outliers, "
                      f"{view['decisions']} decisions"),
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
    latency = steering["latency_ms"]["p50"]
    ended = "Completed" if summary["completed"] else "NOT completed"
    lines = [
        f"{ended} ({summary['stop_reason']}) "
        f"after {clock(summary['wall_s'])}: {simulation['aggregate_ns']:.3f} ns in {simulation['segments']} segments "
        f"of {simulation['walkers']} walkers, {simulation['ns_per_day']:.0f} ns/day"
        + (f", {simulation['failures']} failures" if simulation["failures"] else "")
        + (f", {len(simulation['lost_ranks'])} simulation ranks lost" if simulation["lost_ranks"] else ""),
        f"Steering {steering['strategy']}: {steering['decisions']} decisions, {steering['delivered']} delivered, "
        f"{steering['stale']} stale" + (f", median latency {latency:.0f} ms" if latency is not None else "")
        + f"; {summary['training']['versions']} model versions",
    ]
    if best is not None:
        where = f"frame {source['frame']} of {source['trajectory']}"
        lines.append(f"Best RMSD {best:.2f} Å to {science['target']}: {where}")
    return lines


def epilogue(summary: dict[str, Any], directory: Path) -> str:
    """The last words of a run."""
    lines = [*figures(summary), *(text for text in (summary["note"], summary["warning"]) if text)]
    paths = ("summary.json", "decisions.jsonl", "trajectories/", "topology/", "frames/", "segments/", "models/")
    lines += ["", f"Written to {directory}:", "  " + "  ".join(p for p in paths if (directory / p).exists()),
              f"Next: ddmd-mpi report {directory}", ""]
    return "\n".join(lines)


def doing(activities: dict[str, int]) -> str:
    """What the ranks of a role do at the moment."""
    if len(activities) == 1:
        return next(iter(activities))
    return ", ".join(f"{count} {name}" for name, count in activities.items())


def rmsd(view: dict[str, Any]) -> str:
    """The best RMSD and its walker."""
    best = view["best_rmsd_angstrom"]
    return "-" if best is None else f"{best:.2f} Å to {view['target']} (walker {view['best_simulation']})"


def remaining(view: dict[str, Any]) -> str:
    """The time that is left, where there is a limit, of a run that has not ended."""
    if view["done"]:
        return "ended"
    return f"{clock(view['left_s'])} left" if view["duration_s"] < YEAR else "no time limit"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
