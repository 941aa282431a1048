"""Which ranks are lost: what MPI knows of processes that have ended, and what one rank declares of silent ones."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

if TYPE_CHECKING:
    from .tree import Bulletin


def failed_ranks(comm: MPI.Comm) -> frozenset[int]:
    """Ranks of `comm` whose processes have ended, as far as this MPI knows; none if it cannot survive that.

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
    """A list of lost ranks that the leader keeps and all read.

    Parameters
    ----------
    comm
        Communicator of all ranks.
    bulletin
        Carries the list.
    """

    def __init__(self, comm: MPI.Comm, bulletin: Bulletin):
        self._comm, self._bulletin = comm, bulletin

    def failed(self) -> frozenset[int]:
        """See :func:`failed_ranks`."""
        return failed_ranks(self._comm)

    def declared(self) -> frozenset[int]:
        """What the leader has declared."""
        return frozenset(np.flatnonzero(self._bulletin.get()["lost"]).tolist())

    def declare(self, ranks: Iterable[int]) -> None:
        """Declare exactly these ranks lost; on the leader only."""
        lost = np.zeros(self._comm.size, np.uint8)
        lost[list(ranks)] = 1
        self._bulletin.update(lost=lost)


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
