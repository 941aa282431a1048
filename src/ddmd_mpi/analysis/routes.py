"""The route to a frame: the frames that lead from the start structure to it, across all restarts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .lineage import Segment, Source
from .run import Run

Name = tuple[int, int]


class Piece(NamedTuple):
    """What a route takes of one segment."""

    segment: Segment
    rows: np.ndarray  # of Run.frames, without a restart point that repeats the frame before


@dataclass(frozen=True)
class Route:
    """Frames from a start to an end.

    Parameters
    ----------
    pieces
        Oldest first.
    rows
        Rows of :attr:`.Run.frames`, shape (n_frames,).
    time_ps
        Simulated time from the start along the route, ps, shape (n_frames,).
    complete
        Whether it starts at a start structure; else the records of what was before are missing.
    """

    pieces: list[Piece]
    rows: np.ndarray
    time_ps: np.ndarray
    complete: bool

    @property
    def restarts(self) -> list[Segment]:
        """The segments of the route that a decision started, oldest first."""
        return [piece.segment for piece in self.pieces if piece.segment.restarted]


class Arrival(NamedTuple):
    """The first frame within a limit of the target along its route."""

    source: Source
    rmsd: float  # angstrom
    time_ps: float  # along the route
    founder: Name  # the segment that its route starts with
    independent: bool  # the first arrival of its founder: no earlier one shares a frame with it


def route_to(run: Run, walker: int, frame: int) -> Route:
    """The route to a frame of a walker.

    Raises
    ------
    InputError
        If there is no such frame, or no segment holds it.
    """
    if run.row(walker, frame) is None:
        mine = run.frames["frame"][run.frames["walker"] == walker]
        known = f"walker {walker} has frames 0 to {mine.max()}" if len(mine) else f"there is no walker {walker}"
        raise InputError(f"{run.directory} has no frame {frame} of walker {walker}: {known}")
    by_name = {(s.walker, s.segment): s for s in run.segments}
    steps = run.ancestry(walker, frame)
    if not steps or (steps[-1].walker, steps[-1].segment) not in by_name:
        raise InputError(f"{run.directory} has no record of the segment of frame {frame} of walker {walker}")
    pieces: list[Piece] = []
    for step in reversed(steps):
        segment = by_name.get((step.walker, step.segment))
        rows = _rows(run, segment, step.frame) if segment else None
        if segment is None or rows is None:
            break
        pieces.insert(0, Piece(segment, rows))
    if not any(len(piece.rows) for piece in pieces):  # a restart point whose source is missing
        pieces = [Piece(by_name[steps[-1].walker, steps[-1].segment], np.array([run.row(walker, frame)]))]
    complete = len(pieces) == len(steps) and pieces[0].segment.parent is None
    return Route(pieces, np.concatenate([p.rows for p in pieces]), _times(run, pieces), complete)


def _rows(run: Run, segment: Segment, last: int) -> np.ndarray | None:
    """Rows of the frames of a segment until `last`; None if one is missing."""
    first = segment.first_frame + (segment.restart_point and segment.parent is not None)
    end = run.row(segment.walker, last)
    if end is None or run.frames["frame"][end - max(0, last - first)] != first + min(0, last - first):
        return None
    return np.arange(end - (last - first), end + 1)


def _times(run: Run, pieces: list[Piece]) -> np.ndarray:
    """Time of every frame from the start of the pieces on, ps."""
    times, before = [np.empty(0)], 0.0
    for piece in pieces:
        own = run.frames["time_ps"][piece.rows]
        if len(own):
            start = piece.segment.time_ps if np.isfinite(piece.segment.time_ps) else own[0]
            times.append(before + own - start)
            before = float(times[-1][-1])
    return np.concatenate(times)


def arrivals(run: Run, limit: float) -> list[Arrival]:
    """Every first arrival within `limit` (angstrom) of the target, the quickest first.

    A frame arrives if it is that near and no frame before it on its route is. Routes of the same founder share frames,
    so that only one arrival of each founder is independent.
    """
    hits = _first_hits(run, limit)
    by_name = {(s.walker, s.segment): s for s in run.segments}
    begun: dict[Name, float] = {}
    founder: dict[Name, Name] = {}
    reached: set[Name] = set()  # segments that start after an arrival
    found: list[tuple[float, Source, Name]] = []
    for segment in oldest_first(run.segments):
        name, parent = (segment.walker, segment.segment), segment.parent
        above = (parent.walker, parent.segment) if parent else None
        founder[name], begun[name] = name, 0.0
        if parent is not None and above in founder:
            founder[name] = founder[above]
            begun[name] = begun[above] + _elapsed(run, by_name[above], parent.frame)
            if above in reached or hits.get(above, np.inf) <= parent.frame:
                reached.add(name)
        if name in hits and name not in reached:
            time_ps = begun[name] + _elapsed(run, segment, hits[name])
            found.append((time_ps, Source(*name, hits[name]), founder[name]))
    listed: list[Arrival] = []
    for time_ps, source, root in sorted(found, key=lambda f: (np.nan_to_num(f[0], nan=np.inf), f[1])):
        independent = root not in {arrival.founder for arrival in listed}
        rmsd = float(run.frames["rmsd_angstrom"][run.row(source.walker, source.frame)])
        listed.append(Arrival(source, rmsd, time_ps, root, independent))
    return listed


def _first_hits(run: Run, limit: float) -> dict[Name, int]:
    """The first frame of each segment within the limit; restart points repeat frames of their parents."""
    starts = {(s.walker, s.first_frame) for s in run.segments if s.restart_point and s.parent is not None}
    hits: dict[Name, int] = {}
    near = run.frames[run.frames["rmsd_angstrom"] <= limit]
    for walker, segment, frame in zip(*(near[n].tolist() for n in ("walker", "segment", "frame")), strict=True):
        if (walker, frame) not in starts:
            hits.setdefault((walker, segment), frame)
    return hits


def _elapsed(run: Run, segment: Segment, frame: int) -> float:
    """Time from the start of a segment to one of its frames, ps; NaN if the records do not tell."""
    row = run.row(segment.walker, frame)
    return float("nan") if row is None else float(run.frames["time_ps"][row]) - segment.time_ps


def oldest_first(segments: list[Segment]) -> Iterator[Segment]:
    """The segments, parents before children; those whose parents form a circle are left out."""
    by_name = {(s.walker, s.segment): s for s in segments}
    children: dict[Name, list[Segment]] = {}
    front: list[Segment] = []
    for segment in segments:
        above = (segment.parent.walker, segment.parent.segment) if segment.parent else None
        if above in by_name:
            children.setdefault(above, []).append(segment)
        else:
            front.append(segment)
    while front:
        segment = front.pop()
        yield segment
        front += children.get((segment.walker, segment.segment), [])
