"""Which address of a host is published: the choice, its refusals, and the test at the start on ranks in threads."""

import tempfile
import threading

import pytest

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.errors import StreamError
from ddmd_mpi.streams import addresses
from ddmd_mpi.streams.addresses import Host, across, agree_on_address, best_first, candidates, choose, self_test
from ddmd_mpi.streams.interfaces import Address
from ddmd_mpi.streams.network import Network


def address(ip, interface="eth0", **kind):
    return Address(interface, ip, ip.rsplit(".", 1)[0] + ".0/24", **kind)


def hosts(**ips):
    """Hosts with ranks 0, 3, 6, ... by their names and addresses, or the last numbers of their addresses."""
    found = [(name, [one if isinstance(one, Address) else address(one) for one in own]) for name, own in ips.items()]
    return {3 * i: Host(3 * i, name, tuple(own)) for i, (name, own) in enumerate(found)}


def everyone(known, reached=lambda _asker, asked, _ip: asked):
    """What all have heard of all: `reached(asker, asked, ip)` says who answers."""
    pairs = [(a, b) for a in known for b in known if a != b]
    return {(a, b): {one.ip: reached(a, b, one.ip) for one in known[b].addresses} for a, b in pairs}


def test_the_address_that_mpi_uses_comes_first_then_infiniband_then_the_common_network():
    own = [
        address("172.17.0.1", "docker0"),
        address("10.77.0.1"),
        address("10.78.0.1", "ib0", infiniband=True),
        address("192.168.3.1", "eth1", of_mpi=True),
    ]
    asker = ["10.77.0.2"]
    for best in ("192.168.3.1", "10.78.0.1", "10.77.0.1", "172.17.0.1"):
        known = hosts(one=own, two=asker)
        assert choose(known, everyone(known))[0] == best
        own = [one for one in own if one.ip != best]


def test_what_one_of_the_others_cannot_reach_is_not_chosen():
    known = hosts(one=["10.77.0.1", "10.78.0.1"], two=["10.77.0.2"], three=["10.77.0.3"])
    heard = everyone(known, lambda asker, asked, ip: "timed out" if (asker, ip) == (6, "10.77.0.1") else asked)
    assert choose(known, heard) == {0: "10.78.0.1", 3: "10.77.0.2", 6: "10.77.0.3"}
    del heard[6, 0]  # it shares no stream with the first
    assert choose(known, heard)[0] == "10.77.0.1"


def test_an_address_at_which_another_host_answers_is_not_chosen():
    known = hosts(one=["172.17.0.1", "10.77.0.1"], two=["172.17.0.1", "10.77.0.2"])
    heard = everyone(known, lambda asker, asked, ip: asker if ip == "172.17.0.1" else asked)
    assert choose(known, heard) == {0: "10.77.0.1", 3: "10.77.0.2"}


def test_a_host_that_nobody_asks_and_one_whose_environment_has_chosen():
    known = hosts(one=["10.77.0.1"], two=[])
    assert choose(known, {}) == {0: "10.77.0.1", 3: None}
    assert choose(known, everyone(known)) == {0: "10.77.0.1", 3: None}


def refusal(known, reached):
    with pytest.raises(StreamError) as caught:
        choose(known, everyone(known, reached))
    return str(caught.value)


def test_a_host_that_cannot_be_reached_is_named_with_who_asked_what_was_tried_and_the_cure():
    known = hosts(one=["10.77.0.1"], two=["10.77.0.2", "172.17.0.1"], three=["172.17.0.1", "10.77.0.3"])

    def reached(asker, asked, ip):
        if ip == "172.17.0.1":
            return 6
        return "connection refused" if (asker, asked) == (0, 3) else asked

    said = refusal(known, reached)
    assert said.startswith(
        "two cannot be reached from one at 10.77.0.2 (eth0: connection refused), 172.17.0.1 (eth0: three answers): "
    )
    for cure in ("streams.interface", "TCP", "streams.engine=BP5", "streams.first_hop=mpi"):
        assert cure in said


def test_two_hosts_with_one_address_are_named():
    known = hosts(one=["10.77.0.1"], two=["10.77.0.1"])
    said = refusal(known, lambda *_: "connection refused")
    assert said.startswith("one and two have the same address, 10.77.0.1")
    assert "streams.interface" in said


def test_hosts_that_share_a_name_are_told_by_their_ranks():
    known = {rank: Host(rank, "node", (address(f"10.77.0.{rank + 1}"),)) for rank in (0, 3)}
    assert refusal(known, lambda *_: "timed out").startswith("node (rank 0) cannot be reached from node (rank 3) at ")


