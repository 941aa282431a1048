"""The queue before a stream: it never waits, and when it is full its oldest block goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np

from .stream import Writer
from .waiting import PAUSE


class Outbox:
    """Blocks on their way into a stream whose reader may be slow.

    Parameters
    ----------
    writer
        Where the blocks go.
    consumed
        How many of the stream's blocks its consumer has taken so far. A block is written only while fewer than
        `in_flight` are between writer and consumer, so that the stream itself is never full.
    in_flight
        Blocks between writer and consumer at most.
    queue_blocks, queue_mb
        Blocks and megabytes (10^6 bytes) that may wait here; the newest block may always.

    Attributes
    ----------
    dropped
        Blocks dropped because the queue was full.
    max_depth
        Most blocks that waited here at a time.
    """

    def __init__(
        self, writer: Writer, consumed: Callable[[], int], in_flight: int, queue_blocks: int, queue_mb: float
    ):
        self.writer = writer
        self._consumed, self._in_flight = consumed, in_flight
        self._queue_blocks, self._queue_bytes = queue_blocks, queue_mb * 1e6
        self._queue: deque[np.ndarray] = deque()
        self._nbytes = 0
        self.dropped = self.max_depth = 0

    def __len__(self) -> int:
        return len(self._queue)

    def offer(self, payload: np.ndarray) -> None:
        """Take a block, which from then on belongs to the stream; never waits."""
        self._queue.append(payload)
        self._nbytes += payload.nbytes
        self.pump()
        while len(self._queue) > 1 and (len(self._queue) > self._queue_blocks or self._nbytes > self._queue_bytes):
            self._take()
            self.dropped += 1
        self.max_depth = max(self.max_depth, len(self._queue))

    def pump(self) -> None:
        """Write what the consumer has room for; never waits."""
        while self.writer.ready and self._queue and self.writer.n_written - self._consumed() < self._in_flight:
            self.writer.write(self._take())

    def flush(self, stop: Callable[[], bool]) -> None:
        """Pump until the queue is empty or `stop` is true."""
        self.pump()
        while self._queue and not stop():
            time.sleep(PAUSE)
            self.pump()

    def _take(self) -> np.ndarray:
        payload = self._queue.popleft()
        self._nbytes -= payload.nbytes
        return payload
