"""A walker: one replica of the system, advanced report by report, restarted where a command says.

Its trajectory is a chain of segments. A restarted segment begins with its restart point as first frame of the
trajectory; that frame is not streamed again, since its source already was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from ..checkpoints import prefixed, under
from ..errors import CheckpointError, EngineError
from ..events import EventLog
from ..frames import Outcome, Receipt, RestartCommand
from ..md.seeds import segment_seed
from ..sections import Config

#: An integration is cut into calls of about this many seconds, so that a stop is noticed.
CALL_SECONDS = 0.25


class Origin(NamedTuple):
    """Where a segment comes from: a frame of a walker's trajectory, and the decision that said so."""

    simulation: int
    segment: int
    frame: int
    decision: int = -1


#: What is kept of the last frame.
MARK = ("positions", "velocities", "box")

#: The origin of a segment that begins at the start structure.
START = Origin(-1, -1, -1)


class RestartPoint(NamedTuple):
    """A state that can be gone back to, and the frame it is."""

    topology: int
    positions: np.ndarray
    box: np.ndarray
    origin: Origin


class Walker:
    """One walker on its engine.

    Parameters
    ----------
    index
        The walker's number in the whole run.
    bodies
        What its rank's walkers take their engines from.
    topology
        Index of the topology that it begins with.
    trajectory
        Its own trajectory, open for that topology.
    """

    #: Whether the way to the next report has begun, so that a command waits for that report.
    under_way = False
    #: Seconds until the next report can be there; 0 for an engine that computes.
    left_s = 0.0

    def __init__(self, index: int, bodies: Any, topology: int, trajectory: Any, config: Config, events: EventLog):
        self.index, self.trajectory = index, trajectory
        self._bodies, self.body = bodies, bodies.take(topology, index)
        self.failures, self.segments, self.frames, self.steps, self.ps = 0, 0, 0, 0, 0.0
        self.retired = False
        self._events = events
        self._config, self._settings, self._seed = config, config.simulation, config.run.seed
        self._turn_s = self._settings.turn if len(config.system.topologies) > 1 else float("inf")
        self._ahead = 0  # steps of the present report that are done
        self._rate = 0.0  # integration steps per second
        self._segment, self._reports, self._decision, self._closed = -1, 0, -1, False
        self.beginning: dict[str, Any] = {}  # how the present segment began
        self._started = self._busy = 0.0
        self._mark: tuple[np.ndarray, np.ndarray | None, np.ndarray] | None = None  # state of the last frame
        self.earlier_ps = 0.0  # simulated in earlier sessions
        self._good: RestartPoint | None = None  # began a segment that has given a report
        self._current: RestartPoint | None = None
        self._last = START
        self._on_record = True  # whether the files know the segment that the engine is in

    @property
    def engine(self) -> Any:
        """What moves it at present."""
        return self.body.engine

    @property
    def topology(self) -> int:
        """Index of its present topology."""
        return self.body.topology.index

    @property
    def active(self) -> bool:
        """Whether the walker goes on: neither retired nor as long as it shall be."""
        length_ns = self._settings.walker_length_ns
        return not self.retired and (length_ns is None or self.ps < length_ns * 1000)

    @property
    def complete(self) -> bool:
        """Whether the present segment has its length."""
        return self._reports == self._settings.reports_per_segment

    def close(self) -> None:
        """End a complete segment now, and not when the next one begins."""
        if self.complete:
            self._end_segment("complete")

    def restart(self, command: RestartCommand, coordinates: tuple[np.ndarray, ...]) -> Receipt:
        """Leave the current segment and take the first step from the commanded frame."""
        received = time.time()
        positions, velocities, box = coordinates
        self._go_to(command.topology, positions, None if command.velocity_seed >= 0 else velocities, box,
                    max(command.velocity_seed, 0), n_steps=1)
        stepped = time.time()
        self._ahead = 1
        self._end_segment("restart")
        source = Origin(command.source_simulation, command.source_segment, command.source_frame, command.decision)
        self._begin_segment(source, command.velocity_seed, positions, box)
        return Receipt(command.decision, Outcome.APPLIED, self._segment, received, stepped)

    def report(self, interrupted: Callable[[], bool]) -> dict[str, Any] | None:
        """Advance to the next report; its frame as one row of the frames' table, None when interrupted."""
        self._open()
        if not self._integrate(interrupted):
            return None
        clock = time.perf_counter()
        state = self.engine.state()
        self._events.add("state", time.perf_counter() - clock)
        self._ahead = self._settings.steps_per_report  # until the frame is on record
        row = self._row(state, self.ps + self._settings.report_interval_ps)
        self._ahead = 0
        self._reports += 1
        self.frames += 1
        self.ps = row["time"]
        self._good = self._current or self._good
        return row

    def recover(self, error: EngineError) -> None:
        """End a failed segment; begin one from the last good restart point, or from the start structure."""
        self.failures += 1
        self._ahead = 0
        self.retired = self.failures > self._settings.failures_per_walker
        seed, good = segment_seed(self._seed, self.index, self._segment + 1), self._good
        if not self.retired and good is None:
            self.engine.start(seed)
        elif not self.retired:
            self._go_to(good.topology, good.positions, None, good.box, seed)
        self._end_segment("failure", error=str(error))
        if not self.retired and good is None:
            self._begin_segment(START, seed)
        elif not self.retired:
            self._begin_segment(good.origin, seed, good.positions, good.box)

    def snapshot(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a later session needs to go on: values for JSON, and arrays; without the engine's if that has failed."""
        values = {"frames": self.trajectory.n_frames, "failures": self.failures, "retired": self.retired,
                  "ahead": self._ahead, "last": self._last, "topology": self.topology}
        arrays = {}
        if self._mark is not None:
            arrays |= {f"mark/{n}": a for n, a in zip(MARK, self._mark, strict=True) if a is not None}
        if self._good is not None:
            values |= {"good": self._good.origin, "good_topology": self._good.topology}
            arrays |= {"good/positions": self._good.positions, "good/box": self._good.box}
        if self._mark is not None and not self.retired and self._on_record:
            with suppress(EngineError):
                arrays |= prefixed("engine", self.engine.snapshot())
        self.trajectory.sync()
        return values, arrays

    def resume(self, values: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Go on after an earlier session, in a new segment of the topology that I have been made with.

        Where the files hold frames that are younger than the snapshot, these stay, and the segment begins with its
        last frame as restart point.

        Raises
        ------
        CheckpointError
            If frames that the snapshot knows are missing.
        """
        history, self._last = self.trajectory.history, Origin(*values["last"])
        if history.n_frames < values["frames"]:
            raise CheckpointError(f"{self.trajectory.path} has {history.n_frames} frames where the checkpoint knows of "
                                  f"{values['frames']}: it was cut or replaced; put the file back, or start a new run")
        self.failures, self.retired = values["failures"], values["retired"]
        self.ps = self.earlier_ps = history.time_ps
        self.frames, self._segment = history.n_frames - history.restart_points, history.segment
        self.segments, self._closed = history.segment + 1, True
        if "good" in values:
            self._good = RestartPoint(values["good_topology"], arrays["good/positions"], arrays["good/box"],
                                      Origin(*values["good"]))
        if self._segment < 0 or self.retired:
            return
        seed = segment_seed(self._seed, self.index, self._segment + 1)
        if "mark/positions" not in arrays:
            self.engine.start(seed)
            self._begin_segment(START, seed)
        elif history.n_frames == values["frames"] and "engine/positions" in arrays:
            self.engine.restore(under("engine", arrays), seed)
            self._begin_segment(self._last, -1)
            self._ahead, self._mark = values["ahead"], tuple(arrays.get(f"mark/{n}") for n in MARK)
        else:
            positions, velocities, box = (arrays.get(f"mark/{n}") for n in MARK)
            self.engine.set_state(positions, velocities, box, seed=seed)
            self._begin_segment(self._last, seed if velocities is None else -1, positions, box)

    def end(self) -> None:
        """Close the last segment and the files."""
        if not self.retired and self._segment >= 0:
            self._end_segment("stop")
        self.trajectory.free()
        self.engine.free()

    def _go_to(self, topology: int, positions: np.ndarray, velocities: np.ndarray | None, box: np.ndarray, seed: int,
               n_steps: int = 0) -> None:
        """Continue from a state, and take the first steps; a state of another topology needs another body."""
        self._on_record = False
        changes = topology != self.topology
        body = self._bodies.take(topology, self.index) if changes else self.body
        try:
            body.engine.set_state(positions, velocities, box, seed=seed)
            if n_steps:
                body.engine.advance(n_steps)
        except EngineError:
            if changes:
                self._bodies.put(body)
            raise
        if changes:
            self._bodies.put(self.body)
            self.body, self._rate = body, 0.0
            self.trajectory.change(body.topology.name, body.topology.structures.topology)

    def _open(self) -> None:
        """Begin the first segment, or the next one after a complete one."""
        if self._segment < 0:
            seed = segment_seed(self._seed, self.index, 0)
            clock = time.perf_counter()
            self.engine.start(seed)
            self._events.add("start", time.perf_counter() - clock)
            self._begin_segment(START, seed)
        elif self.complete:
            self._end_segment("complete")
            self._begin_segment(self._last, -1)

    def _integrate(self, interrupted: Callable[[], bool]) -> bool:
        """Integrate to the next report in calls of bounded length; False when interrupted, or when the turn is over."""
        left = self._settings.steps_per_report - self._ahead
        turn = time.perf_counter() + self._turn_s
        while left:
            steps = min(left, max(1, int(self._rate * CALL_SECONDS))) if self._rate else min(left, 50)
            clock = time.perf_counter()
            self.engine.advance(steps)
            spent = time.perf_counter() - clock
            self._rate = steps / spent
            self._account(steps, spent)
            left -= steps
            self._ahead = self._settings.steps_per_report - left
            if left and (interrupted() or time.perf_counter() > turn):
                return False
        self._ahead = 0
        return True

    def _account(self, steps: int, spent: float) -> None:
        """Count steps and the seconds that they took."""
        if not self.steps:
            self._events.record("first_step", time.time(), 0.0, simulation=self.index)
        self._busy += spent
        self.steps += steps
        self._events.add("md", spent)

    def _row(self, state: Any, time_ps: float) -> dict[str, Any]:
        clock = time.perf_counter()
        features = self._compute(state.positions, state.box)
        computed = time.perf_counter()
        frame = self.trajectory.append(
            state.positions, time_ps, self._segment, features["rmsd"], state.potential_energy,
            features["order_parameters"], box=state.box)
        self._events.add("features", computed - clock)
        self._events.add("trajectory", time.perf_counter() - computed)
        self._last = Origin(self.index, self._segment, frame)
        self._mark = state.positions, state.velocities, state.box
        return {
            **features, "simulation": self.index, "segment": self._segment, "frame": frame,
            "topology": self.topology,
            "decision": self._decision, "time": time_ps, "potential_energy": state.potential_energy,
            "positions": state.positions, "velocities": state.velocities, "box": state.box,
        }

    def _compute(self, positions: np.ndarray, box: np.ndarray | None) -> dict[str, Any]:
        body = self.body
        try:
            return body.features.compute(positions[body.topology.structures.descriptor], box, positions)
        except ValueError as error:
            raise EngineError(f"the frame has no features: {error}") from error

    def _begin_segment(self, origin: Origin, velocity_seed: int, positions: np.ndarray | None = None,
                       box: np.ndarray | None = None) -> None:
        """Open a segment; one that jumps (or starts) writes the frame it starts from."""
        self._on_record = False
        self._segment += 1
        jumps = positions is not None or origin.simulation < 0
        self.beginning = {
            "restart_point": jumps, "decision": origin.decision, "source_simulation": origin.simulation,
            "source_segment": origin.segment, "source_frame": origin.frame, "velocity_seed": velocity_seed,
            "time_ps": self.ps, "topology": self.body.topology.name}
        self.trajectory.begin_segment(self._segment, self.beginning)
        self._reports, self._decision, self._closed = 0, origin.decision, False
        self._started, self._busy = time.time(), 0.0
        if not jumps:
            self._on_record = True
            return
        if positions is None:
            state = self.engine.state()
            positions, box = state.positions, state.box
        features = self._compute(positions, box)
        frame = self.trajectory.append(positions, self.ps, self._segment, features["rmsd"], float("nan"),
                                       features["order_parameters"], box=box)
        self._last = Origin(self.index, self._segment, frame)
        self._current = RestartPoint(self.topology, positions, box, self._last)
        self._mark, self._on_record = (positions, None, box), True

    def _end_segment(self, reason: str, **attributes: Any) -> None:
        if self._closed:
            return
        self._closed = True
        self.segments += 1
        ns = self._reports * self._settings.report_interval_ps / 1000
        self._events.record("segment", self._started, time.time() - self._started, simulation=self.index,
                            segment=self._segment, frames=self._reports, ns=ns, reason=reason,
                            md_s=self._busy, decision=self._decision, **attributes)
