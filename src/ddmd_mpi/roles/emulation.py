"""Emulated time: stages that take as long as ``[emulation]`` says, by sleeping."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable

import numpy as np

from ..config.schema import Config
from ..monitor.events import EventLog
from .propagator import Propagator, Steps

#: Sleeps are cut into slices of this many seconds, so that commands and the end of the run are noticed.
SLICE_SECONDS = 0.05


def stage_seconds(config: Config, stage: str, *number: int) -> float:
    """How long a stage is to take, s: ``emulation.STAGE_seconds`` spread by ``emulation.jitter`` (log-normal, mean 1).

    Parameters
    ----------
    number
        Which of its kind it is: the same stage of the same run takes as long on every rank and in every repetition.
    """
    mean, jitter = getattr(config.emulation, f"{stage}_seconds"), config.emulation.jitter
    key = (zlib.crc32(stage.encode()), *number)
    z = np.random.default_rng(np.random.SeedSequence(config.run.seed, spawn_key=key)).standard_normal()
    return mean * math.exp(jitter * z - 0.5 * jitter**2)


def wait_until(moment: float, interrupted: Callable[[], bool]) -> None:
    """Sleep until the monotonic time `moment`, s, or until `interrupted`, which is asked at every slice."""
    while (left := moment - time.monotonic()) > 0 and not interrupted():
        time.sleep(min(left, SLICE_SECONDS))


class EmulatedPropagator(Propagator):
    """Takes a walker to its next report in the time that ``[emulation]`` says, as on a GPU of its own.

    The time runs from one report, or restart, to the next, whatever its rank does meanwhile: so all walkers of a rank
    move at once.
    """

    def __init__(self, walker: int, config: Config, events: EventLog, clock: Callable[[], float] = time.monotonic):
        super().__init__(walker, config, events)
        self._config = config
        self._clock = clock
        # When the next report is there, and how long the way to it takes, s.
        self._due: float | None = None
        self._seconds = 0.0

    @property
    def under_way(self) -> bool:
        """See :class:`.propagator.Propagator`."""
        return self._due is not None

    @property
    def left_s(self) -> float:
        """See :class:`.propagator.Propagator`."""
        return 0.0 if self._due is None else max(0.0, self._due - self._clock())

    def propagate(self, engine: Steps, segment: int, interrupted: Callable[[], bool]) -> bool:  # noqa: ARG002
        """Start the way to the next report, or continue it; whether its time has come. Never waits."""
        if self._due is None:
            self._seconds = stage_seconds(self._config, "report", self._walker, segment)
            self._due = self._clock() + self._seconds
        if self._clock() < self._due:
            return False
        self._due = None
        steps, self.ahead = self.steps_per_report - self.ahead, 0
        engine.advance(steps)
        self.count(steps, self._seconds)
        return True
