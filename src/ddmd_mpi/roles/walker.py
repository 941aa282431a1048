"""A walker: one replica of the system, advanced report by report, restarted where a command says.

Its trajectory is a chain of segments. A restarted segment starts with its restart point as first frame of the
trajectory; that frame is not streamed again, since its source already was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from ..config.schema import Config
from ..errors import CheckpointError, EngineError
from ..frames.command import Outcome, Receipt, RestartCommand
from ..md.engine_pool import EnginePool, segment_seed
from ..md.engines import Engine
from ..md.prepared import State as Report
from ..md.trajectory import Trajectory
from ..monitor.events import EventLog
from ..rundir.checkpoints import prefixed, under
from .propagator import Propagator
from .restart_points import Coordinates, RestartPoint, RestartPoints, State
from .segment_log import START, Origin, SegmentLog


class Walker:
    """One walker on its engine.

    Parameters
    ----------
    index
        The walker's number in the entire run.
    pool
        What its rank's walkers take their engines from.
    topology
        Index of the topology that it starts with.
    trajectory
        Its own trajectory, open for that topology.
    propagator
        Takes it from report to report.

    Attributes
    ----------
    ready
        False while a thread puts the engine on the start.
    retired
        Whether it has failed too often.
    frames, ps
        Reports, and picoseconds, of all sessions; `earlier_ps` of those before this one.
    """

    def __init__(
        self,
        index: int,
        pool: EnginePool,
        topology: int,
        trajectory: Trajectory,
        propagator: Propagator,
        config: Config,
        events: EventLog,
    ):
        self.index = index
        self.trajectory = trajectory
        self.propagator = propagator
        self.segments = SegmentLog(index, config.simulation, events)
        self.points = RestartPoints()
        self.slot = pool.take(topology, index)
        self.ready = True
        self.retired = False
        self.failures = 0
        self.frames = 0
        self.ps = 0.0
        self.earlier_ps = 0.0
        self._pool = pool
        self._settings = config.simulation
        self._seed = config.run.seed
        self._events = events
        # Seconds that the engine took for the start, once it is there.
        self._start_s: float | None = None
        # Whether the files know the segment that the engine is in.
        self._on_record = True

    @property
    def engine(self) -> Engine:
        """What moves it at present."""
        return self.slot.engine

    @property
    def topology(self) -> int:
        """Index of its present topology."""
        return self.slot.topology.index

    @property
    def active(self) -> bool:
        """Whether the walker can move: it is ready, not retired, and has not reached its length."""
        length_ns = self._settings.walker_length_ns
        return self.ready and not self.retired and (length_ns is None or self.ps < length_ns * 1000)

    @property
    def fresh(self) -> bool:
        """Whether it has not started its first segment."""
        return self.segments.number < 0 and not self.retired

    def prepare(self, stop: Callable[[], bool] | None = None) -> float:
        """Put the engine on the start; touches nothing else, so that a thread may do it. Returns the seconds it took.

        Raises
        ------
        EngineError
            If the engine fails.
        """
        clock = time.perf_counter()
        self.engine.start(segment_seed(self._seed, self.index, 0), stop)
        self._start_s = time.perf_counter() - clock
        return self._start_s

    def report(self, interrupted: Callable[[], bool]) -> dict[str, Any] | None:
        """Advance to the next report; its frame as one row of the frames' table, None when interrupted."""
        self._open()
        if not self.propagator.propagate(self.engine, self.segments.number, interrupted):
            return None
        clock = time.perf_counter()
        state = self.engine.state()
        self._events.add("state", time.perf_counter() - clock)
        # Until the frame is on record, a snapshot says that all steps to it are done.
        self.propagator.ahead = self._settings.steps_per_report
        row = self._row(state, self.ps + self._settings.report_interval_ps)
        self.propagator.ahead = 0
        self.segments.reports += 1
        self.frames += 1
        self.ps = row["time"]
        self.points.confirm()
        return row

    def restart(self, command: RestartCommand, coordinates: Coordinates) -> Receipt:
        """Leave the current segment and take the first step from the commanded frame."""
        received = time.time()
        state = State(*coordinates)
        seed = command.velocity_seed if command.velocity_seed >= 0 else None
        self._go_to(command.topology, state, seed, n_steps=1)
        stepped = time.time()
        self.propagator.ahead = 1
        self._end_segment("restart")
        source = Origin(command.source_walker, command.source_segment, command.source_frame, command.decision)
        self._begin_segment(source, command.velocity_seed, state)
        self.propagator.count(1, 0.0)
        return Receipt(command.decision, Outcome.APPLIED, self.segments.number, received, stepped)

    def close(self) -> None:
        """End a complete segment now, and not when the next one starts."""
        if self.segments.complete:
            self._end_segment("complete")

    def recover(self, error: EngineError) -> None:
        """End a failed segment; start one from the last good restart point, or from the start structure."""
        self.failures += 1
        self.propagator.ahead = 0
        self.retired = self.failures > self._settings.failures_per_walker
        seed, good = segment_seed(self._seed, self.index, self.segments.number + 1), self.points.good
        if not self.retired and good is None:
            self.engine.start(seed)
        elif not self.retired and good is not None:
            self._go_to(good.topology, State(good.positions, None, good.box), seed)
        self._end_segment("failure", error=str(error))
        self._events.flush()  # who looks for the reason of a killed run needs it
        if not self.retired and good is None:
            self._begin_segment(START, seed)
        elif not self.retired and good is not None:
            self._begin_segment(good.origin, seed, State(good.positions, None, good.box))

    def snapshot(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a later session needs to resume: values for JSON, and arrays; without the engine's if it has failed."""
        values, arrays = self.points.snapshot()
        values |= {
            "frames": self.trajectory.n_frames,
            "failures": self.failures,
            "retired": self.retired,
            "ahead": self.propagator.ahead,
            "topology": self.topology,
        }
        if self.points.state is not None and not self.retired and self._on_record:
            with suppress(EngineError):
                arrays |= prefixed("engine", self.engine.snapshot())
        self.trajectory.sync()
        return values, arrays

    def resume(self, values: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Continue after an earlier session, in a new segment of the topology that I have been made with.

        If the files hold frames that are younger than the snapshot, these stay, and the segment starts with its last
        frame as restart point.

        Raises
        ------
        CheckpointError
            If frames that the snapshot knows are missing.
        """
        history = self.trajectory.history
        if history.n_frames < values["frames"]:
            raise CheckpointError(
                f"{self.trajectory.path} has {history.n_frames} frames, but the checkpoint has "
                f"{values['frames']}: it was cut or replaced; restore the file, or start a new run"
            )
        self.failures = values["failures"]
        self.retired = self.failures > self._settings.failures_per_walker
        self.ps = self.earlier_ps = history.time_ps
        self.frames = history.n_frames - history.restart_points
        self.segments.resume(history.segment)
        state = self.points.resume(values, arrays)
        if self.segments.number < 0 or self.retired:
            return
        seed = segment_seed(self._seed, self.index, self.segments.number + 1)
        if state is None:
            self.engine.start(seed)
            self._begin_segment(START, seed)
        elif history.n_frames == values["frames"] and "engine/positions" in arrays:
            self.engine.restore(under("engine", arrays), seed)
            self._begin_segment(self.points.last, -1)
            self.propagator.ahead = values["ahead"]
            self.points.state = state
        else:
            self.engine.set_state(*state, seed=seed if state.velocities is None else None)
            velocity_seed = seed if state.velocities is None else -1
            self._begin_segment(self.points.last, velocity_seed, state)

    def end(self) -> None:
        """Close the last segment and the files."""
        if not self.retired and self.segments.number >= 0:
            self._end_segment("stop")
        self.trajectory.free()
        self.engine.free()

    def _go_to(self, topology: int, state: State, seed: int | None, n_steps: int = 0) -> None:
        """Continue from a state, and take the first steps; a state of another topology needs another engine."""
        self._on_record = False
        changes = topology != self.topology
        slot = self._pool.take(topology, self.index) if changes else self.slot
        try:
            slot.engine.set_state(*state, seed=seed)
            if n_steps:
                slot.engine.advance(n_steps)
        except EngineError:
            if changes:
                self._pool.put(slot)
            raise
        if changes:
            self._pool.put(self.slot)
            self.slot = slot
            self.propagator.rate = 0.0
            self.trajectory.change(slot.topology.name, slot.topology.structures)

    def _open(self) -> None:
        """Start the first segment, or the next one after a complete one."""
        if self.segments.number < 0:
            self._events.add("start", self.prepare() if self._start_s is None else self._start_s)
            self._begin_segment(START, segment_seed(self._seed, self.index, 0))
        elif self.segments.complete:
            self._end_segment("complete")
            self._begin_segment(self.points.last, -1)

    def _begin_segment(self, origin: Origin, velocity_seed: int, begin: State | None = None) -> None:
        """Open a segment; one that jumps (or starts) writes the frame it starts from."""
        self._on_record = False
        jumps = begin is not None or origin.walker < 0
        beginning = self.segments.begin(
            origin, velocity_seed, restart_point=jumps, time_ps=self.ps, topology=self.slot.topology.name
        )
        self.trajectory.begin_segment(self.segments.number, beginning)
        self.segments.opened(self.propagator.seconds)
        if jumps:
            at = self.engine.state() if begin is None else begin
            features = self._features(at.positions, at.box)
            frame = self._append(at.positions, at.box, features, self.ps, float("nan"))
            self.points.restarted(RestartPoint(self.topology, at.positions, at.box, frame))
        self._on_record = True

    def _end_segment(self, reason: str, **attributes: Any) -> None:
        self.segments.end(reason, self.propagator.seconds, **attributes)

    def _row(self, state: Report, time_ps: float) -> dict[str, Any]:
        """The frame of a report: written, noted, and as a row of the frames' table."""
        clock = time.perf_counter()
        features = self._features(state.positions, state.box)
        computed = time.perf_counter()
        origin = self._append(state.positions, state.box, features, time_ps, state.potential_energy)
        self._events.add("features", computed - clock)
        self._events.add("trajectory", time.perf_counter() - computed)
        self.points.frame(origin, State(state.positions, state.velocities, state.box))
        return {
            **features,
            "walker": self.index,
            "segment": origin.segment,
            "frame": origin.frame,
            "topology": self.topology,
            "decision": self.segments.decision,
            "time": time_ps,
            "potential_energy": state.potential_energy,
            "positions": state.positions,
            "velocities": state.velocities,
            "box": state.box,
        }

    def _features(self, positions: np.ndarray, box: np.ndarray) -> Mapping[str, Any]:
        try:
            descriptor = positions[self.slot.topology.structures.descriptor]
            return self.slot.features.compute(descriptor, box, positions)
        except ValueError as error:
            raise EngineError(f"the frame has no features: {error}") from error

    def _append(
        self, positions: np.ndarray, box: np.ndarray, features: Mapping[str, Any], time_ps: float, energy: float
    ) -> Origin:
        """Write a frame to the trajectory; which one it is."""
        rmsd, order_parameters = features["rmsd"], features["order_parameters"]
        segment = self.segments.number
        frame = self.trajectory.append(positions, time_ps, segment, rmsd, energy, order_parameters, box=box)
        return Origin(self.index, segment, frame)
