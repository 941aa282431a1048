"""The guards that SST needs."""

import base64
import socket
import threading
import time

import pytest

from ddmd_mpi.streams import guards


def has_nodelay(one):
    return bool(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def test_every_stream_socket_and_what_listening_ones_accept_loses_its_delay():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        server.accept()[0].close()
        assert not has_nodelay(client)
        guards.disable_nagle()
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
            guards.in_pid_order(NodeComm(rank, pids, mail, barrier), lambda: action(rank))
        except ValueError:
            assert rank == fails

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert turns == [10, 10, 20, 20, 30, 30, 40, 40]


def contact(identity):
    attributes = bytes(12) + guards.MANAGER_ID + identity
    return f"#ADIOS2-SST v0\n0x55d8:{base64.b64encode(attributes).decode()}\n"


def test_the_identity_is_read_from_a_contact_text():
    assert guards.process_id(contact(b"\x01\x02\x03\x04")) == b"\x01\x02\x03\x04"
    assert guards.process_id("0x55d8:not base64!") is None
    assert guards.process_id("0x55d8:" + base64.b64encode(bytes(24)).decode()) is None


def test_all_but_the_lowest_rank_of_one_identity_must_open_again():
    assert guards.clashes([b"a", b"b", b"a", None, None, b"b", b"c", b"a"]) == [2, 5, 7]


def test_an_address_that_the_user_chose_is_kept(monkeypatch):
    for name in ("ADIOS2_IP", "ADIOS2_INTERFACE", "ADIOS2_HOSTNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ADIOS2_INTERFACE", "hsn0")
    guards.set_own_address(one_node=True)
    assert "ADIOS2_IP" not in guards.os.environ
    monkeypatch.delenv("ADIOS2_INTERFACE")
    guards.set_own_address(one_node=True)
    assert guards.os.environ["ADIOS2_IP"] == "127.0.0.1"
    monkeypatch.delenv("ADIOS2_IP")
    guards.set_own_address(one_node=False)
    assert socket.inet_aton(guards.os.environ["ADIOS2_IP"])
    monkeypatch.delenv("ADIOS2_IP")
