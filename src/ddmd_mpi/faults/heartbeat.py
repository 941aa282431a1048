"""The heartbeat of a rank: one call in every turn of every loop, and a promise before every long operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from ..clock import monotonic
from ..config.schema import FaultsSection
from ..monitor.status import POST_SECONDS, StatusPost

#: What takes long may take this many times as long as it did at most so far.
LONGER = 5.0


class Detector(Protocol):
    """Beats the watchdog of this process and checks for lost ranks: a :class:`.detector.FailureDetector`."""

    def check(self, within: float, on_disk: bool = False) -> None: ...


@dataclass
class Silence:
    """A block in which the next heartbeat may take long.

    Parameters
    ----------
    what
        Its name: what is known of earlier blocks holds for those of the same name.
    on_disk
        Whether it waits for a disk, idle.
    longest
        Longest time between two heartbeats in it so far, s.
    """

    what: str
    on_disk: bool
    longest: float = 0.0


class Heartbeat:
    """Says that this rank makes progress: to the others with its status record, and to its own watchdog.

    Parameters
    ----------
    status
        Posts the record, which says within how many seconds the next heartbeat follows.
    detector
        Beats the watchdog and checks for lost ranks.
    settings
        The next heartbeat follows within ``hang_after``; for the first time within ``start_within`` for what takes
        as long as a start.
    """

    def __init__(self, status: StatusPost, detector: Detector, settings: FaultsSection):
        self._status = status
        self._detector = detector
        self._within = settings.hang_after
        self._patience = settings.start_within
        # By name, s.
        self._longest: dict[str, float] = {}
        # Outermost first.
        self._open: list[Silence] = []
        self._beaten = monotonic()

    def __call__(self) -> None:
        """Beat, unless the last heartbeat was less than half a second ago: for every turn of a loop.

        Raises
        ------
        LostRankError
            If a rank is lost that the run cannot do without. The process ends if this rank was declared lost itself.
        """
        if monotonic() - self._beaten > POST_SECONDS:
            self.beat()

    def beat(self) -> None:
        """Post the record, beat the watchdog and check for lost ranks, now; raises as a call does."""
        clock = monotonic()
        if self._open:
            self._open[-1].longest = max(self._open[-1].longest, clock - self._beaten)
        self._beaten = clock
        self._status.update(now=True, within=self.promise)
        self._detector.check(self.promise, any(silence.on_disk for silence in self._open))

    @property
    def promise(self) -> float:
        """Seconds within which a heartbeat follows one that is given now."""
        if not self._open:
            return self._within
        longest = self._longest.get(self._open[-1].what)
        return self._patience if longest is None else max(self._within, LONGER * longest)

    @contextmanager
    def expect_silence(self, what: str, on_disk: bool = False, **values: float) -> Iterator[None]:
        """Beat before the block and after it.

        In the block the next heartbeat may take as long as a start, or, after an earlier block of this name, some times
        as long as it took there at most.

        Parameters
        ----------
        what
            Name of what takes long.
        on_disk
            Whether it waits for a disk: then it may be idle.
        values
            Fields of the status record.
        """
        silence = Silence(what, on_disk)
        self._open.append(silence)
        try:
            self._status.update(now=False, **values)
            self.beat()
            silence.longest = 0.0  # what was before does not belong to it
            yield
        finally:
            self._open.pop()
            self._longest[what] = max(self._longest.get(what, 0.0), silence.longest, monotonic() - self._beaten)
        self.beat()  # the others no longer need to wait that long
