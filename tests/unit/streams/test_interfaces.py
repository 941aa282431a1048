"""The addresses of this host."""

import ipaddress
import socket

import pytest

from ddmd_mpi.streams.interfaces import Address, interface_addresses, matching

FOUND = (
    Address("eth0", "10.77.0.1", "10.77.0.0/24"),
    Address("eth0", "10.78.0.1", "10.78.0.0/24"),
    Address("ib0", "10.77.9.1", "10.77.9.0/24"),
)


def test_what_the_kernel_lists_can_be_listened_at_and_is_not_loopback():
    found = interface_addresses()
    assert len({address.ip for address in found}) == len(found)
    for address in found:
        assert address.interface in {name for _, name in socket.if_nameindex()}
        assert ipaddress.IPv4Address(address.ip) in ipaddress.IPv4Network(address.network)
        assert not ipaddress.IPv4Address(address.ip).is_loopback
        with socket.create_server((address.ip, 0)):
            pass


@pytest.mark.parametrize(("wanted", "ips"), [
    ("eth0", ["10.77.0.1", "10.78.0.1"]),
    ("eth", []),
    ("10.77.0.0/16", ["10.77.0.1", "10.77.9.1"]),
    ("10.77.9.200/24", ["10.77.9.1"]),
    ("10.99.0.0/16", []),
    ("", []),
])  # fmt: skip
def test_a_name_or_a_network_names_addresses(wanted, ips):
    assert [address.ip for address in matching(FOUND, wanted)] == ips
