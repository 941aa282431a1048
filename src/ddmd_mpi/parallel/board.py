"""Status records by messages, for ranks without windows: each rank sends its own, the first one keeps the newest."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI


class MessageBoard:
    """As :class:`.register.Registers`, for records that only the first rank reads. Collective over `comm`.

    Parameters
    ----------
    comm
        Communicator of all ranks.
    n_records
        Records on the board; each has one writer.
    dtype
        Of a record.
    """

    def __init__(self, comm: MPI.Comm, n_records: int, dtype: np.dtype):
        self._comm = comm.Dup()
        self._comm.Set_name("ddmd-board")
        self._records, self._counts = np.zeros(n_records, dtype), [0] * n_records
        self._sent = 0
        self._under_way: list[tuple[MPI.Request, np.ndarray]] = []
        self._received = 0

    def put(self, index: int, record: np.ndarray) -> None:
        """Post a record; never waits."""
        if self._comm.rank == 0:
            self._keep(index, record)
            return
        copy = np.array(record, self._records.dtype)
        self._under_way = [(r, c) for r, c in self._under_way if not r.Test()]
        self._under_way.append((self._comm.Isend([copy, copy.nbytes, MPI.BYTE], dest=0, tag=index), copy))
        self._sent += 1

    def get(self, index: int) -> tuple[int, np.ndarray]:
        """How often record `index` was posted, and its newest content. On the first rank only."""
        while self._receive():
            pass
        return self._counts[index], self._records[index]

    def settle(self) -> None:
        """Collective over the communicator: take everything that was posted until now."""
        total = self._comm.reduce(self._sent, root=0)
        while total is not None and self._received < total:
            self._receive()
        MPI.Request.Waitall([request for request, _ in self._under_way])

    def free(self) -> None:
        """Collective over the communicator: give it back."""
        self.settle()
        self._comm.Free()

    def _receive(self) -> bool:
        """Receive a record that has arrived, if there is one.

        By its source and tag: MPICH 5.0 does not complete a receive from any source of a message from another node
        that a probe has shown.
        """
        status, record = MPI.Status(), np.empty((), self._records.dtype)
        if not self._comm.Iprobe(status=status):
            return False
        self._comm.Recv([record, record.nbytes, MPI.BYTE], source=status.source, tag=status.tag)
        self._received += 1
        self._keep(status.tag, record)
        return True

    def _keep(self, index: int, record: np.ndarray) -> None:
        self._records[index] = record
        self._counts[index] += 1
