"""Where all ranks wait for each other between two stages, and tell each other what came of the last one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: Between two looks whether all are there, s.
PAUSE = 0.005


class Meeting:
    """Every method is collective over `comm`, and waits without burning a core.

    Parameters
    ----------
    comm
        The communicator; nothing else may use it for collectives meanwhile.
    meanwhile
        Called while waiting.
    """

    def __init__(self, comm: Any, meanwhile: Callable[[], object] = lambda: None):
        self._comm, self._meanwhile = comm, meanwhile

    def wait(self) -> None:
        """Wait until all are here."""
        barrier = self._comm.Ibarrier()
        while not barrier.Test():
            self._meanwhile()
            time.sleep(PAUSE)

    def exchange(self, value: T) -> list[T]:
        """What each rank brings, in the order of the ranks."""
        self.wait()
        return self._comm.allgather(value)

    def tell(self, value: T | None) -> T:
        """What the first rank brings."""
        self.wait()
        return self._comm.bcast(value, root=0)
