"""What ``ddmd-mpi lineage`` prints and writes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..analysis import Run, open_run
from ..analysis.routes import Arrival, Route, arrivals, route_to
from ..analysis.stitch import MAX_JOIN_ANGSTROM, route_table, stitch, write_table
from ..errors import DDMDError, InputError

#: Routes that are written of all independent arrivals.
MAX_ROUTES = 100


@dataclass(frozen=True)
class Wanted:
    """Which frames, and what to write of their routes; see the options of the command."""

    frame: str | None
    reached: float | None
    output: Path | None
    suffix: str
    superpose: bool
    solute: bool


def trace(directory: Path, wanted: Wanted) -> list[str]:
    """Write the routes to the wanted frames; the lines to print.

    Raises
    ------
    InputError
        If there is no such frame.
    RunDirectoryError
        If `directory` is not a run directory.
    """
    run = open_run(directory)
    output = wanted.output or run.directory / "lineage"
    lines: list[str] = []
    if wanted.reached is not None:
        found = arrivals(run, wanted.reached)
        write_table(output / "arrivals.csv", [_row(arrival) for arrival in found])
        lines += [_arrivals(run, found, wanted.reached), f"Written: {output / 'arrivals.csv'}"]
        ends = [(a.source.walker, a.source.frame) for a in found if a.independent][:MAX_ROUTES]
    else:
        ends = [_named(run, wanted.frame) if wanted.frame else _best(run)]
    for walker, frame in ends:
        lines += ["", *_traced(run, walker, frame, output, wanted)]
    lines += ["", *_tree(run, output, ends[0] if ends else None)]
    doubts = run.contradictions()
    return [*lines, *(f"The records contradict each other: {doubt}." for doubt in doubts[:3])]


def _named(run: Run, text: str) -> tuple[int, int]:
    """Walker and frame of WALKER:SEGMENT:FRAME."""
    if not re.fullmatch(r"\d{1,9}:\d{1,9}:\d{1,12}", text):
        raise InputError(f"--frame takes WALKER:SEGMENT:FRAME, such as 7:3:120 (got {text})")
    walker, segment, frame = map(int, text.split(":"))
    row = run.row(walker, frame)
    if row is not None and run.frames["segment"][row] != segment:
        raise InputError(f"frame {frame} of walker {walker} is in segment {run.frames['segment'][row]}, not {segment}")
    return walker, frame


def _best(run: Run) -> tuple[int, int]:
    """Walker and frame of the frame with the lowest RMSD."""
    if run.best is None:
        none = "has no frames yet" if not len(run.frames) else "has no frame with an RMSD: name one with --frame"
        raise InputError(f"{run.directory} {none}")
    best = run.frames[run.best]
    return int(best["walker"]), int(best["frame"])


def _row(arrival: Arrival) -> dict[str, object]:
    return {
        "walker": arrival.source.walker,
        "segment": arrival.source.segment,
        "frame": arrival.source.frame,
        "rmsd_angstrom": arrival.rmsd,
        "route_ps": arrival.time_ps,
        "founder_walker": arrival.founder[0],
        "founder_segment": arrival.founder[1],
        "independent": int(arrival.independent),
    }


def _arrivals(run: Run, found: list[Arrival], limit: float) -> str:
    """One sentence on all arrivals."""
    if not found:
        rmsd = run.frames["rmsd_angstrom"]
        lowest = "no frame has an RMSD" if run.best is None else f"the lowest RMSD is {rmsd[run.best]:.2f} Å"
        return f"No frame is within {limit:g} Å of the target: {lowest}."
    n, n_independent = len(found), sum(arrival.independent for arrival in found)
    if n == 1:
        return f"1 route arrived within {limit:g} Å of the target."
    return (
        f"{n} routes arrived within {limit:g} Å of the target, {n_independent} of them from "
        "starts of their own; the others share frames with one of these, and are not independent."
    )


def _traced(run: Run, walker: int, frame: int, output: Path, wanted: Wanted) -> list[str]:
    """Print one route and write its trajectory and table."""
    route = route_to(run, walker, frame)
    stem = output / f"walker-{walker:04d}-frame-{frame:06d}"
    lines = _described(run, route)
    table = stem.with_suffix(".csv")
    write_table(table, route_table(run, route))
    try:
        written = stitch(
            run, route, stem, suffix=wanted.suffix, superpose=wanted.superpose, solute=wanted.solute
        )  # fmt: skip
    except DDMDError as error:
        return [*lines, f"Written: {table}", f"There is no trajectory: {error}."]
    joins = f"{written.n_joins} restart point{'s differ' if written.n_joins != 1 else ' differs'} from the source"
    lines.append(f"Written: {written.trajectory}, {written.topology.name}, {table.name}")
    if written.worst_join > MAX_JOIN_ANGSTROM:
        return [*lines, f"The trajectory is not continuous: {joins} by up to {written.worst_join:.2f} Å."]
    return [*lines, f"Joins: {joins} by {written.worst_join:.3f} Å at most."] if written.n_joins else lines


def _described(run: Run, route: Route) -> list[str]:
    """The route in words: one line per stretch."""
    end, n = run.frames[route.rows[-1]], len(route.restarts)
    decisions = {d["decision"]: d for d in run.decisions}
    lines = [
        f"Frame {end['frame']} of walker {end['walker']} ({end['rmsd_angstrom']:.2f} Å): {len(route.rows)} frames, "
        f"{route.time_ps[-1]:g} ps and {n} restart{'' if n == 1 else 's'} from "
        f"{'the start structure' if route.complete else 'the first frame that the records still have'}"
    ]
    at = 0
    for piece in route.pieces:
        segment, n_rows = piece.segment, len(piece.rows)
        if segment.restarted:
            made = decisions.get(segment.decision or 0, {})
            why = ", ".join(str(made[key]) for key in ("strategy", "model") if made.get(key))
            lines.append(f"  decision {segment.decision}{f' ({why})' if why else ''}: restart walker {segment.walker}")
        if n_rows:
            rmsd = run.frames["rmsd_angstrom"][piece.rows]
            first, last = run.frames["frame"][piece.rows[[0, -1]]]
            lines.append(
                f"  walker {segment.walker:4d}  segment {segment.segment:4d}  frames {first} to {last}  "
                f"{route.time_ps[at]:10.6g} to {route.time_ps[at + n_rows - 1]:.6g} ps  "
                f"{rmsd[0]:6.2f} to {rmsd[-1]:.2f} Å"
            )
        at += n_rows
    return lines


def _tree(run: Run, output: Path, end: tuple[int, int] | None) -> list[str]:
    """Draw the tree of the entire run."""
    from ..report import CURE, lacking

    if "matplotlib" in lacking():
        return [f"There is no tree, which needs matplotlib: {CURE}"]
    from ..report.science import lineage_tree

    path = output / "tree.svg"
    try:
        drawn = lineage_tree(run, run.segments, path, end=end, most=len(run.frames))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    return [f"Written: {path}"] if drawn else ["There is no tree: the run has no frames with wall times and RMSD."]
