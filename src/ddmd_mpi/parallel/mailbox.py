"""Mailboxes: one command record and one receipt record per walker, in memory of the walker's node.

Inference sends, the walker polls at every report and answers; newest wins. Nobody is interrupted and nobody waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Protocol

import numpy as np
from mpi4py import MPI

from ..frames.command import COMMAND_DTYPE, RECEIPT_DTYPE, Receipt, RestartCommand, from_record, to_record
from .register import Body, Registers

#: Receipts of one walker that wait unread before the oldest is lost.
UNREAD_RECEIPTS = 4

# A command is sent and seen while a simulation waits: packing by a compiled format takes 1 us, by NumPy ten times that.
_COMMAND = Struct("<" + "".join("d" if COMMAND_DTYPE[name].kind == "f" else "q" for name in RestartCommand._fields))
_RECEIPTS_DTYPE = np.dtype([("count", "<i8"), ("newest", RECEIPT_DTYPE, (UNREAD_RECEIPTS,))])


#: Dtypes of the records behind a mailbox.
COMMANDS, RECEIPTS = COMMAND_DTYPE, _RECEIPTS_DTYPE


class Records(Protocol):
    """Records from one writer to one reader each, of which the newest counts: registers, or routes between nodes."""

    def __len__(self) -> int: ...
    def put(self, i: int, record: np.ndarray) -> int: ...
    def get(self, i: int) -> tuple[int, np.ndarray]: ...
    def write(self, i: int, body: Body) -> int: ...
    def read(self, i: int, after: int) -> tuple[int, bytearray] | None: ...
    def sequence(self, i: int) -> int: ...
    def free(self) -> None: ...


class Mailboxes:
    """The mailbox of every walker.

    One rank sends the commands of a walker (inference) and one rank answers them (its simulation rank).

    Parameters
    ----------
    commands
        A record of :data:`COMMANDS` per walker.
    receipts
        A record of :data:`RECEIPTS` per walker.
    before
        Called with a walker and the command that is about to be sent to it.
    """

    def __init__(
        self,
        commands: Records,
        receipts: Records,
        before: Callable[[int, RestartCommand], object] = lambda _walker, _command: None,
    ):
        self._commands, self._receipts, self._before = commands, receipts, before
        self._seen = [0] * len(commands)
        self._received = [0] * len(commands)  # sequence numbers of the records that were read
        self._read = [0] * len(commands)  # receipts that were read
        self._given = [np.zeros((), _RECEIPTS_DTYPE) for _ in range(len(commands))]

    @classmethod
    def on(cls, comm: MPI.Comm, host_of_walker: Sequence[int]) -> Mailboxes:
        """Mailboxes in window memory, that of walker w at rank ``host_of_walker[w]``. Collective over `comm`."""
        return cls(
            Registers(comm, host_of_walker, COMMANDS, "mailboxes"),
            Registers(comm, host_of_walker, RECEIPTS, "receipts"),
        )

    def send(self, walker: int, command: RestartCommand) -> int:
        """Command `walker`; an older command that it has not yet seen is replaced. Returns the sequence number."""
        self._before(walker, command)
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
        newest = self._receipts.read(walker, after=self._received[walker])
        if newest is None:
            return []
        self._received[walker], body = newest
        record = np.frombuffer(body, _RECEIPTS_DTYPE).reshape(())
        first, self._read[walker] = self._read[walker], int(record["count"])
        numbers = range(max(first, self._read[walker] - UNREAD_RECEIPTS), self._read[walker])
        return [from_record(Receipt, record["newest"][n % UNREAD_RECEIPTS]) for n in numbers]

    def free(self) -> None:
        """Release what belongs to the mailboxes alone. Collective over all ranks."""
        self._commands.free()
        self._receipts.free()
