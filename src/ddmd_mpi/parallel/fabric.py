"""Where the records of the control plane lie: in shared memory on one node, in messages between nodes.

Off RDMA networks a one-sided operation completes only while its target is inside MPI, and a window whose communicator
spans nodes is not shared memory, even on one node of it. So each window belongs to one node and needs no other rank.
Between nodes records travel as messages of a few hundred bytes, which the sender never waits for and the receiver takes
when it looks. Hence no rank ever waits for the progress of another one.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
from mpi4py import MPI

from ..clock import monotonic
from ..errors import LayoutError
from .register import Body, Registers
from .windows import SharedWindow

if TYPE_CHECKING:
    from .launch import World

_SEQUENCE = struct.Struct("<q")
#: How long the first messages between nodes may take: MPI makes its connections with them.
CONNECT_SECONDS = 30.0
PAUSE = 0.001


@dataclass(frozen=True)
class Ends:
    """A record's way: its only writer, its reader, and the rank whose memory holds it where those share a node."""

    writer: int
    reader: int
    host: int


class Fabric:
    """The window of my node and the messages between nodes. Collective over the world.

    First the channels are made, in the same order on all ranks; then :meth:`open` makes them usable.

    Attributes
    ----------
    comm : Comm
        All ranks; only messages of the control plane travel on it.
    nodes : tuple of int
        Node of each rank.
    members : tuple of int
        The ranks of my node.
    """

    def __init__(self, world: World):
        self.comm = world.comm.Dup()
        self.comm.Set_name("ddmd-control")
        self.nodes, self.rank, self.hosts = world.nodes, world.rank, world.hosts
        self.members = tuple(r for r, node in enumerate(world.nodes) if node == world.node)
        self.window = SharedWindow(world.node_comm)
        self._outgoing: list[Outgoing] = []
        self._incoming: list[Incoming] = []
        self._waiting: set[Outgoing] = set()  # those that have a record which has not left yet
        self._next_tag = 0

    def near(self, *ranks: int) -> bool:
        """Whether all these ranks are on my node."""
        return all(self.nodes[rank] == self.nodes[self.rank] for rank in ranks)

    def tags(self, count: int) -> int:
        """The first of `count` message tags that nobody else uses."""
        self._next_tag += count
        return self._next_tag - count

    def outgoing(self, reader: int, tag: int) -> Outgoing:
        """My end of a record that goes to another node."""
        self._outgoing.append(Outgoing(self.comm, reader, tag, self._waiting))
        return self._outgoing[-1]

    def incoming(self, writer: int, tag: int, nbytes: int) -> Incoming:
        """My end of a record of `nbytes` that comes from another node."""
        self._incoming.append(Incoming(self.comm, writer, tag, nbytes))
        return self._incoming[-1]

    def open(self) -> None:
        """Allocate the window and connect the nodes. Collective over the world.

        Raises
        ------
        LayoutError
            On all ranks, if the memory is too small or messages do not arrive.
        """
        self.window.open("mailboxes and records", self.comm)
        for end in self._outgoing:
            end.greet()
        deadline = monotonic() + CONNECT_SECONDS
        while not all(end.greeted for end in self._incoming) and monotonic() < deadline:
            time.sleep(PAUSE)
        silent = [end.writer for end in self._incoming if not end.greeted]
        problems = [p for p in self.comm.allgather(self._problem(silent)) if p]
        if problems:
            raise LayoutError(problems[0])

    def traffic(self, rank: int) -> dict[str, int]:
        """My operations on the control plane so far: all of them, and those that reach `rank`."""
        gets, puts = self.window.gets, self.window.puts
        at = self.members.index(rank) if rank in self.members else None
        return {
            "gets": sum(gets), "puts": sum(puts), "messages": sum(end.n_sent for end in self._outgoing),
            "gets_at_leader": 0 if at is None else gets[at], "puts_at_leader": 0 if at is None else puts[at],
            "messages_to_leader": sum(end.n_sent for end in self._outgoing if end.reader == rank),
        }  # fmt: skip

    def flush(self) -> None:
        """Send records that waited because the one before was still under way."""
        for end in tuple(self._waiting):
            end.flush()

    def free(self) -> None:
        """Release the window and drop messages that nobody has taken. Collective over the world."""
        for end in self._incoming:
            end.free()
        barrier = self.comm.Ibarrier()
        while not barrier.Test():
            drop_messages(self.comm)
            time.sleep(PAUSE)
        self.window.free()
        self.comm.Free()

    def _problem(self, silent: Sequence[int]) -> str | None:
        if not silent:
            return None
        there, here = self.hosts[self.nodes[silent[0]]], self.hosts[self.nodes[self.rank]]
        return (
            f"no MPI message from {there} (rank {silent[0]}) reached {here} (rank {self.rank}) within "
            f"{CONNECT_SECONDS:g} s: tell MPI which network connects the hosts (docs/cluster.md), or open the firewall"
        )


def drop_messages(comm: MPI.Comm) -> None:
    """Receive and forget what has arrived."""
    status = MPI.Status()
    while comm.Iprobe(status=status):
        comm.Recv([bytearray(status.Get_count(MPI.BYTE)), MPI.BYTE], status.source, status.tag)


