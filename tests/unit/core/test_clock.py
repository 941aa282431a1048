"""The awake clock: what counts as time in which this process could run."""

import pytest

from ddmd_mpi.clock import MAX_SECONDS, AwakeClock


class Machine:
    """A clock and a processor time of the test's own."""

    def __init__(self):
        self.now, self.work = 100.0, 3.0
        self.clock = AwakeClock(lambda: self.now, lambda: self.work)

    def pass_by(self, seconds, work=0.0):
        self.now, self.work = self.now + seconds, self.work + work
        return self.clock()


@pytest.fixture
def machine():
    """One whose clock is looked at by the test only, as if by its thread."""
    found = Machine()
    found.clock._thread = object()
    return found


def test_it_is_the_underlying_clock_while_nothing_is_suspended(machine):
    for _ in range(100):
        machine.pass_by(0.2)
    assert machine.clock() == pytest.approx(120.0)


def test_it_stands_still_while_the_process_is_stopped(machine):
    machine.pass_by(0.2)
    assert machine.pass_by(3600.0) == pytest.approx(100.2 + MAX_SECONDS)
    assert machine.pass_by(0.3) == pytest.approx(100.5 + MAX_SECONDS)


def test_a_process_that_computes_without_letting_its_thread_look_is_awake(machine):
    assert machine.pass_by(30.0, work=30.0) == pytest.approx(130.0)
    assert machine.pass_by(10.0, work=40.0) == pytest.approx(140.0), "four threads compute no longer than time passes"


def test_without_its_thread_it_leaves_nothing_out():
    assert Machine().pass_by(3600.0) == 3700.0


def test_its_thread_looks(monkeypatch):
    clock = AwakeClock()
    clock.start()
    first = clock._looked
    clock._thread.join(1.0)
    assert clock._looked > first
