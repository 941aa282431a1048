"""How a walker reaches its next report: by integration in calls of bounded length, or by a separate program."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from ..config.schema import Config
from ..monitor.events import EventLog

#: An integration is cut into calls of about this many seconds, so that a stop is noticed.
CALL_SECONDS = 0.25
#: Steps of the first call, before the rate is known: few, for a step may take a second.
FIRST_STEPS = 10


class Steps(Protocol):
    """What a propagator needs of an engine."""

    def advance(self, n_steps: int) -> None:
        """Integrate `n_steps` steps."""


class Propagator:
    """Takes one walker from report to report.

    Attributes
    ----------
    steps
        Integrated in this session.
    seconds
        Spent on them.
    ahead
        Steps of the present report that are done.
    rate
        Steps per second; 0 before the first, and with a new engine.
    """

    def __init__(self, walker: int, config: Config, events: EventLog):
        self.steps = 0
        self.seconds = 0.0
        self.ahead = 0
        self.rate = 0.0
        self.steps_per_report = config.simulation.steps_per_report
        # A turn ends after this many seconds, so that walkers of large topologies do not hold up those of small ones.
        self.turn_s = config.simulation.turn if len(config.system.topologies) > 1 else float("inf")
        self._walker = walker
        self._events = events

    @property
    def under_way(self) -> bool:
        """Whether the way to the next report has started, so that a command waits for that report."""
        return False

    @property
    def left_s(self) -> float:
        """Seconds until the next report can be there; 0 for an engine that computes."""
        return 0.0

    @property
    def report_s(self) -> float:
        """Seconds that a report takes at the present rate; 0 before the first step."""
        return self.steps_per_report / self.rate if self.rate else 0.0

    def propagate(self, engine: Steps, segment: int, interrupted: Callable[[], bool]) -> bool:  # noqa: ARG002
        """Integrate to the next report of a segment; False when interrupted, or when the turn is over.

        Raises
        ------
        EngineError
            If the engine fails.
        """
        left = self.steps_per_report - self.ahead
        turn = time.perf_counter() + self.turn_s
        while left:
            steps = min(left, max(1, int(self.rate * CALL_SECONDS))) if self.rate else min(left, FIRST_STEPS)
            clock = time.perf_counter()
            engine.advance(steps)
            spent = time.perf_counter() - clock
            self.rate = steps / spent
            self.count(steps, spent)
            left -= steps
            self.ahead = self.steps_per_report - left
            if left and (interrupted() or time.perf_counter() > turn):
                return False
        self.ahead = 0
        return True

    def count(self, steps: int, spent: float) -> None:
        """Count steps and the seconds that they took."""
        if not self.steps:
            self._events.record("first_step", time.time(), 0.0, walker=self._walker)
        self.steps += steps
        self.seconds += spent
        self._events.add("md", spent)


class Reports(Protocol):
    """What it needs of an engine."""

    @property
    def pause_s(self) -> float:
        """Seconds until the next look."""

    def poll(self) -> bool:
        """Whether the next report is there."""


class ProgramPropagator(Propagator):
    """Never waits for the program, so that the walkers of a rank move at once; a command need not wait for a report."""

    def __init__(self, walker: int, config: Config, events: EventLog):
        super().__init__(walker, config, events)
        # When the way to the next report began.
        self._since: float | None = None
        self._pause_s = 0.0

    @property
    def left_s(self) -> float:
        """See :class:`Propagator`."""
        return self._pause_s

    # Walkers whose engine is a program have this propagator, and no others.
    def propagate(self, engine: Reports, segment: int, interrupted: Callable[[], bool]) -> bool:  # type: ignore[override]  # noqa: ARG002
        """Whether the next report is there; starts the program where none runs.

        Raises
        ------
        EngineError
            If the program fails.
        """
        if self._since is None:
            self._since = time.perf_counter()
        there = engine.poll()
        self._pause_s = engine.pause_s
        if not there:
            return False
        now = time.perf_counter()
        spent, self._since = now - self._since, now
        steps, self.ahead = self.steps_per_report - self.ahead, 0
        self.rate = self.steps_per_report / spent
        self.count(steps, spent)
        return True
