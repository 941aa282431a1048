"""Window memory: allocated once at start-up, open to all ranks until the end.

One passive epoch (``Lock_all``) lasts for the whole life of a window: every access is one operation and its flush, and
no rank ever waits for another one.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import numpy as np
from mpi4py import MPI

from ..errors import LayoutError

# All accumulates are fetches and replacements of one int64: with this said, networks may do them in hardware.
_INFO = {"accumulate_ops": "same_op_no_op", "acc_single_intrinsic": "true", "same_disp_unit": "true"}
_DIRECTORY_VARIABLE = "OMPI_MCA_osc_sm_backing_directory"
_MARGIN = 4_000_000  # for what MPI itself keeps beside a window


def allocate(comm: MPI.Comm, nbytes: int, name: str) -> tuple[MPI.Win, np.ndarray]:
    """Collective over `comm`: a window with `nbytes` zeroed bytes of mine (0 for none), and those as a uint8 array.

    Raises
    ------
    LayoutError
        On all ranks, where the shared memory of a node is too small.
    """
    _require_shared_memory(comm, nbytes, name)
    info = MPI.Info.Create(_INFO)
    try:
        window = MPI.Win.Allocate(nbytes, 1, info, comm)
    except MPI.Exception as error:
        reason = error.Get_error_string()
        raise LayoutError(f"MPI cannot allocate {nbytes / 1e6:.1f} MB for {name}: {reason}") from error
    finally:
        info.Free()
    window.Set_name(f"ddmd-{name}")
    memory = np.frombuffer(window.tomemory(), np.uint8) if nbytes else np.empty(0, np.uint8)
    memory[:] = 0
    window.Lock_all()
    window.Sync()
    comm.Barrier()
    return window, memory


def free(window: MPI.Win) -> None:
    """Collective over the window's communicator: end the epoch and give the memory back."""
    window.Unlock_all()
    window.Free()


def _require_shared_memory(comm: MPI.Comm, nbytes: int, name: str) -> None:
    """Collective over `comm`: refuse what the nodes cannot hold.

    Containers often have 64 MB of shared memory. Past it Open MPI fails on one rank and waits on the others for ever,
    and MPICH dies of a bus error at the first touch, so nothing can be caught afterwards.
    """
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED, key=comm.rank)
    needed, shared = node_comm.allreduce(nbytes) + _MARGIN, node_comm.size > 1
    node_comm.Free()
    directory = Path(os.environ.get(_DIRECTORY_VARIABLE, "/dev/shm"))
    room = shutil.disk_usage(directory).free if directory.is_dir() else needed
    problem = None
    if shared and needed > room:
        problem = (
            f"{name} need {needed / 1e6:.1f} MB of shared memory on {socket.gethostname()}, but {directory} has "
            f"{room / 1e6:.1f} MB free: lower aggregation.ring_mb, enlarge it (docker run --shm-size), "
            f"or with Open MPI set {_DIRECTORY_VARIABLE}=/tmp"
        )
    problems = [p for p in comm.allgather(problem) if p]
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
