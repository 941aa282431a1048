"""Who answers at an address: real connections, on addresses of loopback."""

import os
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from ddmd_mpi.errors import StreamError
from ddmd_mpi.streams import reachability
from ddmd_mpi.streams.reachability import Listener, probe


def never(_):
    return False


@contextmanager
def full():
    """A port that answers no connection, as behind a firewall that drops packets."""
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind(("127.0.0.4", 0))
        listening.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        yield listening.getsockname()


def test_every_address_says_who_answers_or_why_nobody_does():
    with (
        Listener("127.0.0.2") as one,
        Listener("127.0.0.3") as other,
        full() as silent,
        socket.create_server(("127.0.0.5", 0)) as foreign,
    ):
        targets = [
            ("127.0.0.2", one.port),
            ("127.0.0.3", other.port),
            ("127.0.0.6", one.port),
            silent,
            foreign.getsockname(),
            ("255.255.255.255", one.port),
        ]

        def answer():
            one.answer()
            other.answer()
            foreign.setblocking(False)
            try:
                foreign.accept()[0].close()
            except BlockingIOError:
                return

        answers = probe(targets, 0.3, answer, never)
        assert one.token != other.token
        assert [answers[t] for t in targets[:2]] == [one.token, other.token]
        assert answers["127.0.0.6", one.port] == "connection refused"
        assert answers[silent] == "timed out"
        assert answers[foreign.getsockname()] == "another program answers"
        assert isinstance(answers["255.255.255.255", one.port], str)


def test_two_hosts_that_ask_each_other_at_a_time_answer_each_other():
    answers = {}

    def host(me, other):
        answers[me] = probe([other_target(other)], 10, me.answer, never)

    def other_target(listener):
        return "127.0.0.1", listener.port

    with Listener() as a, Listener() as b:
        threads = [threading.Thread(target=host, args=pair) for pair in ((a, b), (b, a))]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):  # one may have what it asked before the other asks
            a.answer()
            b.answer()
        assert answers == {a: {("127.0.0.1", b.port): b.token}, b: {("127.0.0.1", a.port): a.token}}


def test_no_more_connections_are_open_than_a_process_may_have(monkeypatch):
    monkeypatch.setattr(reachability, "MAX_AT_ONCE", 2)
    with Listener() as listener, full() as silent:
        n_before, most = len(os.listdir("/proc/self/fd")), []

        def answer():
            most.append(len(os.listdir("/proc/self/fd")) - n_before)
            listener.answer()

        reachable = [(f"127.0.0.{i}", listener.port) for i in range(1, 20)]
        answers = probe([silent, *reachable], 0.2, answer, never)
    assert answers == {silent: "timed out"} | dict.fromkeys(reachable, listener.token)
    assert max(most) <= 3  # with the selector


def test_what_is_enough_is_not_waited_for_longer():
    with Listener("127.0.0.2") as listener, full() as silent:
        start = time.monotonic()
        answers = probe([silent, ("127.0.0.2", listener.port)], 60, listener.answer, lambda got: bool(got))
        assert answers == {silent: "timed out", ("127.0.0.2", listener.port): listener.token}
        assert time.monotonic() - start < 30


def test_a_listener_keeps_to_the_ports_that_streams_may_use():
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StreamError, match=f"ADIOS2_PORT_RANGE={port}:{port}"):
            Listener("127.0.0.2", f"{port}:{port}")
        with Listener("127.0.0.2", f"{port + 20}:{port}") as listener:
            assert port < listener.port <= port + 20
    with Listener("127.0.0.2", "nonsense") as listener:
        assert listener.port
