"""A walker whose engine gives many reports at once, and the block that reports of several such walkers become."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from ..errors import EngineError
from ..frames.block import FrameBlock
from ..md.prepared import Reports
from .restart_points import State
from .segment_log import Origin, beginning
from .walker import Walker


class Features(Protocol):
    """What it needs of the features' calculator: a :class:`.features.FeatureTable`."""

    def learn(
        self, frames: np.ndarray, positions_nm: np.ndarray, descriptor: np.ndarray, box_nm: np.ndarray
    ) -> None: ...
    def columns(self, frames: np.ndarray, *names: str) -> dict[str, np.ndarray]: ...


class ManyReports(Protocol):
    """What it needs of its engine."""

    def reports(self, n_reports: int) -> Reports:
        """Move to each of the next reports."""

    def number(self, positions: np.ndarray) -> int | None:
        """Which frame of its collection these positions are, None for none of them."""


@dataclass(frozen=True)
class Batch:
    """Consecutive reports of a walker, on record.

    Parameters
    ----------
    first
        Index of the first frame in the trajectory.
    segments, decisions
        The segment of each frame, and the restart decision that it came from, -1 for none; shape (n_reports,).
    times
        Simulated time of the walker at each, ps.
    features
        Knows those of the frames.
    """

    walker: int
    topology: int
    first: int
    segments: np.ndarray
    decisions: np.ndarray
    times: np.ndarray
    reports: Reports
    features: Features

    def __len__(self) -> int:
        return len(self.times)


class BatchedWalker(Walker):
    """One walker on an engine that draws its frames: see :class:`.emulated.engine.EmulatedEngine`."""

    def reports(self, most: int) -> Batch | None:
        """Advance by `most` reports, or to the walker's length; None if it has that.

        Raises
        ------
        EngineError
            If a frame has no features.
        DiskError
            If the disk refuses the frames; the walker is then where its files say.
        """
        n_reports = min(most, self._reports_left())
        if not n_reports:
            return None
        self._open()
        clock = time.perf_counter()
        self._on_record = False
        reports = cast("ManyReports", self.engine).reports(n_reports)
        moved = time.perf_counter()
        self._count(n_reports, moved - clock)
        features = self._learn(reports.frames, reports.positions, reports.box)
        learnt = time.perf_counter()
        batch = self._record(reports, features)
        self._on_record = True
        self._events.add("features", learnt - moved)
        self._events.add("trajectory", time.perf_counter() - learnt)
        return batch

    def _reports_left(self) -> int:
        """Reports until the walker has its length, rounded up as they come one by one."""
        length_ns, interval_ps = self._settings.walker_length_ns, self._settings.report_interval_ps
        if length_ns is None:
            return np.iinfo(np.int64).max
        left = math.ceil((length_ns * 1000 - self.ps) / interval_ps - 1e-6)
        return max(left, int(self.active))

    def _count(self, n_reports: int, seconds: float) -> None:
        """Count the steps of so many reports, of which some may be done."""
        propagator = self.propagator
        steps = n_reports * propagator.steps_per_report - propagator.ahead
        propagator.ahead = 0
        propagator.rate = steps / seconds
        propagator.count(steps, seconds)

    def _features(self, positions: np.ndarray, box: np.ndarray) -> Mapping[str, Any]:
        number = cast("ManyReports", self.engine).number(positions)
        if number is None:
            return super()._features(positions, box)
        frames = np.array([number])
        columns = self._learn(frames, positions[None], box).columns(frames)
        return {name: column if name == "contact_columns" else column[0] for name, column in columns.items()}

    def _learn(self, frames: np.ndarray, positions: np.ndarray, box: np.ndarray) -> Features:
        features = cast("Features", self.slot.features)
        try:
            features.learn(frames, positions, self.slot.topology.structures.descriptor, box)
        except ValueError as error:
            raise EngineError(f"a frame has no features: {error}") from error
        return features

    def _record(self, reports: Reports, features: Features) -> Batch:
        """Write the frames, with the segments that end and start on the way, and note them."""
        n_reports, log, first = len(reports.frames), self.segments, self.trajectory.n_frames
        times = self.ps + self._settings.report_interval_ps * np.arange(1, n_reports + 1)
        place = log.reports + np.arange(n_reports)
        segments = log.number + place // self._settings.reports_per_segment
        decisions = np.where(segments == log.number, log.decision, -1)
        begun = [
            self._follower(int(segments[i]), first + i, float(times[i - 1]))
            for i in (np.flatnonzero(np.diff(segments)) + 1).tolist()
        ]
        known = features.columns(reports.frames, "rmsd", "order_parameters")
        self.trajectory.append_all(
            reports.positions,
            times,
            segments,
            known["rmsd"],
            reports.potential_energy,
            known["order_parameters"],
            reports.box,
            begun,
        )
        for _, _, how in begun:
            log.follow(how, self.propagator.seconds)
        log.reports = int(place[-1] % self._settings.reports_per_segment) + 1
        origin = Origin(self.index, log.number, first + n_reports - 1)
        self.points.frame(origin, State(reports.positions[-1], reports.velocities[-1], reports.box))
        self.points.confirm()
        self.frames += n_reports
        self.ps = float(times[-1])
        return Batch(self.index, self.topology, first, segments, decisions, times, reports, features)

    def _follower(self, segment: int, frame: int, time_ps: float) -> tuple[int, int, dict[str, Any]]:
        """A segment that continues the one before: its number, its first frame, and how it starts."""
        origin = Origin(self.index, segment - 1, frame - 1)
        return segment, frame, beginning(origin, -1, False, time_ps, self.slot.topology.name)


def newest_row(batch: Batch) -> dict[str, object]:
    """The last report, for who watches: some columns of the table of frames."""
    reports = batch.reports
    return {
        "walker": batch.walker,
        "time": float(batch.times[-1]),
        "positions": reports.positions[-1],
        "velocities": reports.velocities[-1],
        "box": reports.box,
        "potential_energy": float(reports.potential_energy[-1]),
    }


def blocks_of(batches: Sequence[Batch]) -> list[FrameBlock]:
    """The frames of batches: a block for each topology."""
    topologies = dict.fromkeys(batch.topology for batch in batches)
    return [_block([batch for batch in batches if batch.topology == topology]) for topology in topologies]


def _block(batches: Sequence[Batch]) -> FrameBlock:
    """The frames of batches of one topology."""
    lengths, reports = [len(batch) for batch in batches], [batch.reports for batch in batches]
    before = np.cumsum([0, *lengths[:-1]])
    walker, topology, first = np.repeat(np.array([(b.walker, b.topology, b.first) for b in batches]).T, lengths, axis=1)
    return FrameBlock(
        {
            "walker": walker.astype(np.int32),
            "segment": np.concatenate([batch.segments for batch in batches]).astype(np.int32),
            "frame": first + np.arange(sum(lengths)) - np.repeat(before, lengths),
            "topology": topology.astype(np.int32),
            "decision": np.concatenate([batch.decisions for batch in batches]),
            "time": np.concatenate([batch.times for batch in batches]),
            "potential_energy": np.concatenate([r.potential_energy for r in reports]),
            **batches[0].features.columns(np.concatenate([r.frames for r in reports])),
            "positions": np.concatenate([r.positions for r in reports]),
            "velocities": np.concatenate([r.velocities for r in reports]),
            "box": np.repeat(np.stack([r.box for r in reports]), lengths, axis=0),
        }
    )
