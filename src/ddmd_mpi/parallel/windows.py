"""Window memory: allocated once at start-up, open to all ranks until the end.

One passive epoch (``Lock_all``) lasts for the whole life of a window: every access is one operation and its flush, and
no rank ever waits for another one.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections import Counter
from pathlib import Path
from typing import Protocol

import numpy as np
from mpi4py import MPI

from ..errors import LayoutError

# All accumulates are fetches and replacements of one int64: with this said, networks may do them in hardware.
_INFO = {"accumulate_ops": "same_op_no_op", "acc_single_intrinsic": "true", "same_disp_unit": "true"}
_DIRECTORY_VARIABLE = "OMPI_MCA_osc_sm_backing_directory"
_MARGIN = 4_000_000  # for what MPI itself keeps beside a window


class Tenant(Protocol):
    """Whatever lies in a window that it shares with others."""

    def bind(self, window: MPI.Win) -> None:
        """Use this window from now on."""


class SharedWindow:
    """One window for the registers of many purposes, because every allocation costs all ranks several collectives.

    Parameters
    ----------
    comm
        Communicator of all ranks that use it.

    Notes
    -----
    First every tenant reserves its place, in the same order on all ranks; then :meth:`open` allocates them all.
    """

    def __init__(self, comm: MPI.Comm):
        self._comm = comm
        self._reserved: Counter[int] = Counter()
        self._tenants: list[Tenant] = []
        self._window: MPI.Win | None = None
        self.gets, self.puts = [0] * comm.size, [0] * comm.size  # mine, by the rank whose memory they are in

    def reserve(self, host: int, nbytes: int) -> int:
        """Byte offset of `nbytes` in the memory of rank `host`."""
        offset = self._reserved[host]
        self._reserved[host] += nbytes
        return offset

    def admit(self, tenant: Tenant) -> None:
        """Bind `tenant` to the window once it is allocated."""
        self._tenants.append(tenant)

    def open(self, name: str, everyone: MPI.Comm | None = None) -> None:
        """Allocate what was reserved; see :func:`allocate`. Collective over both communicators."""
        self._window, _ = allocate(self._comm, self._reserved[self._comm.rank], name, everyone)
        for tenant in self._tenants:
            tenant.bind(self._window)

    def free(self) -> None:
        """Release the memory. Collective over the communicator."""
        if self._window is not None:
            free(self._window)
            self._window = None


def allocate(comm: MPI.Comm, nbytes: int, name: str, everyone: MPI.Comm | None = None) -> tuple[MPI.Win, np.ndarray]:
    """Collective over `comm` and `everyone`: a window with `nbytes` zeroed bytes of mine (0 for none), and those bytes.

    Parameters
    ----------
    comm
        Communicator of the window.
    nbytes
        Size of my memory.
    name
        What the window is for, in error messages.
    everyone
        Communicator of all ranks that allocate such windows at the same time, each on its node; `comm` by default.

    Returns
    -------
    tuple of Win and ndarray
        The window, and my memory as an array of uint8.

    Raises
    ------
    LayoutError
        On all ranks of `everyone`, if the shared memory of a node is too small; on one rank alone, if MPI fails there
        and leaves the others waiting.
    """
    _require_shared_memory(comm, nbytes, name, everyone or comm)
    info = MPI.Info.Create(_INFO)
    try:
        window = MPI.Win.Allocate(nbytes, 1, info, comm)  # type: ignore[arg-type]  # a split is an intracommunicator
    except MPI.Exception as error:
        reason, host = error.Get_error_string(), socket.gethostname()
        raise LayoutError(
            f"MPI on {host} cannot allocate {nbytes / 1e6:.1f} MB for {name} ({reason}): "
            f"free or enlarge the shared memory in {_directory()}, or with Open MPI set {_DIRECTORY_VARIABLE}=/tmp"
        ) from error
    finally:
        info.Free()
    window.Set_name(f"ddmd-{name}")
    memory = np.frombuffer(window.tomemory().cast("B"), np.uint8) if nbytes else np.empty(0, np.uint8)
    memory[:] = 0
    window.Lock_all()
    window.Sync()
    comm.Barrier()
    return window, memory


def free(window: MPI.Win) -> None:
    """Collective over the window's communicator: end the epoch and give the memory back."""
    window.Unlock_all()
    window.Free()


def _directory() -> Path:
    """Where MPI keeps shared memory."""
    return Path(os.environ.get(_DIRECTORY_VARIABLE, "/dev/shm"))


def _require_shared_memory(comm: MPI.Comm, nbytes: int, name: str, everyone: MPI.Comm) -> None:
    """Collective over both communicators: refuse what the nodes cannot hold.

    Containers often have 64 MB of shared memory. Past it Open MPI fails on one rank and waits on the others forever,
    and MPICH dies of a bus error at the first touch, so nothing can be caught afterwards.
    """
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED, key=comm.rank)
    needed, shared = node_comm.allreduce(nbytes) + _MARGIN, node_comm.size > 1
    node_comm.Free()
    directory = _directory()
    room = shutil.disk_usage(directory).free if directory.is_dir() else needed
    problem = None
    if shared and needed > room:
        problem = (
            f"{name} need {needed / 1e6:.1f} MB of shared memory on {socket.gethostname()}, but {directory} has "
            f"{room / 1e6:.1f} MB free: lower aggregation.ring_mb, enlarge it (docker run --shm-size), "
            f"or with Open MPI set {_DIRECTORY_VARIABLE}=/tmp"
        )
    problems = [p for p in everyone.allgather(problem) if p]
    if problems:
        raise LayoutError(problems[0])


class AtomicWord:
    """An int64 in window memory that is only ever fetched and replaced whole.

    Fetch_and_op with REPLACE and NO_OP is what MPI promises to be atomic against itself, on any transport; a Get that
    meets a Put is not. In shared memory it costs the same.
    """

    def __init__(self, window: MPI.Win):
        self._window = window
        self._value, self._result = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self._operands = ([self._value, MPI.INT64_T], [self._result, MPI.INT64_T])

    def fetch(self, rank: int, offset: int) -> int:
        """The word at byte `offset` of the memory of `rank`."""
        self._window.Fetch_and_op(*self._operands, rank, offset, MPI.NO_OP)
        self._window.Flush(rank)
        return int(self._result[0])

    def replace(self, rank: int, offset: int, value: int) -> None:
        """Set the word at byte `offset` of the memory of `rank`; visible to all when this returns."""
        self._value[0] = value
        self._window.Fetch_and_op(*self._operands, rank, offset, MPI.REPLACE)
        self._window.Flush(rank)
