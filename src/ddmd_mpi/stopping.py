"""When a run ends: its duration, the end of its job, a signal; and how every rank hears of it.

A signal sets a flag and nothing else. The rank that got one says so in its status record; the first aggregator reads
those and puts the reason into one register of its window memory, which all ranks look at as they look at their clocks.
A stop brings the deadline forward to now, so that all roles end in the order in which they end a run whose time is up.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .status import STOP_REASONS

#: What the first aggregator orders: a stop, by number of STOP_REASONS, and a checkpoint, by its number.
CONTROL_DTYPE = np.dtype([("stop", "<i8"), ("checkpoint", "<i8")])
#: Seconds between two looks at the register.
LOOK_SECONDS = 0.02
#: A signal so soon after another one is its echo: launchers and process groups deliver some twice.
ECHO_SECONDS = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
#: Variables that hold the end of the job as a Unix time, and those that hold its length in seconds.
END_VARIABLES = ("DDMD_MPI_END_TIME", "SLURM_JOB_END_TIME")
LENGTH_VARIABLES = ("PBS_WALLTIME",)
#: Holds the Unix time of the first launch, where a script goes on with a run that fails.
BEGIN_VARIABLE = "DDMD_MPI_BEGIN_TIME"


class Signals:
    """Signal handlers of this process: the first signal is noted, a second one ends the process at once.

    Attributes
    ----------
    received
        Its number, 0 before the first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, leave: Callable[[int], Any] = os._exit):
        self.received, self._when = 0, 0.0
        self._clock, self._leave = clock, leave

    def install(self) -> Signals:
        """Handle them from now on."""
        for number in SIGNALS:
            signal.signal(number, self.handle)
        return self

    def handle(self, number: int, _frame: object = None) -> None:
        """Note the first one; leave at a second one that is no echo of it."""
        if not self.received:
            self.received, self._when = number, self._clock()
        elif self._clock() - self._when > ECHO_SECONDS:
            self._leave(128 + number)


def job_end(environment: Mapping[str, str], started: float) -> float | None:
    """Unix time at which the job ends, as far as its environment tells; of several the earliest.

    Parameters
    ----------
    started
        Unix time of the launch, s: where only the job's length is known, it is taken to have begun then.
    """
    ends = [value for name in END_VARIABLES if (value := number(environment.get(name)))]
    begun = begin(environment, started)
    ends += [begun + value for name in LENGTH_VARIABLES if (value := number(environment.get(name)))]
    return min(ends, default=None)


def begin(environment: Mapping[str, str], started: float) -> float:
    """Unix time from which the run's duration and the job's length count: the launch, or what the environment tells of
    the first of several.
    """
    return min(number(environment.get(BEGIN_VARIABLE)) or started, started)


def number(text: str | None) -> float | None:
    """A positive number of seconds, None for anything else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def time_left(duration: float, margin: float, end: float | None, started: float, now: float) -> tuple[float, str]:
    """Seconds from `now` until the simulations stop, and the reason: their duration is over, or the job's end is near.

    Parameters
    ----------
    duration
        Of the run, s.
    margin
        Seconds before the end of the job that are for draining and the checkpoint.
    end, started, now
        Unix times, s; of the job's end (None where it is not known), of the launch, and of this moment.
    """
    left = started + duration - now
    if end is not None and end - margin - now < left:
        return end - margin - now, "walltime"
    return left, "duration"


class Control:
    """The end of the run and the checkpoints that are asked for, as one rank knows them.

    Parameters
    ----------
    left_s, reason
        Seconds until the simulations stop, and why they do: :func:`time_left`.
    grace
        Seconds that all roles have to end after a stop for another reason than the run's own duration.
    signals
        This process's.
    register
        Where the first aggregator's orders are, a Registers of :data:`CONTROL_DTYPE`; None without windows.
    tell
        Told the number of the reason for which this rank wants to stop.

    Attributes
    ----------
    checkpoint
        Number of the newest checkpoint that was asked for.
    """

    def __init__(self, left_s: float, reason: str, grace: float, signals: Signals, register: Any = None,
                 tell: Callable[[int], object] = lambda _: None):
        self._deadline, self._reason = time.monotonic() + left_s, reason
        self._grace, self._signals, self._register, self.tell = grace, signals, register, tell
        self._looked = 0.0
        self._order = np.zeros((), CONTROL_DTYPE)
        self.stop = self.checkpoint = 0

    @property
    def left_s(self) -> float:
        """Seconds until the simulations stop, or since they have been told to."""
        self.look()
        return self._deadline - time.monotonic()

    @property
    def reason(self) -> str:
        """Why the simulations stop when no time is left."""
        return STOP_REASONS[self.stop] if self.stop else self._reason

    def drain_s(self, longest: float) -> float:
        """Seconds for draining: `longest`, or less where somebody else ends the job soon."""
        return longest if self.reason == "duration" else min(longest, self._grace)

    def look(self) -> None:
        """Hear of signals and orders; cheap enough to do it with every look at the clock."""
        now = time.monotonic()
        if self._signals.received and not self.stop:
            self.halt(STOP_REASONS.index(signal.Signals(self._signals.received).name))
            self.tell(self.stop)
        if self._register is None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        sequence, order = self._register.get(0)
        if sequence:
            self.checkpoint = int(order["checkpoint"])
            self.halt(int(order["stop"]))

    def want(self, reason: str) -> None:
        """Stop for a reason of my own, and let the others hear of it; it outdoes any other."""
        self.stop = STOP_REASONS.index(reason)
        self._deadline = min(self._deadline, time.monotonic())
        self.tell(self.stop)

    def halt(self, stop: int) -> None:
        """Stop for this reason, unless it is 0 or there is one already."""
        if stop and not self.stop:
            self.stop = stop
            self._deadline = min(self._deadline, time.monotonic())

    def order_stop(self, stop: int) -> None:
        """Order a stop for this reason, unless it is 0 or the run stops already."""
        if (stop or self.stop) and not self._order["stop"]:
            self.order(stop=stop or self.stop)

    def order(self, *, stop: int = 0, checkpoint: int = 0) -> None:
        """Give all ranks an order; for the first aggregator alone."""
        self._order["stop"] = self._order["stop"] or stop
        self._order["checkpoint"] = max(int(self._order["checkpoint"]), checkpoint)
        if self._register is not None:
            self._register.put(0, self._order)
        self.checkpoint = int(self._order["checkpoint"])
        self.halt(stop)
