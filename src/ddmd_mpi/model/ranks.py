"""The ranks that train one model together: what they add up, gather and hand out. One rank alone is a case of it."""

from __future__ import annotations

import time
from itertools import count
from typing import Protocol

import numpy as np

#: Looks at a message that is under way with nothing but a yield between them: a large sum moves on with every look.
EAGER_LOOKS = 200
#: Pause between two later looks, s: ranks may share a core.
PAUSE = 0.0002


class Request(Protocol):
    """A message that is under way."""

    def Test(self) -> bool: ...  # noqa: N802


class Communicator(Protocol):
    """The methods of an mpi4py communicator that this package uses."""

    def Get_size(self) -> int: ...  # noqa: N802
    def Get_rank(self) -> int: ...  # noqa: N802
    def Iallreduce(self, sendbuf: np.ndarray, recvbuf: np.ndarray) -> Request: ...  # noqa: N802
    def Iallgather(self, sendbuf: np.ndarray, recvbuf: np.ndarray) -> Request: ...  # noqa: N802
    def Ibcast(self, buf: np.ndarray, root: int) -> Request: ...  # noqa: N802


class Ranks:
    """The members of one training communicator. Every method is collective over it.

    Parameters
    ----------
    comm
        An mpi4py communicator; None for a rank that trains alone.
    """

    def __init__(self, comm: Communicator | None = None):
        self.size = 1 if comm is None else comm.Get_size()
        self.rank = 0 if comm is None else comm.Get_rank()
        # One rank has nobody to talk to.
        self.comm = comm if self.size > 1 else None

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of `values` over the ranks: the same bits on each."""
        if self.comm is None:
            return values
        sent, received = np.ascontiguousarray(values), np.empty(np.shape(values), np.asarray(values).dtype)
        self._wait(self.comm.Iallreduce(sent, received))
        return received

    def gather(self, values: np.ndarray) -> np.ndarray:
        """The ranks' `values`, of one shape on all of them, in the order of the ranks: shape (n_ranks, ...)."""
        received = np.empty((self.size, *np.shape(values)), np.asarray(values).dtype)
        if self.comm is None:
            received[0] = values
        else:
            self._wait(self.comm.Iallgather(np.ascontiguousarray(values), received))
        return received

    def broadcast(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The first rank's arrays, of the same shapes and types on all of them."""
        if self.comm is None:
            return arrays
        copies = [np.array(a, order="C") for a in arrays]
        for array in copies:
            self._wait(self.comm.Ibcast(array, root=0))
        return copies

    @staticmethod
    def _wait(request: Request) -> None:
        for look in count():
            if request.Test():
                return
            time.sleep(0 if look < EAGER_LOOKS else PAUSE)
