"""A walker whose engine gives many reports at once, which become a block of frames at once."""

from __future__ import annotations

import math
import time
from typing import Protocol, cast

import numpy as np

from ..errors import EngineError
from ..frames.block import FrameBlock
from ..md.prepared import Reports
from .restart_points import State
from .segment_log import Origin
from .walker import Walker


class ManyReports(Protocol):
    """What it needs of its engine."""

    def reports(self, n_reports: int) -> Reports:
        """Move to each of the next reports."""


class BatchedWalker(Walker):
    """One walker on an engine that draws its frames: see :class:`.emulated.engine.EmulatedEngine`."""

    def reports(self, most: int) -> list[FrameBlock]:
        """Advance by `most` reports, or to the walker's length; their frames, a block for each segment.

        Raises
        ------
        EngineError
            If a frame has no features.
        DiskError
            If the disk refuses the frames; the walker is then where its files say.
        """
        blocks = []
        left = min(most, self._reports_left())
        while left:
            self._open()
            n = min(left, self.segments.reports_left)
            blocks.append(self._advance(n))
            left -= n
        return blocks

    def _reports_left(self) -> int:
        """Reports until the walker has its length, rounded up as they come one by one."""
        length_ns, interval_ps = self._settings.walker_length_ns, self._settings.report_interval_ps
        if length_ns is None:
            return np.iinfo(np.int64).max
        return max(0, math.ceil((length_ns * 1000 - self.ps) / interval_ps - 1e-6))

    def _advance(self, n_reports: int) -> FrameBlock:
        """Reports of the present segment as a block."""
        clock = time.perf_counter()
        self._on_record = False
        reports = cast("ManyReports", self.engine).reports(n_reports)
        moved = time.perf_counter()
        steps = n_reports * self.propagator.steps_per_report - self.propagator.ahead
        self.propagator.ahead = 0
        self.propagator.rate = steps / (moved - clock)
        self.propagator.count(steps, moved - clock)
        features = self._features_of(reports)
        computed = time.perf_counter()
        times = self.ps + self._settings.report_interval_ps * np.arange(1, n_reports + 1)
        first = self.trajectory.append_all(
            reports.positions,
            times,
            self.segments.number,
            features["rmsd"],
            reports.potential_energy,
            features["order_parameters"],
            reports.box,
        )
        self._on_record = True
        self._events.add("features", computed - moved)
        self._events.add("trajectory", time.perf_counter() - computed)
        self._note(first + n_reports - 1, n_reports, times, reports)
        return FrameBlock({**self._columns(first, n_reports), **features, "time": times, **self._coordinates(reports)})

    def _note(self, frame: int, n_reports: int, times: np.ndarray, reports: Reports) -> None:
        """Note that the walker is at the last of these reports, whose frame has this index."""
        origin = Origin(self.index, self.segments.number, frame)
        self.points.frame(origin, State(reports.positions[-1], reports.velocities[-1], reports.box))
        self.points.confirm()
        self.segments.reports += n_reports
        self.frames += n_reports
        self.ps = float(times[-1])

    def _columns(self, first: int, n_reports: int) -> dict[str, np.ndarray]:
        """Who the frames are."""
        return {
            "walker": np.full(n_reports, self.index, np.int32),
            "segment": np.full(n_reports, self.segments.number, np.int32),
            "frame": np.arange(first, first + n_reports),
            "topology": np.full(n_reports, self.topology, np.int32),
            "decision": np.full(n_reports, self.segments.decision),
        }

    def _coordinates(self, reports: Reports) -> dict[str, np.ndarray]:
        return {
            "potential_energy": reports.potential_energy,
            "positions": reports.positions,
            "velocities": reports.velocities,
            "box": np.broadcast_to(reports.box, (len(reports.positions), 3, 3)),
        }

    def _features_of(self, reports: Reports) -> dict[str, np.ndarray]:
        try:
            descriptor = reports.positions[:, self.slot.topology.structures.descriptor]
            return self.slot.features.compute_all(descriptor, reports.box, reports.positions)
        except ValueError as error:
            raise EngineError(f"a frame has no features: {error}") from error
