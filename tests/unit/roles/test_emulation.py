"""Emulated time, on a clock of the test's own."""

import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from doubles import BOX, CountingEngine, EnginePool

from ddmd_mpi import config
from ddmd_mpi.frames.command import RestartCommand
from ddmd_mpi.md.topologies import check_topologies
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.roles import emulation
from ddmd_mpi.roles.emulation import EmulatedPropagator, stage_seconds, wait_until
from ddmd_mpi.roles.walker import Walker


class Clock:
    """Seconds that pass by sleeping only."""

    def __init__(self):
        self.now, self.slices = 100.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slices.append(seconds)
        self.now += seconds


TRAJECTORY = SimpleNamespace(append=lambda *_, **__: 0, begin_segment=lambda *_: None, free=lambda: None)
FEATURES = SimpleNamespace(compute=lambda *_: {"rmsd": 1.0, "order_parameters": []})


def settings(*assignments):
    return config.load(
        "cln025",
        assignments=(
            "simulation.engine=emulated",
            "simulation.timestep_fs=1",
            "simulation.report_interval_ps=0.01",
            "simulation.segment_ps=0.03",
            "emulation.report_seconds=2",
            *assignments,
        ),
    )


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def events():
    return EventLog(None, "simulation", 0)


def emulated(index, events, clock):
    pool = EnginePool(lambda _: CountingEngine(), FEATURES)
    propagator = EmulatedPropagator(index, settings(), events, clock)
    return Walker(index, pool, 0, TRAJECTORY, propagator, settings(), events)


@pytest.fixture
def walker(clock, events):
    return emulated(3, events, clock)


def never():
    return False


def test_a_report_is_there_when_its_time_has_come(walker, clock):
    assert not walker.propagator.under_way
    assert walker.report(never) is None
    assert walker.propagator.under_way
    clock.now += 1.9
    assert walker.report(never) is None
    assert walker.propagator.left_s == pytest.approx(0.1)
    clock.now += 0.1
    row = walker.report(never)
    assert row["positions"][0, 0] == 10
    assert (walker.propagator.under_way, walker.propagator.left_s, walker.frames) == (False, 0.0, 1)


def test_two_walkers_of_a_rank_go_on_side_by_side(clock, events):
    walkers = [emulated(i, events, clock) for i in (0, 1)]
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
    assert walker.propagator.left_s == 2.0
    clock.now += 2.0
    row = walker.report(never)
    assert (row["positions"][0, 0], row["segment"], row["decision"]) == (1010, 1, 7)


def test_emulated_seconds_are_counted_as_molecular_dynamics(walker, clock, events):
    for _ in range(3):
        walker.report(never)
        clock.now += 5.0
        walker.report(never)
    assert events.seconds("md") == pytest.approx(6.0)
    assert walker.propagator.steps == 30


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


#: What a rank with emulated walkers does, but for the streams: it takes a prepared topology, and reports.
RANK = """
import pickle, sys
from pathlib import Path
from ddmd_mpi.roles.ensemble import EmulatedPropagator, EnginePool, Trajectory, Walker, check_engine, engine_maker
import ddmd_mpi.connect, ddmd_mpi.roles.simulation
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.monitor.status import peak_memory_mb

config, prepared = pickle.loads(Path(sys.argv[1]).read_bytes())
platform = check_engine(config, prepared.n_atoms, None)
bodies = EnginePool(config, lambda _: prepared, engine_maker(config, None, platform))
with Trajectory(Path(sys.argv[1]).parent, 0, prepared.structures, config.simulation) as trajectory:
    events = EventLog(None, "simulation", 0)
    walker = Walker(0, bodies, 0, trajectory, EmulatedPropagator(0, config, events), config, events)
    while walker.frames < 3:
        walker.report(lambda: False)
print([name for name in ("openmm", "scipy", "pdbfixer", "tensorflow", "h5py") if name in sys.modules], peak_memory_mb())
"""


def peak_of_a_rank(directory: Path, given: bytes, before: str = "") -> tuple[str, float]:
    """The heavy packages that such a rank loaded, and its peak memory in MB; ``before`` runs first in its process."""
    directory.mkdir()
    (directory / "given").write_bytes(given)
    command = [sys.executable, "-c", before + RANK, directory / "given"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded, peak_mb = shown.stdout.rsplit(maxsplit=1)
    return loaded, float(peak_mb)


def test_a_rank_with_emulated_walkers_is_small(tmp_path):
    """It loads neither OpenMM, which needs 10 MB and its System more, nor SciPy, which needs 35 MB."""
    emulated = config.load("cln025", assignments=("simulation.engine=emulated", "emulation.report_seconds=0.01"))
    (topology,) = check_topologies(emulated)
    given = pickle.dumps((emulated, topology.prepared(simulated=False)))
    loaded, peak_mb = peak_of_a_rank(tmp_path / "lean", given)
    assert loaded == "[]"
    _, with_openmm_mb = peak_of_a_rank(tmp_path / "with-openmm", given, "import openmm")
    assert peak_mb < 0.95 * with_openmm_mb
