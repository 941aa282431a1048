"""Mailboxes: one command register and one receipt register per walker, at the walker's aggregator.

Inference sends, the walker polls at every report and answers; newest wins. Nobody is interrupted and nobody waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import numpy as np
from mpi4py import MPI

from ..frames import COMMAND_DTYPE, RECEIPT_DTYPE, Receipt, RestartCommand, from_record, to_record
from .register import Registers

#: Receipts of one walker that wait unread before the oldest is lost.
UNREAD_RECEIPTS = 4

# A command is sent and seen while a simulation waits: packing by a compiled format takes 1 us, by NumPy ten times that.
_COMMAND = Struct("<" + "".join("d" if COMMAND_DTYPE[name].kind == "f" else "q" for name in COMMAND_DTYPE.names))
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
        return self._commands.write(walker, _COMMAND.pack(*command))

    def poll(self, walker: int) -> RestartCommand | None:
        """The newest command of `walker` that was not yet seen here, or None."""
        newest = self._commands.read(walker, after=self._seen[walker])
        if newest is None:
            return None
        self._seen[walker], body = newest
        return RestartCommand(*_COMMAND.unpack(body))

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
