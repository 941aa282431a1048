"""All guards that ADIOS2's SST needs, in one place. Each guard says what happens without it.

Measured with the serial wheel of ADIOS2 2.12.1. Two more guards are elsewhere by their nature: steps are never padded
(:mod:`.engines`: a zero-filled payload is 10 to 20 times slower), and every stream's contact file lies in a fresh
private directory (:mod:`.network`: a stale one makes the reader fail, a missing one kills the writer).
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ..errors import StreamError
from .waiting import OPEN_SECONDS, Communicator, receive

Result = TypeVar("Result")

TOKEN_TAG = 1
#: Name of the attribute "CM_CMANAGER_ID" in a contact text, as EVPath writes it: the process id of the next function.
MANAGER_ID = bytes.fromhex("dee790c4")

PREFIX = "ddmd-mpi-streams-"
LOCK = "lock"
#: A contact text is shorter; a writer whose contact file cannot be written is killed by SST.
ROOM_BYTES = 4096


@contextmanager
def own_interrupt() -> Iterator[None]:
    """Keep this process's handler of SIGINT while a stream is opened.

    SST puts its own in its place, with which Ctrl-C ends the process with exit code 1 instead of stopping the run.
    """
    try:
        yield
    finally:
        handler = signal.getsignal(signal.SIGINT)
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def disable_nagle() -> None:
    """Set TCP_NODELAY on every IPv4 stream socket of this process.

    The wheel never sets it, so every small step may wait 40 ms for a delayed acknowledgement: 1400 steps of 1 kB per
    second become 8500, their p99 48 ms becomes 3 ms. Listening sockets count: what they accept inherits it.
    """
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            duplicate = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # closed meanwhile
            continue
        with duplicate:
            if duplicate.family == socket.AF_INET and duplicate.type == socket.SOCK_STREAM:
                duplicate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def in_pid_order(node_comm: Communicator, action: Callable[[], Result]) -> Result:
    """Call `action` on one rank of the node after the other, in the order of their process ids. Collective.

    SST tells processes apart by a random number seeded with ``getpid() + time()`` when the first engine opens. Two
    peers with equal numbers make their reader follow one's pointer in the other's memory, which kills it (2 of 2
    starts of 48 unguarded writers). Opened in this order, the seeds on a node differ.
    """
    pids = node_comm.allgather(os.getpid())
    order = sorted(range(len(pids)), key=lambda rank: (pids[rank], rank))
    place = order.index(node_comm.Get_rank())
    if place > 0:
        receive(node_comm, order[place - 1], TOKEN_TAG, OPEN_SECONDS, f"rank {order[place - 1]} of the node")
    try:
        return action()
    finally:
        if place + 1 < len(order):
            node_comm.send(None, dest=order[place + 1], tag=TOKEN_TAG)


def process_id(contact: str) -> bytes | None:
    """The number by which SST tells this process from others, from a contact text; None if it cannot be found."""
    try:
        attributes = base64.b64decode(contact.rsplit(":", 1)[-1].strip(), validate=True)
    except binascii.Error:
        return None
    _, found, rest = attributes.partition(MANAGER_ID)
    return rest[:4] if found and len(rest) >= 4 else None


def clashes(ids: Sequence[bytes | None], groups: Iterable[Iterable[int]] | None = None) -> list[int]:
    """The ranks whose id a lower rank of the same group has too: they must open again.

    Across nodes the order of pids does not help. Ranks that share no peer may have the same id.

    Parameters
    ----------
    ids
        Of each rank; None if it is not known.
    groups
        Ranks that meet at one of them, see :func:`circles`; by default all ranks are one group.
    """
    again = set()
    for group in [range(len(ids))] if groups is None else groups:
        first: dict[bytes | None, int] = {}
        again |= {r for r in sorted(group) if first.setdefault(ids[r], r) != r and ids[r] is not None}
    return sorted(again)


def circles(ends: Iterable[tuple[int, int]]) -> list[set[int]]:
    """Each rank that has streams, together with those at their other ends: SST must tell these from each other.

    Parameters
    ----------
    ends
        Writer and reader of every stream.
    """
    found: dict[int, set[int]] = {}
    for writer, reader in ends:
        found.setdefault(writer, {writer}).add(reader)
        found.setdefault(reader, {reader}).add(writer)
    return list(found.values())


def set_own_address(address: str | None) -> None:
    """Set the address that SST publishes, before its first open; None leaves it to the environment.

    Left alone it looks host names up, which stalls the first open for 5 s where no name server answers.
    """
    if address is not None:
        os.environ["ADIOS2_IP"] = address


class PrivateDirectory:
    """A fresh directory under the one for temporary files (``TMPDIR``).

    Raises
    ------
    StreamError
        If it cannot be made, or there is no room in it.
    """

    def __init__(self) -> None:
        sweep(Path(tempfile.gettempdir()))
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            fresh = self.path / f".{LOCK}"
            self._lock = fresh.open("wb", buffering=0)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._lock.write(bytes(ROOM_BYTES)) < ROOM_BYTES:
                raise OSError(28, os.strerror(28))
            fresh.rename(self.path / LOCK)  # seen by others with the lock only
        except OSError as error:
            raise StreamError(
                f"no temporary directory: {error}; make room, or set TMPDIR to a writable directory"
            ) from error

    def free(self) -> None:
        """Delete it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def sweep(temporary: Path) -> None:
    """Delete what processes that are dead have left; what belongs to others stays."""
    for lock in temporary.glob(f"{PREFIX}*/{LOCK}"):
        try:
            with lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
        except OSError:  # alive, another user's, or gone meanwhile
            continue
