"""Prepares the starts of walkers in a thread, cheapest first, while walkers that are ready move.

OpenMM lets the other threads run while it minimises, so mailboxes, the status record and the walkers that are ready
need not wait for a box of water.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from .walker import Walker


class Preparation:
    """Prepares walkers one after the other.

    Parameters
    ----------
    walkers
        Those that have not started; they are inactive until they are ready.
    """

    def __init__(self, walkers: Sequence[Walker]):
        self._waiting = deque(sorted(walkers, key=lambda walker: walker.engine.n_atoms))
        for walker in walkers:
            walker.ready = False
        self._cancelled = Event()
        self._pool = ThreadPoolExecutor(1, "preparation")
        self._at: tuple[Walker, Future] | None = None
        self._next()

    def __len__(self) -> int:
        return len(self._waiting) + (self._at is not None)

    @property
    def topology(self) -> int:
        """Index of the topology that is prepared at the moment, -1 for none."""
        return -1 if self._at is None else self._at[0].topology

    def done(self) -> tuple[Walker, Future] | None:
        """The walker that has become ready since, and what its preparation came to; None for none."""
        if self._at is None or not self._at[1].done():
            return None
        done = self._at
        done[0].ready = True
        self._next()
        return done

    def free(self) -> None:
        """Leave the preparation at what it is; returns when the thread is out of the engine."""
        self._cancelled.set()
        self._waiting.clear()
        self._pool.shutdown()

    def _next(self) -> None:
        walker = self._waiting.popleft() if self._waiting else None
        self._at = None if walker is None else (walker, self._pool.submit(walker.prepare, self._cancelled.is_set))
