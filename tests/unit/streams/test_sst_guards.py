"""The guards that SST needs."""

import base64
import socket
import threading
import time

import pytest

from ddmd_mpi.streams import sst_guards


def has_nodelay(one):
    return bool(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def test_every_stream_socket_and_what_listening_ones_accept_loses_its_delay():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        server.accept()[0].close()
        assert not has_nodelay(client)
        sst_guards.disable_nagle()
        assert has_nodelay(client)
        with socket.create_connection(server.getsockname()), server.accept()[0] as accepted:
            assert has_nodelay(accepted)


class NodeComm:
    """One rank of a node of threads."""

    def __init__(self, rank, pids, mail, barrier):
        self.rank, self.pids, self.mail, self.barrier = rank, pids, mail, barrier

    def Get_rank(self):  # noqa: N802
        return self.rank

    def allgather(self, _):
        self.barrier.wait()
        return self.pids

    def iprobe(self, source, tag):
        return (source, self.rank) in self.mail

    def recv(self, source, tag):
        self.mail.discard((source, self.rank))

    def send(self, value, dest, tag):
        self.mail.add((self.rank, dest))


@pytest.mark.parametrize("fails", [None, 2])
def test_processes_take_their_turn_in_the_order_of_their_ids(fails):
    pids, mail, barrier, turns = [40, 10, 30, 20], set(), threading.Barrier(4), []

    def action(rank):
        turns.append(pids[rank])
        time.sleep(0.005)
        turns.append(pids[rank])
        if rank == fails:
            raise ValueError

    def run(rank):
        try:
            sst_guards.in_pid_order(NodeComm(rank, pids, mail, barrier), lambda: action(rank))
        except ValueError:
            assert rank == fails

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert turns == [10, 10, 20, 20, 30, 30, 40, 40]


def contact(identity):
    attributes = bytes(12) + sst_guards.MANAGER_ID + identity
    return f"#ADIOS2-SST v0\n0x55d8:{base64.b64encode(attributes).decode()}\n"


def test_the_identity_is_read_from_a_contact_text():
    assert sst_guards.process_id(contact(b"\x01\x02\x03\x04")) == b"\x01\x02\x03\x04"
    assert sst_guards.process_id("0x55d8:not base64!") is None
    assert sst_guards.process_id("0x55d8:" + base64.b64encode(bytes(24)).decode()) is None


def test_all_but_the_lowest_rank_of_one_identity_must_open_again():
    assert sst_guards.clashes([b"a", b"b", b"a", None, None, b"b", b"c", b"a"]) == [2, 5, 7]


def test_only_ranks_that_share_a_peer_must_differ():
    ends = [(0, 2), (1, 2), (3, 5), (4, 5), (2, 6), (5, 6)]  # two aggregators, 2 and 5, and one inference rank, 6
    groups = sst_guards.circles(ends)
    assert {frozenset(g) for g in groups} >= {frozenset({0, 1, 2, 6}), frozenset({3, 4, 5, 6}), frozenset({2, 5, 6})}
    assert sst_guards.clashes([b"a", b"b", b"c", b"a", b"b", b"d", b"e"], groups) == [], "0 and 3, 1 and 4 never meet"
    assert sst_guards.clashes([b"a", b"a", b"c", b"d", b"e", b"c", b"d"], groups) == [1, 5, 6]


def test_sst_is_told_the_address_or_left_to_the_environment(monkeypatch):
    monkeypatch.setenv("ADIOS2_IP", "10.77.0.9")
    sst_guards.set_own_address(None)
    assert sst_guards.os.environ["ADIOS2_IP"] == "10.77.0.9"
    sst_guards.set_own_address("10.77.0.1")
    assert sst_guards.os.environ["ADIOS2_IP"] == "10.77.0.1"
