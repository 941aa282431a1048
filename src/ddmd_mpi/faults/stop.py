"""When a run ends: its duration, the end of its job, a signal; and how every rank learns of it.

A signal sets a flag and nothing else. The rank that got one says so in its status record; the first aggregator reads
those and puts the reason into its bulletin, which all ranks look at as they look at their clocks.
A stop brings the deadline forward to now, so that all roles end in the order in which they end a run whose time is up.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from ..clock import monotonic
from ..monitor.status import StopReason

#: What the first aggregator orders: a stop, by number of :class:`StopReason`, and a checkpoint, by its number.
CONTROL_DTYPE = np.dtype([("stop", "<i8"), ("checkpoint", "<i8")])
#: Seconds between two looks at the orders.
LOOK_SECONDS = 0.02
#: A signal so soon after another one is its echo: launchers and process groups deliver some twice.
ECHO_SECONDS = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
#: Variables that hold the end of the job as a Unix time, and those that hold its length in seconds.
END_VARIABLES = ("DDMD_MPI_END_TIME", "SLURM_JOB_END_TIME")
LENGTH_VARIABLES = ("PBS_WALLTIME",)
#: Holds the Unix time of the first launch, if a script resumes a run that failed.
BEGIN_VARIABLE = "DDMD_MPI_BEGIN_TIME"


class Signals:
    """Signal handlers of this process: the first signal is noted, a second one ends the process at once.

    Attributes
    ----------
    received
        Its number, 0 before the first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, leave: Callable[[int], object] = os._exit):
        self.received, self._when = 0, 0.0
        self._clock, self._leave = clock, leave

    def install(self) -> Signals:
        """Handle them from now on."""
        for number in SIGNALS:
            signal.signal(number, self.handle)
        return self

    def handle(self, number: int, _frame: object = None) -> None:
        """Note the first one; exit at a second one that is not its echo."""
        if not self.received:
            self.received, self._when = number, self._clock()
        elif self._clock() - self._when > ECHO_SECONDS:
            self._leave(128 + number)


def job_end(environment: Mapping[str, str], started: float) -> float | None:
    """Unix time at which the job ends, as far as its environment tells; of several the earliest.

    Parameters
    ----------
    started
        Unix time of the launch, s: where only the job's length is known, it is taken to have started then.
    """
    ends = [value for name in END_VARIABLES if (value := number(environment.get(name)))]
    begun = begin(environment, started)
    ends += [begun + value for name in LENGTH_VARIABLES if (value := number(environment.get(name)))]
    return min(ends, default=None)


def end_variable(environment: Mapping[str, str], end: float) -> str:
    """The variable of the environment that says that the job ends at `end`."""
    names = [name for name in END_VARIABLES if number(environment.get(name)) == end]
    return (*names, *LENGTH_VARIABLES)[0]


def begin(environment: Mapping[str, str], started: float) -> float:
    """Unix time from which the run's duration and the job's length count.

    It is that of the launch, or what the environment tells of the first of several.
    """
    return min(number(environment.get(BEGIN_VARIABLE)) or started, started)


