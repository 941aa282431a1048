"""Lineage: the parent of every segment, rebuilt from the files of a run directory alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .records import Record, table


class Source(NamedTuple):
    """One frame of one walker's trajectory."""

    walker: int
    segment: int
    frame: int


@dataclass(frozen=True)
class Segment:
    """One segment of a walker and where it came from.

    Parameters
    ----------
    walker, segment
        Index of the walker, and of the segment of this walker.
    first_frame, n_frames
        The segment's frames in the walker's trajectory file; with a restart point, the first repeats the source.
    decision
        Id of the restart decision that started it, None if the walker continued by itself.
    parent
        The frame that the segment started from; None for the start structure.
    restart_point
        Whether the first frame in the trajectory is the parent's, written again.
    time_ps
        Simulated time of the walker when it started; NaN while no frame tells.
    start
        Unix time of its start, s.
    topology
        Name of its topology.
    """

    walker: int
    segment: int
    first_frame: int
    n_frames: int
    decision: int | None
    parent: Source | None
    restart_point: bool
    velocity_seed: int | None
    time_ps: float
    start: float
    topology: str | None = None

    @property
    def restarted(self) -> bool:
        """Whether a decision started this segment."""
        return self.decision is not None


def segments_of(lines: list[Record], decisions: list[Record], frames: np.ndarray) -> list[Segment]:
    """Every segment with its parent, by walker and segment.

    The parent of a restarted segment is the source in ``trajectories/*.segments.jsonl``, or, where that line
    lacks it, in ``decisions.jsonl``; of any other, the last frame of the walker's segment before it.
    """
    by_number = {d["decision"]: d for d in decisions}
    last, times = _frames_of_walkers(lines, frames)
    lineage: list[Segment] = []
    for line, following in zip(lines, [*lines[1:], {}], strict=False):
        before = lineage[-1] if lineage and lineage[-1].walker == line["walker"] else None
        same = following.get("walker") == line["walker"]
        first = _index(line.get("first_frame")) or 0
        stop = _index(following.get("first_frame")) if same else last.get(line["walker"], first - 1) + 1
        time = times.get((line["walker"], first if line.get("restart_point") else first - 1), float("nan"))
        lineage.append(_segment(line, before, by_number, range(first, max(first, stop or first)), time))
    return lineage


def _frames_of_walkers(lines: list[Record], frames: np.ndarray) -> tuple[dict[int, int], dict[tuple[int, int], float]]:
    """Every walker's last frame, and the simulated time, ps, of the frames around the start of its segments."""
    begins = [f - back for s in lines if (f := _index(s.get("first_frame"))) is not None for back in (0, 1)]
    near = frames[np.isin(frames["frame"], begins)]
    columns = (near[name].tolist() for name in ("walker", "frame", "time_ps"))
    times = {(walker, frame): time for walker, frame, time in zip(*columns, strict=True)}
    last = np.flatnonzero(np.diff(frames["walker"], append=-1))
    return dict(zip(frames["walker"][last].tolist(), frames["frame"][last].tolist(), strict=True)), times


def _segment(line: Record, before: Segment | None, decisions: dict, frames: range, time_ps: float) -> Segment:
    decision = _index(line.get("decision"))
    parent = _source(line, "source_")
    if parent is None and decision is not None:
        parent = _source(table(table(decisions.get(decision)).get("source")), "")
    if parent is None and before is not None and before.n_frames:
        parent = Source(before.walker, before.segment, frames.start - 1)
    return Segment(
        walker=line["walker"],
        segment=line["segment"],
        first_frame=frames.start,
        n_frames=len(frames),
        decision=decision,
        parent=parent,
        restart_point=bool(line.get("restart_point")),
        velocity_seed=_index(line.get("velocity_seed")),
        time_ps=time_ps,
        start=float(line.get("start") or "nan"),
        topology=line.get("topology"),
    )


def ancestry(segments: list[Segment], walker: int, frame: int) -> list[Source]:
    """The frames that lead to this one: the last frame of each segment on its way, oldest first, itself last."""
    by_name = {(s.walker, s.segment): s for s in segments}
    own = [s for s in segments if s.walker == walker and s.first_frame <= frame]
    path: list[Source] = []
    here = Source(walker, own[-1].segment, frame) if own else None
    while here is not None and here not in path:
        path.append(here)
        segment = by_name.get((here.walker, here.segment))
        here = segment.parent if segment else None
    return path[::-1]


