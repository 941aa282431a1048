"""Mailboxes: one command register and one receipt register per walker, at the walker's aggregator.

Inference sends, the walker polls at every report and answers; newest wins. Nobody is interrupted and nobody waits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from ..frames import COMMAND_DTYPE, RECEIPT_DTYPE, Receipt, RestartCommand, from_record, to_record
from .register import Registers

#: Receipts of one walker that wait unread before the oldest is lost.
UNREAD_RECEIPTS = 4
_RECEIPTS_DTYPE = np.dtype([("count", "<i8"), ("newest", RECEIPT_DTYPE, (UNREAD_RECEIPTS,))])


class Mailboxes:
    """Collective over `comm`: the mailbox of walker w lies in window memory of rank ``host_of_walker[w]``.

    One rank sends the commands of a walker (inference) and one rank answers them (its simulation rank).
    """

    def __init__(self, comm: MPI.Comm, host_of_walker: Sequence[int]):
        self._commands = Registers(comm, host_of_walker, COMMAND_DTYPE, "mailboxes")
        self._receipts = Registers(comm, host_of_walker, _RECEIPTS_DTYPE, "receipts")
        self._seen = [0] * len(host_of_walker)
        self._read = [0] * len(host_of_walker)
        self._given = [np.zeros((), _RECEIPTS_DTYPE) for _ in host_of_walker]

    def send(self, walker: int, command: RestartCommand) -> int:
        """Command `walker`; an older command that it has not yet seen is replaced. Returns the sequence number."""
        return self._commands.put(walker, to_record(command))

    def poll(self, walker: int) -> RestartCommand | None:
        """The newest command of `walker` that was not yet seen here, or None: one fetch of 8 bytes if there is none."""
        if self._commands.sequence(walker) == self._seen[walker]:
            return None
        self._seen[walker], record = self._commands.get(walker)
        return from_record(RestartCommand, record)

    def answer(self, walker: int, receipt: Receipt) -> None:
        """Publish `receipt`; it replaces the oldest of the last 4."""
        given = self._given[walker]
        given["newest"][int(given["count"]) % UNREAD_RECEIPTS] = to_record(receipt)
        given["count"] += 1
        self._receipts.put(walker, given)

    def receipts(self, walker: int) -> list[Receipt]:
        """Receipts of `walker` that were not yet read here, oldest first."""
        if self._receipts.sequence(walker) == self._read[walker]:
            return []
        first = self._read[walker]
        self._read[walker], record = self._receipts.get(walker)
        numbers = range(max(first, self._read[walker] - UNREAD_RECEIPTS), self._read[walker])
        return [from_record(Receipt, record["newest"][n % UNREAD_RECEIPTS]) for n in numbers]

    def free(self) -> None:
        """Collective over the communicator: give the memory back."""
        self._commands.free()
        self._receipts.free()
