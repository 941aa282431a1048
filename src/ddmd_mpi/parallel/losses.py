"""Which ranks are lost: what MPI knows of processes that have ended, and what one rank declares of silent ones."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import numpy as np
from mpi4py import MPI

from .register import Registers


def failed_ranks(comm: MPI.Comm) -> frozenset[int]:
    """Ranks of `comm` whose processes have ended, as far as this MPI knows; none where it cannot survive that.

    Fault-tolerant MPI (ULFM, MPI Forum's chapter "Process fault tolerance") learns of a failure in its progress, which
    looking for a message makes.
    """
    with suppress(MPI.Exception):  # a failure that was not seen before
        comm.Iprobe()
    try:
        failed = comm.Get_failed()
    except (NotImplementedError, MPI.Exception):
        return frozenset()
    n = failed.Get_size()
    ranks = MPI.Group.Translate_ranks(failed, list(range(n)), comm.Get_group()) if n else ()
    failed.Free()
    return frozenset(int(rank) for rank in ranks)


class Losses:
    """Collective over `comm`: a list of lost ranks that one rank keeps and all read.

    Parameters
    ----------
    keeper
        The rank that writes it, in its own window memory.
    """

    def __init__(self, comm: MPI.Comm, keeper: int):
        self._comm, self._size = comm, comm.size
        self._register = Registers(comm, [keeper], np.dtype([("lost", "u1", (comm.size,))]), "losses")

    def failed(self) -> frozenset[int]:
        """See :func:`failed_ranks`."""
        return failed_ranks(self._comm)

    def declared(self) -> frozenset[int]:
        """What the keeper has declared."""
        _, record = self._register.get(0)
        return frozenset(np.flatnonzero(record["lost"]).tolist())

    def declare(self, ranks: Iterable[int]) -> None:
        """Declare exactly these ranks lost; on the keeper only."""
        record = np.zeros((), self._register.dtype)
        record["lost"][list(ranks)] = 1
        self._register.put(0, record)

    def free(self) -> None:
        """Collective over the communicator: give the memory back."""
        self._register.free()


class MessageLosses:
    """As :class:`Losses`, for ranks without windows: what MPI knows is all there is."""

    def __init__(self, comm: MPI.Comm):
        self._comm = comm

    def failed(self) -> frozenset[int]:
        """See :func:`failed_ranks`."""
        return failed_ranks(self._comm)

    def declared(self) -> frozenset[int]:
        """Nobody declares anything."""
        return frozenset()

    def declare(self, ranks: Iterable[int]) -> None:
        """Nobody reads it."""

    def free(self) -> None:
        """There is nothing to give back."""