def test_a_host_that_each_reaches_at_another_address_is_refused():
    known = hosts(one=["10.77.0.1", "10.78.0.1"], two=["10.77.0.2"], three=["10.78.0.3"])
    works = {(3, "10.77.0.1"), (6, "10.78.0.1")}
    said = refusal(known, lambda asker, asked, ip: asked if asked or (asker, ip) in works else "timed out")
    assert said.startswith("one has no address at which all hosts reach it (from two at 10.77.0.1, from three at 10.78")


FOUND = (address("172.17.0.1", "docker0"), address("10.77.0.1"), address("10.78.0.1", "ib0"))


@pytest.mark.parametrize(("wanted", "environment", "ips"), [
    (None, {}, ["172.17.0.1", "10.77.0.1", "10.78.0.1"]),
    ("ib0", {}, ["10.78.0.1"]),
    ("10.77.0.0/16", {"ADIOS2_IP": "10.78.0.1"}, ["10.77.0.1"]),
    (None, {"ADIOS2_IP": "10.9.9.9"}, ["10.9.9.9"]),
    (None, {"ADIOS2_INTERFACE": "hsn0"}, []),
    (None, {"ADIOS2_HOSTNAME": "one-hsn"}, []),
])  # fmt: skip
def test_the_setting_goes_before_the_environment_and_that_before_the_choice(wanted, environment, ips):
    assert [one.ip for one in candidates(wanted, FOUND, environment)] == ips


@pytest.mark.parametrize(("variable", "value"), [
    ("OMPI_MCA_btl_tcp_if_include", "lo,ib0"), ("OMPI_MCA_btl_tcp_if_include", "10.78.0.0/16"),
    ("UCX_NET_DEVICES", "mlx5_0:1,ib0"), ("FI_TCP_IFACE", "ib0"),
])  # fmt: skip
def test_what_mpi_is_told_to_use_is_known_by_name_or_network(variable, value):
    assert [one.of_mpi for one in candidates(None, FOUND, {variable: value})] == [False, False, True]


@pytest.mark.parametrize(("wanted", "found", "environment", "words"), [
    ("ib7", FOUND, {}, ("ib7", "eth0 10.77.0.1/24", "streams.interface")),
    ("10.99.0.0/16", FOUND, {}, ("no address in 10.99.0.0/16", "ib0 10.78.0.1/24", "streams.interface")),
    ("ib7", (), {}, ("no IPv4 address",)),
    (None, (), {}, ("no network interface",)),
    (None, FOUND, {"ADIOS2_IP": "one"}, ("ADIOS2_IP=one", "unset")),
])  # fmt: skip
def test_a_host_without_such_an_address_says_what_it_has(wanted, found, environment, words):
    with pytest.raises(StreamError) as caught:
        candidates(wanted, found, environment)
    for word in words:
        assert word in str(caught.value)


def test_of_every_host_the_likeliest_address_is_tried_before_others():
    known = hosts(one=["10.78.0.1", "10.77.0.1"], two=["10.77.0.2"], three=["172.17.0.1", "10.78.0.3", "10.77.0.3"])
    tries = best_first([known[0], known[6]], known[3])
    assert [ip for ip, _ in tries] == ["10.77.0.1", "10.77.0.3", "10.78.0.1", "172.17.0.1", "10.78.0.3"]
    assert best_first([], None) == []


def test_only_nodes_that_share_a_stream_ask_each_other():
    nodes = [0, 0, 2, 2, 4]
    assert across(nodes, [(0, 1), (1, 2), (3, 2), (3, 0)]) == [(0, 2), (2, 0)]
    assert across(nodes, []) == []
    assert len(across(nodes, None)) == 6


