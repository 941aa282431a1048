"""Registers: small records in window memory, each with one writer and any number of readers.

A register is two copies of its record, each with its own sequence number and checksum::

    | sequence, checksum, record | sequence, checksum, record |

The writer puts each record over the older copy, in one operation, and flushes before the next: one copy is always at
rest, and it is the newest that is complete. A reader gets both copies in one operation. MPI leaves those bytes of a Get
undefined that a Put touches meanwhile, so a copy counts only if its checksum (CRC-32 of record and sequence number)
proves it, and the newest one that counts is the record. If neither does, or only one older than what was seen before,
the writer has put twice during the Get, and the reader gets again. So a record is seen whole or not at all, records are
never seen to go back, nobody locks and nobody waits; a put is one Put, and a poll is one Get.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import overload
from zlib import crc32

import numpy as np
from mpi4py import MPI

from ..layout.memory import padded
from .windows import SharedWindow

_HEAD = struct.Struct("<qq")  # sequence, checksum
Body = bytes | bytearray
#: A place in a window: offset and length in bytes.
Span = tuple[int, int, MPI.Datatype]


class Registers:
    """Collective over `place`: one register per entry of `host_of`, in window memory of that rank.

    Parameters
    ----------
    place
        Communicator of all writers, readers and hosts, or a window that they share with other tenants: the registers
        can then be used once it is open.
    host_of
        Rank whose memory holds register i; the same on all ranks.
    dtype
        Structured or plain dtype of a record.
    name
        What the registers are for, in error messages.
    """

    def __init__(
        self, place: MPI.Comm | SharedWindow, host_of: Sequence[int], dtype: np.dtype, name: str = "registers"
    ):
        self.dtype = np.dtype(dtype)
        self._used = _HEAD.size + self.dtype.itemsize
        self._stride = padded(self._used)
        nbytes = 2 * self._stride
        window = place if isinstance(place, SharedWindow) else SharedWindow(place)
        self._own = None if window is place else window
        self._hosts = tuple(host_of)
        self._copies: list[list[Span]] = []
        self._whole: list[Span] = []
        for host in host_of:
            start = window.reserve(host, nbytes)
            self._copies.append([(start + k * self._stride, self._used, MPI.BYTE) for k in (0, 1)])
            self._whole.append((start, nbytes, MPI.BYTE))
        self._gets, self._puts = window.gets, window.puts
        self._written = [0] * len(host_of)
        self._seen = [0] * len(host_of)
        self._outgoing, self._incoming = bytearray(self._used), bytearray(nbytes)
        self._origin, self._result = [self._outgoing, MPI.BYTE], [self._incoming, MPI.BYTE]
        self._words, self._second = memoryview(self._incoming).cast("q"), self._stride // 8
        window.admit(self)
        if self._own:
            self._own.open(name)

    def bind(self, window: MPI.Win) -> None:
        """Use `window` from now on."""
        self._put, self._get, self._flush = window.Put, window.Get, window.Flush

    def __len__(self) -> int:
        return len(self._hosts)

    def put(self, i: int, record: np.ndarray | tuple) -> int:
        """Write `record` to register `i`, whose only writer I am; visible to all when this returns.

        Returns
        -------
        int
            Its sequence number, counted from 1.
        """
        return self.write(i, np.asarray(record, self.dtype).tobytes())

    def sequence(self, i: int) -> int:
        """Sequence number of the newest record of register `i`, 0 before the first."""
        self.read(i, after=self._seen[i])
        return self._seen[i]

    def get(self, i: int) -> tuple[int, np.ndarray]:
        """The newest record of register `i`.

        Returns
        -------
        tuple of int and ndarray
            Its sequence number and the record, shape (); 0 and zeros before the first.
        """
        sequence, body = self.read(i)
        return sequence, np.frombuffer(body, self.dtype).reshape(())

    def write(self, i: int, body: Body) -> int:
        """Like :meth:`put`, of the record's bytes."""
        self._written[i] = sequence = self._written[i] + 1
        _HEAD.pack_into(self._outgoing, 0, sequence, _checksum(body, sequence))
        self._outgoing[_HEAD.size :] = body
        host = self._hosts[i]
        self._puts[host] += 1
        self._put(self._origin, host, self._copies[i][sequence & 1])
        self._flush(host)
        return sequence

    @overload
    def read(self, i: int) -> tuple[int, bytearray]: ...
    @overload
    def read(self, i: int, after: int) -> tuple[int, bytearray] | None: ...
    def read(self, i: int, after: int = -1) -> tuple[int, bytearray] | None:
        """Like :meth:`get`, of the record's bytes; None if the newest is still number `after`: the poll."""
        host = self._hosts[i]
        while True:
            self._gets[host] += 1
            self._get(self._result, host, self._whole[i])
            self._flush(host)
            even, odd = self._words[0], self._words[self._second]
            if after == (even if even > odd else odd):
                return None
            for start in (0, self._stride) if even > odd else (self._stride, 0):
                sequence, checksum = _HEAD.unpack_from(self._incoming, start)
                body = self._incoming[start + _HEAD.size : start + self._used]
                if sequence >= self._seen[i] and (sequence == 0 or checksum == _checksum(body, sequence)):
                    self._seen[i] = sequence
                    return (sequence, body) if sequence != after else None

    def free(self) -> None:
        """Release the memory, unless it belongs to a shared window. Collective over the communicator."""
        if self._own:
            self._own.free()


def _checksum(body: Body, sequence: int) -> int:
    return crc32(body, sequence & 0xFFFFFFFF)