def number(text: str | None) -> float | None:
    """A positive number of seconds, None for anything else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def time_left(
    duration: float, margin: float, end: float | None, started: float, now: float
) -> tuple[float, StopReason]:
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
        return end - margin - now, StopReason.WALLTIME
    return left, StopReason.DURATION


class Orders(Protocol):
    """A record that the leader writes and all ranks read."""

    def get(self) -> np.ndarray: ...
    def update(self, **values: Any) -> None: ...


class Control:
    """The end of the run and the checkpoints that are asked for, as one rank knows them.

    Parameters
    ----------
    left_s, reason
        Seconds until the simulations stop, and why they do: :func:`time_left`. Those in which this process was
        suspended count; those of draining behind it do not.
    job_left_s
        Seconds until the simulations must stop for the end of the job, which counts them all.
    drain_s
        Seconds for draining, after the simulations have stopped.
    grace_s
        Seconds that all roles have to end after a stop for another reason than the run's own duration.
    signals
        This process's.
    orders
        Where the leader's orders are, a Bulletin with the fields of :data:`CONTROL_DTYPE`; None in file mode.
    tell
        Told the reason for which this rank wants to stop.

    Attributes
    ----------
    stop, checkpoint
        Number of the reason to stop and of the newest checkpoint that were heard of, 0 for none.
    left_s
        Seconds until the simulations stop, or since they have been told to, as of the last :meth:`poll`.
    """

    def __init__(
        self,
        *,
        left_s: float,
        reason: StopReason,
        drain_s: float,
        grace_s: float,
        signals: Signals,
        orders: Orders | None = None,
        tell: Callable[[StopReason], object] = lambda _: None,
        job_left_s: float = float("inf"),
    ):
        self.left_s = left_s
        self.stop = StopReason.NONE
        self.checkpoint = 0
        self.tell = tell
        self._deadline = time.monotonic() + left_s
        self._job_deadline = time.monotonic() + job_left_s
        # Awake time at which a deadline was seen to be over: a suspension takes none of the time for draining.
        self._over = monotonic() + left_s if left_s <= 0 else None
        self._reason = reason
        self._drain_s = drain_s
        self._grace_s = grace_s
        self._signals = signals
        self._orders = orders
        self._looked = 0.0
        self._order = np.zeros((), CONTROL_DTYPE)

    @property
    def over(self) -> bool:
        """Whether the simulations are to stop."""
        return self.left_s <= 0

    @property
    def drain_s(self) -> float:
        """Seconds for draining; fewer than ``run.drain`` if somebody else ends the job soon."""
        return self._drain_s if self.reason is StopReason.DURATION else min(self._drain_s, self._grace_s)

    @property
    def overdue(self) -> bool:
        """Whether the time for draining is over, too."""
        return self.left_s < -self.drain_s

    @property
    def reason(self) -> StopReason:
        """Why the simulations stop when no time is left."""
        if self.stop:
            return self.stop
        job_ends_first = self._job_deadline < self._deadline
        return StopReason.WALLTIME if job_ends_first else self._reason

    def poll(self) -> bool:
        """Hear of signals and orders and look at the clock, once in every turn of a loop; whether it is `over`."""
        now = time.monotonic()
        if self._signals.received and not self.stop:
            self.halt(StopReason[signal.Signals(self._signals.received).name])
            self.tell(self.stop)
        if self._orders is not None and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            order = self._orders.get()
            self.checkpoint = max(self.checkpoint, int(order["checkpoint"]))
            self.halt(StopReason(int(order["stop"])))
        self._look_at_the_clock()
        return self.over

    def want(self, reason: StopReason) -> None:
        """Stop for a reason of my own, and tell the others; it outdoes any other."""
        self.stop = reason
        self._stop_now()
        self.tell(self.stop)

    def halt(self, stop: StopReason) -> None:
        """Stop for this reason, unless it is NONE or there is one already."""
        if stop and not self.stop:
            self.stop = stop
            self._stop_now()

    def order_stop(self, stop: StopReason) -> None:
        """Order a stop for this reason, unless it is NONE or the run stops already."""
        if (stop or self.stop) and not self._order["stop"]:
            self.order(stop=stop or self.stop)

    def order(self, *, stop: StopReason = StopReason.NONE, checkpoint: int = 0) -> None:
        """Give all ranks an order; for the first aggregator alone."""
        self._order["stop"] = self._order["stop"] or stop
        self._order["checkpoint"] = max(int(self._order["checkpoint"]), checkpoint)
        if self._orders is not None:
            self._orders.update(**{name: self._order[name] for name in ("stop", "checkpoint")})
        self.checkpoint = int(self._order["checkpoint"])
        self.halt(stop)

    def _stop_now(self) -> None:
        """Bring the deadline forward to now."""
        self._deadline = min(self._deadline, time.monotonic())
        self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        left = min(self._deadline, self._job_deadline) - time.monotonic()
        if left <= 0:
            self._over = monotonic() if self._over is None else self._over
            left = self._over - monotonic()
        self.left_s = left
