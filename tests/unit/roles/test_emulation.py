"""Emulated time, on a clock of the test's own."""

from types import SimpleNamespace

import numpy as np
import pytest
from bodies import Bodies

from ddmd_mpi import config
from ddmd_mpi.events import EventLog
from ddmd_mpi.frames import RestartCommand
from ddmd_mpi.roles import emulation
from ddmd_mpi.roles.emulation import EmulatedWalker, stage_seconds, wait_until

BOX = np.zeros((3, 3), np.float32)


class Clock:
    """Seconds that pass by sleeping only."""

    def __init__(self):
        self.now, self.slices = 100.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slices.append(seconds)
        self.now += seconds


class Engine:
    """Counts steps as positions."""

    def __init__(self):
        self.x = 0.0

    def start(self, seed):
        self.x = 0.0

    def set_state(self, positions, velocities=None, box=None, seed=1):
        self.x = float(positions[0, 0])

    def advance(self, n_steps):
        self.x += n_steps

    def state(self):
        return SimpleNamespace(positions=np.full((2, 3), self.x), velocities=BOX, box=BOX, potential_energy=0.0)

    def free(self):
        pass


TRAJECTORY = SimpleNamespace(append=lambda *_, **__: 0, begin_segment=lambda *_: None, free=lambda: None)
FEATURES = SimpleNamespace(compute=lambda *_: {"rmsd": 1.0, "order_parameters": []})


def settings(*assignments):
    return config.load("cln025", assignments=(
        "simulation.engine=emulated", "simulation.timestep_fs=1", "simulation.report_interval_ps=0.01",
        "simulation.segment_ps=0.03", "emulation.report_seconds=2", *assignments))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def events():
    return EventLog(None, "simulation", 0)


@pytest.fixture
def walker(clock, events):
    return EmulatedWalker(3, Bodies(lambda _: Engine(), FEATURES), 0, TRAJECTORY, settings(), events, clock=clock)


def never():
    return False


def test_a_report_is_there_when_its_time_has_come(walker, clock):
    assert not walker.under_way
    assert walker.report(never) is None
    assert walker.under_way
    clock.now += 1.9
    assert walker.report(never) is None
    assert walker.left_s == pytest.approx(0.1)
    clock.now += 0.1
    row = walker.report(never)
    assert row["positions"][0, 0] == 10
    assert (walker.under_way, walker.left_s, walker.frames) == (False, 0.0, 1)


def test_two_walkers_of_a_rank_go_on_side_by_side(clock, events):
    walkers = [EmulatedWalker(i, Bodies(lambda _: Engine(), FEATURES), 0, TRAJECTORY, settings(), events, clock=clock)
               for i in (0, 1)]
    for _ in range(3):
        assert [w.report(never) for w in walkers] == [None, None]
        clock.now += 2.0
        assert None not in [w.report(never) for w in walkers]
    assert clock.now == 106.0


def test_a_restart_begins_a_whole_way_to_the_next_report(walker, clock):
    walker.report(never)
    clock.now += 2.0
    walker.report(never)
    walker.restart(RestartCommand(1, 7, 0.0, velocity_seed=9), (np.full((2, 3), 1000.0), BOX, BOX))
    assert walker.report(never) is None
    assert walker.left_s == 2.0
    clock.now += 2.0
    row = walker.report(never)
    assert (row["positions"][0, 0], row["segment"], row["decision"]) == (1010, 1, 7)


def test_emulated_seconds_are_counted_as_molecular_dynamics(walker, clock, events):
    for _ in range(3):
        walker.report(never)
        clock.now += 5.0
        walker.report(never)
    assert events.seconds("md") == pytest.approx(6.0)
    assert walker.steps == 30


def test_jitter_spreads_the_times_and_is_seeded():
    config = settings("emulation.jitter=0.2")
    drawn = np.array([stage_seconds(config, "report", walker, 0) for walker in range(2000)])
    assert drawn.mean() == pytest.approx(2.0, rel=0.02)
    assert drawn.std() / drawn.mean() == pytest.approx(0.2, rel=0.1)
    assert stage_seconds(config, "report", 5, 0) == drawn[5]
    assert stage_seconds(config, "report", 5, 1) != drawn[5]
    assert stage_seconds(settings(), "report", 5, 1) == 2.0
    assert stage_seconds(settings("emulation.training_seconds=7"), "training", 1) == 7.0


@pytest.fixture
def sleepy(monkeypatch, clock):
    monkeypatch.setattr(emulation, "time", SimpleNamespace(monotonic=clock, sleep=clock.sleep))
    return clock


def test_a_stage_is_stretched_in_short_slices(sleepy):
    wait_until(101.0, never)
    assert sleepy.now == pytest.approx(101.0)
    assert max(sleepy.slices) <= emulation.SLICE_SECONDS


def test_a_stage_that_took_longer_is_not_stretched(sleepy):
    wait_until(99.0, never)
    assert sleepy.slices == []


def test_a_stretched_stage_can_be_interrupted(sleepy):
    wait_until(101.0, lambda: sleepy.now >= 100.2)
    assert sleepy.now < 100.3