def founders(segments: list[Segment]) -> dict[tuple[int, int], int]:
    """The walker from whose start structure each segment descends, by walker and segment."""
    by_name = {(s.walker, s.segment): s for s in segments}
    found: dict[tuple[int, int], int] = {}
    for name in by_name:
        path: dict[tuple[int, int], None] = {}  # in order
        while name in by_name and name not in found and name not in path:
            path[name] = None
            parent = by_name[name].parent
            if parent is None:
                break
            name = (parent.walker, parent.segment)
        found |= dict.fromkeys(path, found.get(name, name[0]))
    return found


def contradictions(segments: list[Segment], decisions: list[Record]) -> list[str]:
    """Sentences about segments and decisions that do not fit each other.

    A decision is written when its walker has answered, so the newest one of each walker may be missing.
    """
    by_name = {(s.walker, s.segment): s for s in segments}
    by_decision = {d["decision"]: d for d in decisions}
    found = [sentence for s in segments for sentence in _contradictions(s, by_name, by_decision)]
    found += [f"{_name(s)} is its own ancestor" for s in _circles(by_name)]
    newest = {s.walker: s.decision for s in segments if s.restarted}
    unknown = [s for s in segments if s.restarted and s.decision not in by_decision]
    for s in unknown:
        if s.decision != newest[s.walker]:
            found.append(f"{_name(s)} names decision {s.decision}, which decisions.jsonl lacks")
    begun = {s.decision for s in segments}
    for identity, decision in by_decision.items():
        if decision.get("outcome") == "applied" and identity not in begun:
            found.append(f"decision {identity} was applied, but no segment names it")
    return found


def _contradictions(segment: Segment, by_name: dict, by_decision: dict) -> list[str]:
    name, found = _name(segment), []
    if segment.segment > 0 and (segment.walker, segment.segment - 1) not in by_name:
        found.append(f"{name} has no segment {segment.segment - 1} before it")
    if segment.parent is not None:
        source = by_name.get((segment.parent.walker, segment.parent.segment))
        frames = range(source.first_frame, source.first_frame + source.n_frames) if source else range(0)
        if segment.parent.frame not in frames:
            where = f"frame {segment.parent.frame} of walker {segment.parent.walker}"
            found.append(f"{name} comes from {where}, which segment {segment.parent.segment} there does not hold")
    if segment.decision in by_decision:
        found += _disagreement(name, segment, by_decision[segment.decision])
    return found


def _circles(by_name: dict) -> list[Segment]:
    """One segment of every circle of parents; clocks, which may differ and be set, do not tell what came first."""
    settled: set = set()
    circles = []
    for name in by_name:
        path: dict = {}  # in order
        while name in by_name and name not in settled and name not in path:
            path[name] = None
            parent = by_name[name].parent
            name = (parent.walker, parent.segment) if parent else None
        if name in path:
            circles.append(by_name[name])
        settled |= path.keys()
    return circles


def _name(segment: Segment) -> str:
    return f"segment {segment.segment} of walker {segment.walker}"


def _disagreement(name: str, segment: Segment, decision: Record) -> list[str]:
    begun = (decision.get("walker"), _index(decision.get("segment")))
    if begun not in ((segment.walker, segment.segment), (segment.walker, None)):
        return [f"{name} names decision {segment.decision}, which started segment {begun[1]} of walker {begun[0]}"]
    source = _source(table(decision.get("source")), "")
    if source is not None and source != segment.parent:
        return [f"{name} comes from {tuple(segment.parent or ())}, its decision names {tuple(source)}"]
    return []


def _source(record: Record, prefix: str) -> Source | None:
    values = (_index(record.get(prefix + key)) for key in Source._fields)
    known = [value for value in values if value is not None]
    return Source(*known) if len(known) == len(Source._fields) else None


def _index(value: object) -> int | None:
    """The value if it is a number counted from 0; the files write -1 or null for none."""
    return value if isinstance(value, int) and value >= 0 else None
