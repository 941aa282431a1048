"""The address that SST publishes for each host: one at which the others have reached it, in a test at the start.

A host has many addresses, and its routes do not say which of them another host can use: the bridge of a container
runtime has the same address everywhere, a management network may join some hosts only. So the first rank of every node
listens, the nodes that share a stream with it connect to all its addresses, and the first one that works for all of
them is published. Work and connections grow with the number of streams, not with the square of the nodes.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import zip_longest

from ..errors import StreamError
from .interfaces import Address, interface_addresses, matching
from .reachability import PORT_RANGE, Listener, probe
from .waiting import OPEN_SECONDS, Communicator, wait_until

LOOPBACK = "127.0.0.1"
SETTING = "streams.interface"
#: By these the environment chooses with a name, which SST looks up itself.
BY_NAME = ("ADIOS2_INTERFACE", "ADIOS2_HOSTNAME")
#: Where Open MPI and MPICH (UCX, libfabric, ch3) are told which interfaces or networks to use.
OF_MPI = ("OMPI_MCA_btl_tcp_if_include", "UCX_NET_DEVICES", "FI_TCP_IFACE", "MPIR_CVAR_NEMESIS_TCP_NETWORK_IFACE")
#: How long to wait for an address that does not answer when another one has, and when none has, s.
QUICK_SECONDS, PATIENT_SECONDS = 0.5, 3.5
#: From how many others `ddmd-mpi check` tries to reach a host.
NEIGHBOURS = 16

SUCH_AS = "the name of an interface that every host has, or the network that all hosts share, such as 10.1.0.0/16"
CURE = (
    f"set {SETTING} to {SUCH_AS}; or let TCP pass between the hosts; or use no network for streams: "
    "streams.engine=BP5, or streams.first_hop=mpi if only simulations are on other hosts"
)
#: Of each pair of hosts (who asked, who was asked), by address: the host that answered, or in words why none did.
Answers = dict[tuple[int, int], dict[str, int | str]]


@dataclass(frozen=True)
class Host:
    """What the first rank of a node says of its host.

    Parameters
    ----------
    rank
        Of that first rank.
    addresses
        What may be published; empty if the environment has chosen by a name.
    port, token
        Where it listens, and what it answers.
    problem
        Why nothing can be published; empty if something can.
    """

    rank: int
    name: str
    addresses: tuple[Address, ...] = ()
    port: int = 0
    token: bytes = b""
    problem: str = ""


def agree_on_address(
    comm: Communicator, node_comm: Communicator, wanted: str | None, partners: Iterable[tuple[int, int]] | None = None
) -> str | None:
    """The address that this process publishes; None leaves it to the environment. Collective over `comm`.

    Parameters
    ----------
    comm, node_comm
        All ranks, and those of this node.
    wanted
        The setting ``streams.interface``.
    partners
        Pairs of ranks that share a stream; None: all with all.

    Raises
    ------
    StreamError
        On all ranks the same, if a host has no such interface or cannot be reached.
    """
    if wanted is None and node_comm.Get_size() == comm.Get_size():
        return None if {"ADIOS2_IP", *BY_NAME} & set(os.environ) else LOOPBACK
    nodes = comm.allgather(node_comm.allgather(comm.Get_rank())[0])
    chosen = survey(comm, nodes, wanted, across(nodes, partners))
    return {host.rank: ip for host, ip in chosen}[nodes[comm.Get_rank()]]


def self_test(comm: Communicator, node_comm: Communicator, wanted: str | None) -> list[tuple[str, bool, str]]:
    """The test of a start, with all hosts as partners of their neighbours. Collective over `comm`.

    Parameters
    ----------
    comm, node_comm
        All ranks, and those of this node.
    wanted
        A value of ``streams.interface``.

    Returns
    -------
    list of (name, ok, detail)
        The same on all ranks.
    """
    nodes = comm.allgather(node_comm.allgather(comm.Get_rank())[0])
    firsts = sorted(set(nodes))
    n_neighbours = min(NEIGHBOURS, len(firsts) - 1)
    ring = [(a, firsts[(i + j) % len(firsts)]) for i, a in enumerate(firsts) for j in range(1, n_neighbours + 1)]
    if not ring and wanted is None:
        return [("address", True, f"{LOOPBACK}: all ranks are on one host")]
    try:
        chosen = survey(comm, nodes, wanted, across(nodes, ring))
    except StreamError as error:
        return [("addresses", False, str(error))]
    return [(f"address of {host.name}", True, _detail(host, ip, n_neighbours)) for host, ip in chosen]


def _detail(host: Host, ip: str | None, n_neighbours: int) -> str:
    interface = next((address.interface for address in host.addresses if address.ip == ip), None)
    if interface is None:
        return f"not tested: {' or '.join(BY_NAME)} is set"
    return f"{ip} ({interface}), reached from {n_neighbours} other host{'s' * (n_neighbours != 1)}"


def across(nodes: Sequence[int], partners: Iterable[tuple[int, int]] | None) -> list[tuple[int, int]]:
    """The pairs of nodes that share a stream, both ways round.

    Parameters
    ----------
    nodes
        The node of each rank, by the node's first rank.
    partners
        Pairs of ranks; None: all.
    """
    if partners is None:
        return [(a, b) for a in sorted(set(nodes)) for b in sorted(set(nodes)) if a != b]
    ends = {(nodes[a], nodes[b]) for a, b in partners if nodes[a] != nodes[b]}
    return sorted(ends | {(b, a) for a, b in ends})


def survey(
    comm: Communicator, nodes: Sequence[int], wanted: str | None, pairs: Sequence[tuple[int, int]]
) -> list[tuple[Host, str | None]]:
    """Every host and its address. Collective over `comm`.

    Parameters
    ----------
    nodes
        The node of each rank, by the node's first rank.
    wanted
        The setting ``streams.interface``.
    pairs
        Who must reach whom, nodes by their first ranks.
    """
    rank = comm.Get_rank()
    with ExitStack() as stack:
        me, listener = None, None
        if nodes[rank] == rank:
            me, listener = introduce(rank, wanted, any(rank in pair for pair in pairs))
        if listener is not None:
            stack.enter_context(listener)
        hosts = {host.rank: host for host in comm.allgather(me) if host is not None}
        refuse_problems(hosts)
        asked = [hosts[b] for a, b in pairs if a == rank]
        try:
            chosen = choose(hosts, ask(comm, hosts, asked, listener, QUICK_SECONDS))
        except StreamError:  # all ranks have the same one: an address was slow, perhaps
            chosen = choose(hosts, ask(comm, hosts, asked, listener, PATIENT_SECONDS))
    return [(host, chosen[host.rank]) for host in hosts.values()]


def introduce(rank: int, wanted: str | None, listens: bool) -> tuple[Host, Listener | None]:
    """This host, and its listener if it needs one."""
    name = socket.gethostname()
    try:
        host = Host(rank, name, candidates(wanted, interface_addresses(), os.environ))
        listener = Listener(ports=os.environ.get(PORT_RANGE, "")) if listens else None
    except StreamError as error:
        return Host(rank, name, problem=str(error)), None
    return (replace(host, port=listener.port, token=listener.token) if listener else host), listener


def candidates(wanted: str | None, found: Sequence[Address], environment: Mapping[str, str]) -> tuple[Address, ...]:
    """The addresses of a host that may be published.

    Raises
    ------
    StreamError
        If there is none, in words that follow the host's name.
    """
    if wanted is not None:
        chosen = matching(found, wanted)
        if not chosen:
            what = "address in" if "/" in wanted else "IPv4 address on an interface"
            has = ", ".join(map(str, found)) or "no IPv4 address"
            raise StreamError(
                f"has no {what} {wanted}, which {SETTING} asks for; it has {has}: set {SETTING} to {SUCH_AS}"
            )
        return chosen
    if "ADIOS2_IP" in environment:
        return (_given(environment["ADIOS2_IP"]),)
    if set(BY_NAME) & set(environment):
        return ()
    if not found:
        raise StreamError("has no network interface with an IPv4 address: bring one up")
    names = [name.strip() for variable in OF_MPI for name in environment.get(variable, "").split(",")]
    of_mpi = {address for name in names for address in matching(found, name)}
    return tuple(replace(address, of_mpi=address in of_mpi) for address in found)


def _given(ip: str) -> Address:
    try:
        return Address("ADIOS2_IP", str(ipaddress.IPv4Address(ip)), f"{ip}/32")
    except ValueError as error:
        raise StreamError(f"has ADIOS2_IP={ip} in its environment, which is not an IPv4 address: unset it") from error


def refuse_problems(hosts: Mapping[int, Host]) -> None:
    """Raise the first host's problem, and say how many others have one."""
    troubled = [host for host in hosts.values() if host.problem]
    if troubled:
        n_others = len(troubled) - 1
        others = f" (like {n_others} other host{'s' * (n_others > 1)})" if n_others else ""
        raise StreamError(f"{called(troubled[0], hosts)}{others} {troubled[0].problem}")


