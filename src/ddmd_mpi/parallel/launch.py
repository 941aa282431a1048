"""The start of an MPI program: the node of each rank, and what all ranks agree on. The only user of COMM_WORLD."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from .. import __version__
from ..errors import DDMDError, LauncherError
from ..faults.processes import Process, myself
from ..layout.gpus import visible_gpus
from ..layout.roles import ROLES, Layout
from .bare_mpi import MPI
from .collectives import Meeting
from .failures import failed_ranks
from .hosts import Peer, program
from .launcher import cannot_start, mismatch, tell_script

T = TypeVar("T")
#: For tests and benchmarks: this many ranks count as a node, so that one machine has the control plane of many.
PRETENDED_NODES = "DDMD_MPI_RANKS_PER_NODE"
#: Messages on the communicator of all ranks bear no other tag, and nobody waits for long for who does not take his.
SAID_TAG, TOLD_SECONDS = 1, 1.0


@dataclass(frozen=True)
class World:
    """All ranks and where they run.

    Parameters
    ----------
    comm
        All ranks, a duplicate of COMM_WORLD.
    node_comm
        The ranks of my node, in the order of `comm`.
    nodes
        Node index of each rank; nodes are counted in the order of their first ranks.
    hosts
        Host name of each node.
    gpus_per_node
        GPUs that the ranks of each node see.
    gpus
        GPUs that this rank sees, as the environment names them.
    processes, peers
        Of every rank: its process; what must be the same on all hosts.
    """

    comm: MPI.Comm
    node_comm: MPI.Comm
    nodes: tuple[int, ...]
    hosts: tuple[str, ...]
    gpus_per_node: tuple[int, ...]
    gpus: tuple[str, ...]
    processes: tuple[Process, ...] = ()
    peers: tuple[Peer, ...] = ()

    @property
    def rank(self) -> int:
        """My rank."""
        return self.comm.rank

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self.comm.size

    @property
    def mpi(self) -> str:
        """Name and version of the MPI library."""
        return library()

    @property
    def node(self) -> int:
        """Index of my node."""
        return self.nodes[self.rank]

    def agree(self, function: Callable[[], T]) -> T:
        """Collective over all ranks: the result of `function`, which runs on rank 0 only.

        Raises
        ------
        DDMDError
            On every rank the one that `function` raised, of the same class, so that exactly one rank needs to print it.
        """
        found: list[T] = []
        fault: DDMDError | None = None
        if self.rank == 0:
            try:
                found.append(function())
            except DDMDError as error:
                fault = error
        found, fault = Meeting(self.comm).tell((found, fault))
        if fault is not None:
            raise fault
        return found[0]

    def split(self, layout: Layout) -> MPI.Comm:
        """Collective over all ranks: the communicator of my role."""
        role = layout.roles[self.rank]
        comm = self.comm.Split(ROLES.index(role), self.rank)
        comm.Set_name(f"ddmd-{role}")
        return comm

    def gpu(self, layout: Layout) -> int | None:
        """My GPU as an index into what this process sees, None for none.

        Where the launcher has bound every rank to GPUs of its own, that is the first of them.
        """
        index = layout.gpu[self.rank]
        if index is None or not self.gpus:
            return None
        return index if len(self.gpus) == self.gpus_per_node[self.node] else index % len(self.gpus)

    def say_it_is_said(self) -> None:
        """Tell all other ranks that it was said why the run ends; lost ones stop nobody."""
        requests, deadline = [], time.monotonic() + TOLD_SECONDS
        for rank in set(range(self.size)) - {self.rank} - failed_ranks(self.comm):
            with suppress(MPI.Exception):
                requests.append(self.comm.Isend([b"", MPI.BYTE], rank, SAID_TAG))
        while requests and time.monotonic() < deadline:
            requests = [request for request in requests if not _is_over(request)]
            time.sleep(0.001)

    def it_was_said(self) -> bool:
        """Whether another rank has said why the run ends."""
        try:
            return self.comm.Iprobe(tag=SAID_TAG)
        except MPI.Exception:  # fault-tolerant MPI may not look for a message of any rank once one is lost
            return any(self._has_said(rank) for rank in range(self.size) if rank != self.rank)

    def _has_said(self, rank: int) -> bool:
        with suppress(MPI.Exception):
            return self.comm.Iprobe(rank, SAID_TAG)
        return False

    def abort(self, code: int) -> None:
        """End all ranks at once."""
        tell_script(code)
        MPI.COMM_WORLD.Abort(code)

    def free(self) -> None:
        """Collective over all ranks: give the communicators back."""
        self.node_comm.Free()
        self.comm.Free()


def launch() -> World:
    """Collective over all ranks: find out who is where.

    Raises
    ------
    LauncherError
        If the launcher has started more ranks than MPI sees.
    """
    if not MPI.Is_initialized():
        _refuse(cannot_start(os.environ, library()))
        MPI.Init_thread()
    _refuse(mismatch(os.environ, MPI.COMM_WORLD.size, library()))
    Meeting(MPI.COMM_WORLD).wait()  # asleep: those that still import have the cores
    comm = MPI.COMM_WORLD.Dup()
    comm.Set_name("ddmd-world")
    node_comm = split_by_node(comm, os.environ.get(PRETENDED_NODES))
    node_comm.Set_name("ddmd-node")
    gpus = visible_gpus()
    sources = program(__version__) if node_comm.rank == 0 else ""
    first, sources = node_comm.bcast((comm.rank, sources), root=0)
    comm.Barrier()  # now, so that the clocks can be compared
    peer = Peer(socket.gethostname(), sources, library(), time.time())
    places = comm.allgather((first, peer, gpus, myself()))
    firsts = sorted({place[0] for place in places})
    seen = [{gpu for place in places if place[0] == f for gpu in place[2]} for f in firsts]
    return World(
        comm=comm,
        node_comm=node_comm,
        nodes=tuple(firsts.index(place[0]) for place in places),
        hosts=tuple(places[f][1].host for f in firsts),
        gpus_per_node=tuple(len(names) for names in seen),
        gpus=gpus,
        processes=tuple(place[3] for place in places),
        peers=tuple(place[1] for place in places),
    )


def _refuse(said: str | None) -> None:
    if said is not None:
        raise LauncherError(said)


def library() -> str:
    """Name and version of the MPI library; may be asked before MPI is started."""
    first = MPI.Get_library_version().splitlines()[0].split(",")[0].replace("Version:", "")
    return " ".join(first.split())


def split_by_node(comm: MPI.Comm, ranks_per_node: str | None) -> MPI.Comm:
    """Collective over `comm`: the ranks that share memory, or, if nodes are simulated, the next this many ranks."""
    if ranks_per_node:
        return comm.Split(comm.rank // int(ranks_per_node), comm.rank)
    return comm.Split_type(MPI.COMM_TYPE_SHARED, key=comm.rank)


def _is_over(request: MPI.Request) -> bool:
    """Whether a message is on its way, or never will be: its receiver may be lost."""
    try:
        return request.Test()
    except MPI.Exception:
        return True