class Outgoing:
    """The writing end of a record that travels by messages: at most one is under way, and the newest one waits."""

    def __init__(self, comm: MPI.Comm, reader: int, tag: int, waiting: set[Outgoing]):
        self._comm, self.reader, self._tag, self._all_waiting = comm, reader, tag, waiting
        self._sequence = 0
        self.n_sent = 0
        self._request, self._sent = MPI.REQUEST_NULL, b""
        self._newest = b""

    def greet(self) -> None:
        """Send the message number 0, which makes the connection."""
        self._request = self._comm.Isend([b"", MPI.BYTE], self.reader, self._tag)

    def write(self, body: Body) -> int:
        """Send a record, never waiting; an older one that has not left yet is dropped. Returns its sequence number."""
        self._sequence += 1
        self._newest = _SEQUENCE.pack(self._sequence) + body
        self._all_waiting.add(self)
        self.flush()
        return self._sequence

    def flush(self) -> None:
        """Send the newest record, if the one before has left."""
        try:
            if self._request.Test():
                self._all_waiting.discard(self)
                self._sent = self._newest
                self._request = self._comm.Isend([self._sent, MPI.BYTE], self.reader, self._tag)
                self.n_sent += 1
        except MPI.Exception:  # the reader is lost: nobody misses the record
            self._all_waiting.discard(self)


class Incoming:
    """The reading end of a record that travels by messages."""

    def __init__(self, comm: MPI.Comm, writer: int, tag: int, nbytes: int):
        self.writer, self.sequence = writer, 0
        self.body = bytearray(nbytes)
        self._comm, self._tag = comm, tag
        self._buffer = bytearray(_SEQUENCE.size + nbytes)
        self._greeted = self._lost = False
        self._expect()

    @property
    def greeted(self) -> bool:
        """Whether a first message has arrived."""
        self.take()
        return self._greeted

    def take(self) -> None:
        """Keep the newest record that has arrived."""
        status = MPI.Status()
        try:
            while not self._lost and self._request.Test(status):
                self._greeted = True
                if status.Get_count(MPI.BYTE):
                    (self.sequence,) = _SEQUENCE.unpack_from(self._buffer)
                    self.body[:] = self._buffer[_SEQUENCE.size :]
                self._expect()
        except MPI.Exception:  # the writer is lost: its last record stays
            self._lost = True

    def free(self) -> None:
        """Expect no more."""
        self.take()
        if not self._lost:
            self._request.Cancel()
            self._request.Wait()

    def _expect(self) -> None:
        self._request = self._comm.Irecv([self._buffer, MPI.BYTE], self.writer, self._tag)


class Channels:
    """Records with one writer and one reader each, of which the newest counts. Collective over the world.

    Between ranks of one node a record is a register in shared memory, which every rank of the node may read; between
    nodes it travels by messages. The methods are those of :class:`.register.Registers`; a record that this rank cannot
    see reads as if it had never been written.

    Parameters
    ----------
    fabric
        Not open yet.
    ends
        Of each record; the same on all ranks.
    dtype
        Of a record.
    """

    def __init__(self, fabric: Fabric, ends: Sequence[Ends], dtype: np.dtype):
        self.dtype = np.dtype(dtype)
        self._n = len(ends)
        near = [i for i, end in enumerate(ends) if fabric.near(end.writer, end.reader)]
        hosts = [fabric.members.index(ends[i].host) for i in near]
        self._registers = Registers(fabric.window, hosts, self.dtype)
        self._near = {i: k for k, i in enumerate(near)}
        far = [(i, end) for i, end in enumerate(ends) if fabric.nodes[end.writer] != fabric.nodes[end.reader]]
        first = fabric.tags(len(ends))
        self._outgoing = {i: fabric.outgoing(end.reader, first + i) for i, end in far if end.writer == fabric.rank}
        self._incoming = {
            i: fabric.incoming(end.writer, first + i, self.dtype.itemsize)
            for i, end in far
            if end.reader == fabric.rank
        }

    def __len__(self) -> int:
        return self._n

    def put(self, i: int, record: np.ndarray | tuple) -> int:
        """Publish `record` as the newest record i; never waits. Returns its sequence number, counted from 1."""
        return self.write(i, np.asarray(record, self.dtype).tobytes())

    def get(self, i: int) -> tuple[int, np.ndarray]:
        """Sequence number and content of the newest record i; 0 and zeros before the first."""
        sequence, body = self.read(i)
        return sequence, np.frombuffer(body, self.dtype).reshape(())

    def sequence(self, i: int) -> int:
        """Sequence number of the newest record i, 0 before the first."""
        return self.read(i)[0]

    def write(self, i: int, body: Body) -> int:
        """Like :meth:`put`, of the record's bytes."""
        near = self._near.get(i)
        return self._outgoing[i].write(body) if near is None else self._registers.write(near, body)

    @overload
    def read(self, i: int) -> tuple[int, bytearray]: ...
    @overload
    def read(self, i: int, after: int) -> tuple[int, bytearray] | None: ...
    def read(self, i: int, after: int = -1) -> tuple[int, bytearray] | None:
        """Like :meth:`get`, of the record's bytes; None if the newest is still number `after`."""
        near = self._near.get(i)
        if near is not None:
            return self._registers.read(near, after)
        end = self._incoming.get(i)
        if end is None:
            return None if after == 0 else (0, bytearray(self.dtype.itemsize))
        end.take()
        return None if end.sequence == after else (end.sequence, bytearray(end.body))

    def free(self) -> None:
        """Nothing is to be released: the memory is the fabric's."""