class Ranks:
    """One rank of several that are threads; `where` has the node of each."""

    def __init__(self, rank, where, barrier, board):
        self.rank, self.where, self.barrier, self.board = rank, where, barrier, board

    def Get_rank(self):  # noqa: N802
        return self.where.index(self.rank)

    def Get_size(self):  # noqa: N802
        return len(self.where)

    def allgather(self, value):
        self.barrier.wait()
        self.board[self.rank] = value
        self.barrier.wait()
        return [self.board[rank] for rank in self.where]

    def Ibarrier(self):  # noqa: N802
        arrived = self.board.setdefault("arrived", [0])
        arrived[0] += 1
        goal = -(-arrived[0] // self.barrier.parties) * self.barrier.parties
        return type("Request", (), {"Test": lambda _: arrived[0] >= goal})()


@pytest.fixture
def on_hosts(monkeypatch):
    """Calls a function on the ranks of several hosts, of two ranks each; what each rank got or raised.

    `ips` are a host's addresses, of which its listener listens at the last one.
    """
    for name in ("ADIOS2_IP", "ADIOS2_INTERFACE", "ADIOS2_HOSTNAME"):
        monkeypatch.delenv(name, raising=False)
    here, listener = threading.local(), addresses.Listener
    monkeypatch.setattr(addresses, "interface_addresses", lambda: tuple(map(address, here.ips)))
    monkeypatch.setattr(addresses, "Listener", lambda ports: listener(here.ips[-1], ports))
    monkeypatch.setattr(addresses.socket, "gethostname", lambda: here.name)
    monkeypatch.setattr(addresses, "QUICK_SECONDS", 0.0)

    def call(function, **ips):
        n, got = 2 * len(ips), {}
        barrier, board = threading.Barrier(n), {}

        def rank(i):
            here.name, here.ips = list(ips.items())[i // 2]
            comm = Ranks(i, list(range(n)), barrier, board)
            node = [i - i % 2, i - i % 2 + 1]
            try:
                got[i] = function(comm, Ranks(i, node, barrier, board))
            except StreamError as error:
                got[i] = str(error)

        threads = [threading.Thread(target=rank, args=(i,)) for i in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        return [got[i] for i in range(n)]

    return call


def test_every_rank_gets_the_address_at_which_its_host_was_reached(on_hosts):
    got = on_hosts(
        lambda comm, node: agree_on_address(comm, node, None),
        one=["127.0.1.1", "127.0.0.2"],
        two=["127.0.1.1", "127.0.0.3"],
        three=["127.0.0.4"],
    )
    assert got == ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.4", "127.0.0.4"]


def test_every_rank_gets_the_same_refusal(on_hosts):
    got = on_hosts(
        lambda comm, node: agree_on_address(comm, node, "127.0.1.0/24"),
        one=["127.0.1.1", "127.0.0.2"],
        two=["127.0.1.2", "127.0.0.3"],
    )
    assert len(set(got)) == 1
    assert got[0].startswith("one cannot be reached from two at 127.0.1.1 (eth0: connection refused): ")
    got = on_hosts(lambda comm, node: agree_on_address(comm, node, "ib0"), one=["127.0.0.2"], two=["127.0.0.3"])
    assert len(set(got)) == 1
    assert got[0].startswith("one (like 1 other host) has no IPv4 address on an interface ib0")


def test_nodes_that_share_no_stream_do_not_ask(on_hosts):
    got = on_hosts(
        lambda comm, node: agree_on_address(comm, node, "127.0.1.0/24", partners=[(0, 1), (2, 3)]),
        one=["127.0.1.1", "127.0.0.2"],
        two=["127.0.1.2", "127.0.0.3"],
    )
    assert got == ["127.0.1.1", "127.0.1.1", "127.0.1.2", "127.0.1.2"]


def test_on_one_host_nothing_is_asked(on_hosts, monkeypatch):
    def agree(comm, node):
        return agree_on_address(comm, node, None)

    assert on_hosts(agree, one=["127.0.0.2"]) == ["127.0.0.1"] * 2
    assert on_hosts(lambda comm, node: agree_on_address(comm, node, "eth0"), one=["127.0.0.2"]) == ["127.0.0.2"] * 2
    monkeypatch.setenv("ADIOS2_INTERFACE", "hsn0")
    assert on_hosts(agree, one=["127.0.0.2"]) == [None] * 2


def test_the_check_names_the_address_of_every_host(on_hosts):
    def check(comm, node):
        return self_test(comm, node, None)

    found = on_hosts(check, one=["127.0.0.2"], two=["127.0.1.2", "127.0.0.3"], three=["127.0.0.4"])
    assert (
        found[0]
        == found[5]
        == [
            ("address of one", True, "127.0.0.2 (eth0), reached from 2 other hosts"),
            ("address of two", True, "127.0.0.3 (eth0), reached from 2 other hosts"),
            ("address of three", True, "127.0.0.4 (eth0), reached from 2 other hosts"),
        ]
    )
    assert on_hosts(check, one=["127.0.0.2"])[0] == [("address", True, "127.0.0.1: all ranks are on one host")]
    ((name, ok, detail),) = on_hosts(lambda comm, node: self_test(comm, node, "ib7"), one=["127.0.0.2"])[0]
    assert (name, ok) == ("addresses", False)
    assert detail.startswith("one has no IPv4 address on an interface ib7")


class Alone:
    """A communicator of one rank."""

    def __getattr__(self, name):
        return {
            "Dup": lambda: self,
            "Get_rank": lambda: 0,
            "Get_size": lambda: 1,
            "Set_name": lambda _: None,
            "allgather": lambda value: [value],
        }[name]


def test_a_start_that_is_refused_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StreamError, match="interface ib7"):
        Network(Alone(), Alone(), StreamsSection(interface="ib7"), tmp_path)
    assert not list(tmp_path.iterdir())
