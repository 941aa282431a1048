"""The queue behind a stream: what it hands over is credit for the writer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from ..clock import monotonic
from ..layout.links import Link
from .stream import END, Reader


class Credits(Protocol):
    """How many payloads of each stream its reader has consumed: a record ``consumed`` per stream."""

    def put(self, i: int, record: tuple[int]) -> int: ...
    def get(self, i: int) -> tuple[int, np.ndarray]: ...


class Inbox:
    """The reading end of a stream: whatever it hands over is counted as consumed, which is the writer's credit.

    Parameters
    ----------
    reader
        Gives payloads.
    link
        The stream.
    credits
        Carries the number of payloads consumed to the writer.
    most
        Payloads that :meth:`arrived` hands over at a time.
    spend
        Told the seconds of each look that found something.
    """

    def __init__(self, reader: Reader, link: Link, credits: Credits, most: int, spend: Callable[[float], object]):
        self.link = link
        self.ended = False
        self.heard = monotonic()
        self._reader = reader
        self._credits = credits
        self._most = most
        self._spend = spend
        self._consumed = 0

    def poll(self) -> np.ndarray | None:
        """The next payload, or None when there is none at the moment or the stream has ended."""
        if self.ended:
            return None
        clock = time.perf_counter()
        payload = self._reader.poll()
        if payload is None:
            return None
        if payload is END:
            self.ended = True
            return None
        self.heard = monotonic()
        self._consumed += 1
        self._credits.put(self.link.index, (self._consumed,))
        self._spend(time.perf_counter() - clock)
        return payload

    def arrived(self) -> Iterator[np.ndarray]:
        """Yield the payloads that have arrived, at most as many as may be under way.

        So a slow reader still gets to its other work.
        """
        for _ in range(self._most):
            payload = self.poll()
            if payload is None:
                return
            yield payload

    def close(self) -> None:
        """Close the stream."""
        self.ended = True
        self._reader.close()
