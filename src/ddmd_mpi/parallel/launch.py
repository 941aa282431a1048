"""The start of an MPI program: who is where, and what all ranks agree on. The only user of COMM_WORLD."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mpi4py import MPI

from ..errors import DDMDError
from ..processes import Process, myself
from .layout import ROLES, Layout
from .losses import failed_ranks

T = TypeVar("T")
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
    processes
        Of every rank.
    """

    comm: MPI.Comm
    node_comm: MPI.Comm
    nodes: tuple[int, ...]
    hosts: tuple[str, ...]
    gpus_per_node: tuple[int, ...]
    gpus: tuple[str, ...]
    processes: tuple[Process, ...] = ()

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
        return MPI.Get_library_version().split(",")[0].strip()

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
        outcome: tuple[T | None, DDMDError | None] = (None, None)
        if self.rank == 0:
            try:
                outcome = (function(), None)
            except DDMDError as error:
                outcome = (None, error)
        result, error = self.comm.bcast(outcome, root=0)
        if error is not None:
            raise error
        return result

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
        with suppress(MPI.Exception):
            while not MPI.Request.Testall(requests) and time.monotonic() < deadline:
                time.sleep(0.001)

    def it_was_said(self) -> bool:
        """Whether another rank has said why the run ends."""
        with suppress(MPI.Exception):
            return self.comm.Iprobe(tag=SAID_TAG)
        return False

    def abort(self, code: int) -> None:
        """End all ranks at once, and tell the script that has started them, which may not hear it from its launcher."""
        path = os.environ.get("DDMD_MPI_EXIT_CODE")
        if path:
            with suppress(OSError):
                Path(path).write_text(f"{code}\n")
        MPI.COMM_WORLD.Abort(code)

    def free(self) -> None:
        """Collective over all ranks: give the communicators back."""
        self.node_comm.Free()
        self.comm.Free()


def launch() -> World:
    """Collective over all ranks: find out who is where."""
    comm = MPI.COMM_WORLD.Dup()
    comm.Set_name("ddmd-world")
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED, key=comm.rank)
    node_comm.Set_name("ddmd-node")
    gpus = visible_gpus()
    first = node_comm.bcast(comm.rank, root=0)
    places = comm.allgather((first, socket.gethostname(), gpus, myself()))
    firsts = sorted({place[0] for place in places})
    seen = [{gpu for place in places if place[0] == f for gpu in place[2]} for f in firsts]
    return World(
        comm=comm,
        node_comm=node_comm,
        nodes=tuple(firsts.index(place[0]) for place in places),
        hosts=tuple(places[f][1] for f in firsts),
        gpus_per_node=tuple(len(names) for names in seen),
        gpus=gpus,
        processes=tuple(place[3] for place in places),
    )


def visible_gpus() -> tuple[str, ...]:
    """GPUs that this process may use, by the environment or else by their device files; no GPU library is loaded."""
    for variable in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        if variable in os.environ:
            names = [name.strip() for name in os.environ[variable].split(",")]
            return tuple(name for name in names if name not in ("", "-1", "NoDevFiles"))
    nvidia = sorted((d.name for d in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", d.name)), key=_number)
    amd = sorted((d.name for d in Path("/sys/class/kfd/kfd/topology/nodes").glob("*") if _is_gpu(d)), key=_number)
    return tuple(nvidia or amd)


def _number(name: str) -> int:
    return int(re.sub(r"\D", "", name))


def _is_gpu(node: Path) -> bool:
    """Whether a node of the AMD topology is a GPU: CPUs have the id 0."""
    try:
        return int((node / "gpu_id").read_text()) != 0
    except (OSError, ValueError):
        return False