def ask(
    comm: Communicator, hosts: Mapping[int, Host], asked: Sequence[Host], listener: Listener | None, seconds: float
) -> Answers:
    """Connect to all addresses of the hosts `asked`; what all ranks have heard. Collective over `comm`.

    Once every host has answered, the addresses that have not are given `seconds` since the start.
    """
    start, rank = time.monotonic(), comm.Get_rank()
    rank_of = {host.token: host.rank for host in hosts.values() if host.token}
    open_to_us = [host for host in asked if host.addresses]

    def enough(answers: Mapping[tuple[str, int], bytes | str]) -> bool:
        if time.monotonic() < start + seconds:
            return False
        return all(host.rank in heard(answers, host, rank_of).values() for host in open_to_us)

    def serve() -> None:
        if listener is not None:
            listener.answer()

    answers = probe(best_first(open_to_us, hosts.get(rank)), PATIENT_SECONDS, serve, enough)
    all_done = comm.Ibarrier()  # in an allgather this host would not answer those that are not done

    def done() -> bool:
        serve()
        return all_done.Test()

    wait_until(done, OPEN_SECONDS, "the other hosts")
    mine = {(rank, host.rank): heard(answers, host, rank_of) for host in asked}
    return {pair: answer for everybodys in comm.allgather(mine) for pair, answer in everybodys.items()}


