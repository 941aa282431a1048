"""Registers: small records in window memory, each with one writer and any number of readers.

A register is a sequence number and two copies of the record::

    | sequence | copy 0: sequence, checksum, record | copy 1: sequence, checksum, record |

The writer fills the copy that is *not* the newest, flushes, and only then publishes the sequence number, atomically.
A reader fetches the sequence number and then the copy it names. That copy is at rest unless the writer has put twice
in between, and then its own sequence number and CRC-32 give it away (MPI leaves the outcome of a Get that meets a Put
undefined, so whatever arrives must prove itself): the reader starts again, with the newer one. So a record is seen
whole or not at all, nobody locks, nobody waits, and a poll that finds nothing new costs one fetch of 8 bytes.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from zlib import crc32

import numpy as np
from mpi4py import MPI

from .windows import CACHE_LINE, AtomicWord, allocate, free, padded

_HEAD = struct.Struct("<qq")  # sequence, checksum


class Registers:
    """Collective over `comm`: one register per entry of `host_of`, in window memory of that rank.

    Parameters
    ----------
    comm
        Communicator of all writers, readers and hosts.
    host_of
        Rank of `comm` whose memory holds register i; the same on all ranks.
    dtype
        Structured or plain dtype of a record.
    name
        What the registers are for, in error messages.
    """

    def __init__(self, comm: MPI.Comm, host_of: Sequence[int], dtype: np.dtype, name: str = "registers"):
        self.dtype = np.dtype(dtype)
        self._copy_nbytes = padded(_HEAD.size + self.dtype.itemsize)
        stride = CACHE_LINE + 2 * self._copy_nbytes
        held: Counter[int] = Counter()
        self._place = []
        for host in host_of:
            self._place.append((host, held[host] * stride))
            held[host] += 1
        self._window, _ = allocate(comm, held[comm.rank] * stride, name)
        self._word = AtomicWord(self._window)
        self._written = [0] * len(self._place)
        self._used = _HEAD.size + self.dtype.itemsize
        self._buffer = bytearray(self._used)
        self._view = memoryview(self._buffer)
        self._origin = [self._buffer, MPI.BYTE]

    def __len__(self) -> int:
        return len(self._place)

    def put(self, i: int, record: np.ndarray | tuple) -> int:
        """Write `record` to register `i`, whose only writer I am; visible to all when this returns.

        Returns
        -------
        int
            Its sequence number, counted from 1.
        """
        host, offset = self._place[i]
        sequence = self._written[i] + 1
        body = np.asarray(record, self.dtype).tobytes()
        self._view[_HEAD.size :] = body
        _HEAD.pack_into(self._buffer, 0, sequence, crc32(body, sequence & 0xFFFFFFFF))
        self._window.Put(self._origin, host, self._target(offset, sequence))
        self._window.Flush(host)
        self._word.replace(host, offset, sequence)
        self._written[i] = sequence
        return sequence

    def sequence(self, i: int) -> int:
        """Sequence number of the newest record of register `i`, 0 before the first: the poll."""
        return self._word.fetch(*self._place[i])

    def get(self, i: int) -> tuple[int, np.ndarray]:
        """The newest whole record of register `i`.

        Returns
        -------
        tuple of int and ndarray
            Its sequence number and the record, shape (); zeros before the first.
        """
        host, offset = self._place[i]
        while sequence := self._word.fetch(host, offset):
            self._window.Get(self._origin, host, self._target(offset, sequence))
            self._window.Flush(host)
            found, checksum = _HEAD.unpack_from(self._buffer)
            body = self._buffer[_HEAD.size :]
            if found == sequence and checksum == crc32(body, sequence & 0xFFFFFFFF):
                return sequence, np.frombuffer(body, self.dtype).reshape(())
        return 0, np.zeros((), self.dtype)

    def _target(self, offset: int, sequence: int) -> tuple[int, int, MPI.Datatype]:
        return offset + CACHE_LINE + (sequence & 1) * self._copy_nbytes, self._used, MPI.BYTE

    def free(self) -> None:
        """Collective over the communicator: give the memory back."""
        free(self._window)
