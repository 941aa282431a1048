"""The IPv4 addresses of this host, from the kernel, and which of them a setting names."""

from __future__ import annotations

import array
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

#: Requests of <linux/sockios.h>, flags of <linux/if.h>, a hardware type of <linux/if_arp.h>.
SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFNETMASK, SIOCGIFHWADDR = 0x8912, 0x8913, 0x891B, 0x8927
IFF_UP, IFF_LOOPBACK, ARPHRD_INFINIBAND = 0x1, 0x8, 32
#: Of a `struct ifreq`; where its union starts; where an address lies in it.
IFREQ_BYTES, UNION, IN_ADDR = 40, 16, slice(20, 24)
MAX_ADDRESSES = 256


@dataclass(frozen=True)
class Address:
    """An IPv4 address, its interface, and the network that it lies in, as ``10.77.0.0/24``.

    `of_mpi` says whether MPI is told to use it.
    """

    interface: str
    ip: str
    network: str
    infiniband: bool = False
    of_mpi: bool = False

    def __str__(self) -> str:
        return f"{self.interface} {self.ip}/{self.network.partition('/')[2]}"


def interface_addresses() -> tuple[Address, ...]:
    """The addresses of the interfaces that are up, except loopback, in the kernel's order."""
    requests = array.array("B", bytes(IFREQ_BYTES * MAX_ADDRESSES))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        where = struct.pack("iP", len(requests), requests.buffer_info()[0])
        n_bytes = struct.unpack("iP", fcntl.ioctl(kernel, SIOCGIFCONF, where))[0]
        all_of_them = (requests[i : i + IFREQ_BYTES].tobytes() for i in range(0, n_bytes, IFREQ_BYTES))
        return tuple(address for request in all_of_them if (address := _address(kernel, request)) is not None)


def _address(kernel: socket.socket, request: bytes) -> Address | None:
    """The address in a `struct ifreq`; None if other hosts cannot use it."""
    try:
        (flags,) = struct.unpack_from("H", fcntl.ioctl(kernel, SIOCGIFFLAGS, request), UNION)
        (hardware,) = struct.unpack_from("H", fcntl.ioctl(kernel, SIOCGIFHWADDR, request), UNION)
        mask = socket.inet_ntoa(fcntl.ioctl(kernel, SIOCGIFNETMASK, request)[IN_ADDR])
    except OSError:  # the interface has gone meanwhile
        return None
    if flags & IFF_LOOPBACK or not flags & IFF_UP:
        return None
    name, ip = request[:UNION].partition(b"\0")[0].decode(errors="replace"), socket.inet_ntoa(request[IN_ADDR])
    network = ipaddress.IPv4Network(f"{ip}/{mask}", strict=False)
    return Address(name, ip, str(network), infiniband=hardware == ARPHRD_INFINIBAND)


def matching(found: Sequence[Address], wanted: str) -> tuple[Address, ...]:
    """The addresses of the interface `wanted`, or in the network `wanted`."""
    try:
        network = ipaddress.IPv4Network(wanted, strict=False)
    except ValueError:
        return tuple(address for address in found if address.interface == wanted)
    return tuple(address for address in found if ipaddress.IPv4Address(address.ip) in network)