def best_first(asked: Sequence[Host], asker: Host | None) -> list[tuple[str, int]]:
    """Address and port to try: of every host the one that the asker prefers, then of every host the next one."""
    rows = zip_longest(*(in_order(host, [asker]) for host in asked)) if asker is not None else ()
    tries = [(address.ip, host.port) for row in rows for address, host in zip(row, asked, strict=True) if address]
    return list(dict.fromkeys(tries))


def heard(
    answers: Mapping[tuple[str, int], bytes | str], host: Host, rank_of: Mapping[bytes, int]
) -> dict[str, int | str]:
    """Who has answered at each address of a host, by the tokens in the answers."""
    by_ip = {address.ip: answers.get((address.ip, host.port), "") for address in host.addresses}
    return {
        ip: rank_of.get(answer, "another program answers") if isinstance(answer, bytes) else answer
        for ip, answer in by_ip.items()
    }


def choose(hosts: Mapping[int, Host], answers: Answers) -> dict[int, str | None]:
    """The address of each host: the first one at which all that asked have reached it.

    Raises
    ------
    StreamError
        If there is none.
    """
    by_asked: dict[int, dict[int, dict[str, int | str]]] = defaultdict(dict)
    for (asker, asked), answer in answers.items():
        by_asked[asked][asker] = answer
    choice: dict[int, str | None] = {}
    for rank, host in hosts.items():
        preferred = in_order(host, [hosts[asker] for asker in by_asked[rank]])
        works = (a.ip for a in preferred if all(answer[a.ip] == rank for answer in by_asked[rank].values()))
        choice[rank] = next(works, None)
        if preferred and choice[rank] is None:
            raise StreamError(unreached(hosts, host, by_asked[rank]))
    return choice


def in_order(host: Host, askers: Sequence[Host]) -> list[Address]:
    """The addresses of a host in order of preference.

    First those that MPI is told to use, then InfiniBand, then those in the networks of most of the hosts that ask.
    """
    networks = Counter(network for asker in askers for network in {address.network for address in asker.addresses})
    return sorted(host.addresses, key=lambda a: (not a.of_mpi, not a.infiniband, -networks[a.network]))


def unreached(hosts: Mapping[int, Host], host: Host, answers: Mapping[int, Mapping[str, int | str]]) -> str:
    """Why a host has no address that works for all: in one sentence, with the cure."""
    name = called(host, hosts)
    twins = {
        a.ip: [h for h in hosts.values() if h is not host and a.ip in {b.ip for b in h.addresses}]
        for a in host.addresses
    }
    if all(twins.values()):
        ip = host.addresses[0].ip
        return (
            f"{name} and {called(twins[ip][0], hosts)} have the same address, {ip}, so streams cannot tell them "
            f"apart: give each host an address of its own, or set {SETTING} to {SUCH_AS}"
        )
    deaf = next((asker for asker, answer in answers.items() if host.rank not in answer.values()), None)
    if deaf is None:
        ways = ", ".join(
            f"from {called(hosts[asker], hosts)} at {_first_that_works(answer, host.rank)}"
            for asker, answer in list(answers.items())[:3]
        )
        return f"{name} has no address at which all hosts reach it ({ways}), and SST can publish only one: {CURE}"
    tried = ", ".join(
        f"{address.ip} ({address.interface}: {_why(answers[deaf][address.ip], hosts)})" for address in host.addresses
    )
    return f"{name} cannot be reached from {called(hosts[deaf], hosts)} at {tried}: {CURE}"


def _first_that_works(answer: Mapping[str, int | str], rank: int) -> str:
    return next(ip for ip, who in answer.items() if who == rank)


def _why(answer: int | str, hosts: Mapping[int, Host]) -> str:
    return answer if isinstance(answer, str) else f"{called(hosts[answer], hosts)} answers"


def called(host: Host, hosts: Mapping[int, Host]) -> str:
    """Name of a host, with its rank if other hosts have the same name."""
    same = sum(other.name == host.name for other in hosts.values())
    return host.name if same == 1 else f"{host.name} (rank {host.rank})"
