"""What ranks do together: meet between two stages, or agree again and again without anyone waiting for another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..clock import monotonic

if TYPE_CHECKING:
    from mpi4py import MPI

T = TypeVar("T")

#: Between two checks whether all are there, s.
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

    def __init__(self, comm: MPI.Comm, meanwhile: Callable[[], object] = lambda: None):
        self._comm, self._meanwhile = comm, meanwhile

    def wait(self, seconds: float = float("inf")) -> None:
        """Wait until all are here.

        Raises
        ------
        TimeoutError
            After this many seconds. The meeting is then of no more use.
        """
        barrier, deadline = self._comm.Ibarrier(), monotonic() + seconds
        while not barrier.Test():
            if monotonic() > deadline:
                raise TimeoutError(f"not all ranks arrived within {seconds:g} s")
            self._meanwhile()
            time.sleep(PAUSE)

    def exchange(self, value: T, seconds: float = float("inf")) -> list[T]:
        """What each rank brings, in the order of the ranks; see :meth:`wait`."""
        self.wait(seconds)
        return self._comm.allgather(value)

    def tell(self, value: T | None) -> T:
        """What the first rank brings."""
        self.wait()
        return self._comm.bcast(value, root=0)


class Agreement:
    """Sums over the ranks of `comm`, in rounds.

    All ranks are given the same sums in the same order; a rank that acts on them alone acts as all others do.

    Parameters
    ----------
    comm
        The ranks' communicator; nothing else may use it at the same time.
    """

    def __init__(self, comm: MPI.Comm):
        self._comm = comm
        self._request: MPI.Request | None = None

    def ask(self, *values: float) -> np.ndarray | None:
        """The sums of one round, or None while a rank has not said its `values` yet; a later round takes later ones."""
        if self._request is None:
            self._mine, self._sums = np.array(values, np.float64), np.empty(len(values))
            self._request = self._comm.Iallreduce(self._mine, self._sums)
        if not self._request.Test():
            return None
        self._request = None
        return self._sums
