"""Walkers are made ready in a thread, cheapest first, and nobody waits for it."""

import time
from threading import Event
from types import SimpleNamespace

import pytest

from ddmd_mpi.errors import EngineError
from ddmd_mpi.roles.preparation import Preparation


class Walker:
    """Is prepared when `gate` opens or the preparation is cancelled."""

    def __init__(self, n_atoms, gate, error=None):
        self.engine, self.gate, self.error = SimpleNamespace(n_atoms=n_atoms), gate, error
        self.topology, self.ready, self.cancelled = n_atoms, True, False

    def prepare(self, stop):
        while not self.gate.is_set() and not stop():
            time.sleep(0.001)
        self.cancelled = stop()
        if self.error:
            raise self.error


def wait_for(preparation):
    deadline = time.monotonic() + 10
    while (done := preparation.done()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return done


@pytest.fixture
def gates():
    return Event(), Event(), Event()


def test_the_smallest_is_ready_first_and_the_others_wait_their_turn(gates):
    walkers = [Walker(n, gate) for n, gate in zip((900, 20, 300), gates, strict=True)]
    preparation = Preparation(walkers)
    assert [w.ready for w in walkers] == [False] * 3
    assert preparation.done() is None
    order = []
    for n_left, n_atoms in ((3, 20), (2, 300), (1, 900)):
        assert (len(preparation), preparation.topology) == (n_left, n_atoms)
        next(w for w in walkers if w.engine.n_atoms == n_atoms).gate.set()
        order.append(wait_for(preparation)[0].engine.n_atoms)
    assert order == [20, 300, 900]
    assert all(w.ready for w in walkers)
    assert (len(preparation), preparation.topology, preparation.done()) == (0, -1, None)
    preparation.free()


def test_a_start_that_fails_says_so_to_who_asks(gates):
    gates[0].set()
    preparation = Preparation([Walker(5, gates[0], EngineError("NaN"))])
    _, result = wait_for(preparation)
    with pytest.raises(EngineError, match="NaN"):
        result.result()
    preparation.free()


def test_the_end_of_the_run_does_not_wait_for_it(gates):
    walkers = [Walker(5, gates[0]), Walker(6, gates[1])]
    Preparation(walkers).free()
    assert walkers[0].cancelled
    assert not walkers[1].ready
