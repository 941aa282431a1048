"""Window memory: allocated once at start-up, open to all ranks until the end.

One passive epoch (``Lock_all``) lasts for the whole life of a window: every access is one operation and its flush, and
no rank ever waits for another one.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from ..errors import LayoutError

CACHE_LINE = 64

# Atomic operations are fetches and replacements of one int64: with this said, networks do them in hardware.
_INFO = {"accumulate_ops": "same_op_no_op", "acc_single_intrinsic": "true", "same_disp_unit": "true"}
_ADVICE = (
    "lower aggregation.ring_mb, give the node or container more shared memory (docker run --shm-size), "
    "or name another directory: --mca osc_sm_backing_directory DIR (Open MPI)"
)


def allocate(comm: MPI.Comm, nbytes: int, name: str) -> tuple[MPI.Win, np.ndarray]:
    """Collective over `comm`: a window with `nbytes` zeroed bytes of mine (0 for none), and those as a uint8 array.

    Raises
    ------
    LayoutError
        There is not enough (shared) memory, on any rank.
    """
    info = MPI.Info.Create(_INFO)
    try:
        window = MPI.Win.Allocate(nbytes, 1, info, comm)
    except MPI.Exception as error:
        raise LayoutError(
            f"no window memory for {name} ({nbytes / 1e6:.1f} MB on rank {comm.rank}): "
            f"{error.Get_error_string().splitlines()[0]}: {_ADVICE}"
        ) from error
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


def padded(nbytes: int) -> int:
    """`nbytes` rounded up to whole cache lines."""
    return -(-nbytes // CACHE_LINE) * CACHE_LINE


class AtomicWord:
    """An int64 in window memory that is only ever fetched and replaced whole.

    Fetch_and_op with REPLACE and NO_OP is what MPI promises to be atomic against itself, on any transport; a plain Get
    that meets a Put is not. It costs the same (shared memory), and the buffers are made once.
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
