"""Waiting for another rank without spinning, and never forever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from ..clock import monotonic
from ..errors import StreamError

#: Pause between two looks, s: the ranks may outnumber the cores.
PAUSE = 0.001
#: How long one end of a stream waits for the other at start-up, s.
OPEN_SECONDS = 120.0


class Communicator(Protocol):
    """The methods of an mpi4py communicator that this package uses."""

    def Get_rank(self) -> int: ...  # noqa: N802
    def Get_size(self) -> int: ...  # noqa: N802
    def Dup(self) -> Communicator: ...  # noqa: N802
    def Set_name(self, name: str) -> None: ...  # noqa: N802
    def Isend(self, buffer: Any, dest: int, tag: int) -> Any: ...  # noqa: N802
    def Irecv(self, buffer: Any, source: int, tag: int) -> Any: ...  # noqa: N802
    def Ibarrier(self) -> Any: ...  # noqa: N802
    def allgather(self, value: Any) -> list[Any]: ...
    def send(self, value: Any, dest: int, tag: int) -> None: ...
    def isend(self, value: Any, dest: int, tag: int) -> Any: ...
    def recv(self, *, source: int = ..., tag: int) -> Any: ...
    def iprobe(self, *, source: int = ..., tag: int) -> bool: ...


def wait_until(happened: Callable[[], bool], seconds: float, expected: str) -> None:
    """Call `happened` until it is true, with pauses.

    Raises
    ------
    StreamError
        After `seconds`: `expected` says what did not happen.
    """
    deadline = monotonic() + seconds
    while not happened():
        if monotonic() > deadline:
            raise StreamError(f"timed out after {seconds:g} s waiting for {expected}; see the other ranks' logs")
        time.sleep(PAUSE)


def receive(comm: Communicator, source: int, tag: int, seconds: float, expected: str) -> Any:
    """The next message of `source` with this tag; see :func:`wait_until`."""
    wait_until(lambda: comm.iprobe(source=source, tag=tag), seconds, expected)
    return comm.recv(source=source, tag=tag)
