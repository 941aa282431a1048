"""The queue before a stream: it never waits, and drops its oldest block when it is full."""

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
    spend
        Told the seconds of each call that had something to write.
    drop
        Told how many blocks have been dropped so far, whenever one is.

    Attributes
    ----------
    dropped
        Blocks dropped because the queue was full.
    max_depth
        Most blocks that waited here at a time.
    waited
        Blocks that found no room in the stream when they came.
    wait_s
        Seconds that written blocks were here, all together.
    """

    def __init__(
        self,
        writer: Writer,
        consumed: Callable[[], int],
        in_flight: int,
        queue_blocks: int,
        queue_mb: float,
        spend: Callable[[float], object] = lambda _: None,
        drop: Callable[[int], object] = lambda _: None,
    ):
        self.writer = writer
        self._consumed, self._in_flight = consumed, in_flight
        self._queue_blocks, self._queue_bytes = queue_blocks, queue_mb * 1e6
        self._queue: deque[tuple[np.ndarray, float]] = deque()  # each with the time when it came
        self._nbytes, self._spend, self._drop = 0, spend, drop
        self.dropped = self.max_depth = self.waited = 0
        self.wait_s = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    def offer(self, payload: np.ndarray) -> None:
        """Take a block, which from then on belongs to the stream; never waits."""
        self._queue.append((payload, time.perf_counter()))
        self._nbytes += payload.nbytes
        self.pump()
        self.waited += bool(self._queue)
        while len(self._queue) > 1 and (len(self._queue) > self._queue_blocks or self._nbytes > self._queue_bytes):
            self._take()
            self.dropped += 1
            self._drop(self.dropped)
        self.max_depth = max(self.max_depth, len(self._queue))

    def pump(self) -> None:
        """Write what the consumer has room for; never waits."""
        clock, waiting = time.perf_counter(), bool(self._queue)
        while self.writer.ready and self._queue and self.writer.n_written - self._consumed() < self._in_flight:
            payload, came = self._take()
            self.wait_s += time.perf_counter() - came
            self.writer.write(payload)
        if waiting:
            self._spend(time.perf_counter() - clock)

    def flush(self, stop: Callable[[], bool]) -> None:
        """Pump until the queue is empty or `stop` is true."""
        self.pump()
        while self._queue and not stop():
            time.sleep(PAUSE)
            self.pump()

    def _take(self) -> tuple[np.ndarray, float]:
        payload, came = self._queue.popleft()
        self._nbytes -= payload.nbytes
        return payload, came
