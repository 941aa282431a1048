"""What keeps ADIOS2's SST upright, in one place. Each guard says what happens without it.

Measured with the serial wheel of ADIOS2 2.12.1. Two more guards are elsewhere by their nature: steps are never padded
(:mod:`.engines`: a zero-filled payload is 10 to 20 times slower), and every stream's contact file lies in a fresh
private directory (:mod:`.network`: a stale one makes the reader fail, a missing one kills the writer).
"""

from __future__ import annotations

import base64
import binascii
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from .waiting import OPEN_SECONDS, Communicator, receive

Result = TypeVar("Result")

TOKEN_TAG = 1
#: Name of the attribute "CM_CMANAGER_ID" in a contact text, as EVPath writes it: the process id of the next function.
MANAGER_ID = bytes.fromhex("dee790c4")


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
    """The number by which SST tells this process from others, from a contact text; None where it cannot be found."""
    try:
        attributes = base64.b64decode(contact.rsplit(":", 1)[-1].strip(), validate=True)
    except binascii.Error:
        return None
    _, found, rest = attributes.partition(MANAGER_ID)
    return rest[:4] if found and len(rest) >= 4 else None


def clashes(ids: Sequence[bytes | None]) -> list[int]:
    """The ranks whose id a lower rank has too: they must open again. Across nodes the order of pids does not help."""
    return [rank for rank, one in enumerate(ids) if one is not None and one in ids[:rank]]


def set_own_address(one_node: bool) -> None:
    """Say which address SST shall publish, before its first open.

    Left alone it looks host names up, which stalls the first open for 5 s where no name server answers. An address or
    interface that the user's environment names is kept.
    """
    if not {"ADIOS2_IP", "ADIOS2_INTERFACE", "ADIOS2_HOSTNAME"} & set(os.environ):
        os.environ["ADIOS2_IP"] = "127.0.0.1" if one_node else own_address()


def own_address() -> str:
    """The IPv4 address of the interface that leads off this node, without asking a name server."""
    for destination in ("10.254.254.254", "192.0.2.1"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((destination, 9))  # chooses a route, sends nothing
            except OSError:
                continue
            if not probe.getsockname()[0].startswith(("0.", "127.")):
                return probe.getsockname()[0]
    return next(iter(_interface_addresses()), "127.0.0.1")


def _interface_addresses() -> list[str]:
    """IPv4 addresses of the interfaces but loopback: for nodes without a default route."""
    import fcntl
    import struct

    get_address, addresses = 0x8915, []  # SIOCGIFADDR
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), get_address, struct.pack("256s", name.encode()[:15]))
            except OSError:  # no IPv4 address
                continue
            addresses.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in addresses if not address.startswith("127.")]
