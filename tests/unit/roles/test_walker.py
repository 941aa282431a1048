"""A walker's chain of segments: who came from where, and what a failure does."""

import json

import numpy as np
import pytest
from doubles import BOX, CountingEngine, EnginePool

from ddmd_mpi import config
from ddmd_mpi.errors import CheckpointError, DiskError, EngineError
from ddmd_mpi.frames.command import Outcome, RestartCommand
from ddmd_mpi.md.trajectory_repair import History
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.roles.propagator import Propagator
from ddmd_mpi.roles.walker import Walker


class Trajectory:
    """Keeps what it is given, unless its disk is full."""

    full = False

    def __init__(self):
        self.frames, self.segments, self.history, self.path = [], [], History(), "sim"
        self.changes = []

    def change(self, name, topology):
        self.changes.append((name, topology))

    @property
    def n_frames(self):
        return len(self.frames)

    def sync(self):
        pass

    def append(self, positions, time_ps, segment, *_, **__):
        if self.full:
            raise DiskError("the disk is full")
        self.frames.append((segment, float(positions[0, 0])))
        return len(self.frames) - 1

    def begin_segment(self, segment, restart):
        self.segments.append({"segment": segment, "first_frame": len(self.frames), **restart})

    def free(self):
        pass


class Features:
    def compute(self, *_):
        return {
            "rmsd": 1.0,
            "order_parameters": [],
            "ca_positions": None,
            "contact_counts": None,
            "contact_columns": None,
        }


@pytest.fixture
def walker(new):
    return new()


@pytest.fixture
def new():
    """``new(topology=0)`` makes a walker."""
    settings = config.load(
        "cln025",
        assignments=(
            "simulation.timestep_fs=1",
            "simulation.report_interval_ps=0.01",
            "simulation.segment_ps=0.03",
            "simulation.failures_per_walker=3",
        ),
    )
    events = EventLog(None, "simulation", 0)

    def make(topology=0):
        pool = EnginePool(lambda _: CountingEngine(), Features())
        return Walker(3, pool, topology, Trajectory(), Propagator(3, settings, events), settings, events)

    return make


def never():
    return False


def command(**changes):
    values = {
        "kind": 1,
        "decision": 7,
        "decided": 0.0,
        "source_walker": 1,
        "source_segment": 4,
        "source_frame": 55,
        "velocity_seed": 99,
    }
    return RestartCommand(**{**values, **changes})


def coordinates(x):
    return np.full((2, 3), x, np.float32), np.full((2, 3), 5, np.float32), BOX


def test_segments_follow_each_other(walker):
    rows = [walker.report(never) for _ in range(7)]
    assert [r["segment"] for r in rows] == [0, 0, 0, 1, 1, 1, 2]
    assert [r["frame"] for r in rows] == [1, 2, 3, 4, 5, 6, 7]  # frame 0 is the start structure
    first, second, third = walker.trajectory.segments
    assert (first["restart_point"], first["source_walker"]) == (True, -1)
    assert (second["restart_point"], second["source_walker"], second["source_frame"]) == (False, 3, 3)
    assert (third["source_segment"], third["source_frame"]) == (1, 6)
    assert rows[-1]["time"] == pytest.approx(0.07)


def test_a_complete_segment_may_end_before_the_next_begins(walker):
    def ended():
        return walker._events.totals["segment"].count

    walker.report(never)
    walker.close()
    assert (walker.segments.complete, ended()) == (False, 0)
    walker.report(never)
    walker.report(never)
    assert (walker.segments.complete, ended()) == (True, 0)
    walker.close()
    walker.close()
    assert (ended(), walker.segments.ended) == (1, 1)
    assert walker.report(never)["segment"] == 1
    assert ended() == 1
    assert walker.segments.beginning["source_frame"] == 3
    walker.end()
    assert ended() == 2


def test_a_restart_writes_its_restart_point_and_names_its_source(walker):
    walker.report(never)
    receipt = walker.restart(command(), coordinates(1000))
    row = walker.report(never)
    assert receipt.outcome == Outcome.APPLIED
    assert receipt.segment == row["segment"] == 1
    assert row["decision"] == 7
    assert receipt.received <= receipt.first_step
    line = walker.trajectory.segments[-1]
    assert (line["restart_point"], line["source_walker"], line["source_segment"], line["source_frame"]) == (
        True,
        1,
        4,
        55,
    )
    assert line["velocity_seed"] == 99
    assert walker.trajectory.frames[line["first_frame"]] == (1, 1000.0)
    assert ("set_state", 1000.0, True, 99) in walker.engine.calls


def test_the_step_after_a_restart_belongs_to_its_first_report(walker):
    walker.report(never)
    walker.restart(command(), coordinates(1000))
    walker.report(never)
    assert walker.engine.x == 1000 + 10
    walker.report(never)
    assert walker.engine.x == 1000 + 20


def test_every_step_is_counted(walker):
    """Also the first one from a restart point: what is counted is what the engine was asked for."""
    asked = []
    advance = walker.engine.advance
    walker.engine.advance = lambda n_steps: (asked.append(n_steps), advance(n_steps))
    for _ in range(3):
        walker.report(never)
        walker.restart(command(), coordinates(5))
    walker.report(never)
    assert walker.propagator.steps == sum(asked) == 4 * walker._settings.steps_per_report


def test_velocities_are_copied_when_the_command_says_so(walker):
    walker.report(never)
    walker.restart(command(velocity_seed=-1), coordinates(1000))
    assert ("set_state", 1000.0, True, None) in walker.engine.calls


def test_a_failure_goes_back_to_the_last_restart_point_that_was_good(walker):
    walker.report(never)
    walker.restart(command(), coordinates(1000))
    walker.report(never)
    walker.restart(command(decision=8), coordinates(2000))
    walker.engine.broken = True
    with pytest.raises(EngineError) as failure:
        walker.report(never)
    walker.engine.broken = False
    walker.recover(failure.value)
    assert walker.engine.x == 1000.0, "the restart point of decision 8 gave no report: it is not good"
    assert walker.failures == 1
    row = walker.report(never)
    line = walker.trajectory.segments[-1]
    assert (line["source_walker"], line["source_segment"]) == (3, 1)
    assert walker.trajectory.frames[line["source_frame"]] == (1, 1000.0)
    assert row["segment"] == line["segment"]


def test_a_failure_before_any_report_starts_again(walker):
    walker.engine.broken = True
    with pytest.raises(EngineError) as failure:
        walker.report(never)
    walker.recover(failure.value)
    walker.engine.broken = False
    assert walker.report(never)["segment"] == 1
    seeds = [call[1] for call in walker.engine.calls if call[0] == "start"]
    assert len(set(seeds)) == 2


def test_a_walker_that_fails_too_often_is_retired(walker):
    walker.report(never)
    for _ in range(3):
        walker.recover(EngineError("NaN"))
        assert walker.active
    walker.recover(EngineError("NaN"))
    assert not walker.active


def test_an_interrupted_report_gives_no_frame(walker):
    walker.report(never)
    walker.propagator.rate = 1e-3  # one step a call
    assert walker.report(lambda: True) is None
    assert walker.frames == 1


def test_a_frame_of_another_topology_changes_body_file_and_rows(walker):
    walker.report(never)
    left = walker.engine
    walker.restart(command(topology=2), coordinates(1000))
    assert walker.topology == 2
    assert walker.engine is not left
    ((name, structures),) = walker.trajectory.changes
    assert (name, structures.topology) == ("ligand-2", "topology 2")
    assert walker._pool.log[-2:] == [("take", 2, 3), ("put", 0)]
    assert walker.report(never)["topology"] == 2
    assert [line["topology"] for line in walker.trajectory.segments] == ["ligand-0", "ligand-2"]
    walker.restart(command(topology=0), coordinates(500))
    assert walker.engine is left


def test_a_frame_that_another_topology_cannot_take_leaves_the_walker_where_it_is(walker):
    walker.report(never)
    engine = walker.engine

    def broken(_):
        made = CountingEngine()
        made.broken = True
        return made

    walker._pool.make = broken
    with pytest.raises(EngineError):
        walker.restart(command(topology=2), coordinates(1000))
    assert (walker.topology, walker.engine) == (0, engine)
    assert walker.trajectory.changes == []
    assert walker._pool.log[-1] == ("put", 2)


def test_a_failure_goes_back_to_the_topology_of_the_good_restart_point(walker):
    walker.report(never)
    walker.restart(command(topology=2), coordinates(1000))
    walker.engine.broken = True
    with pytest.raises(EngineError) as failure:
        walker.report(never)
    walker.recover(failure.value)
    assert walker.topology == 0
    assert walker.report(never)["topology"] == 0


def test_a_turn_that_is_over_goes_on_where_it_stopped(walker):
    walker.propagator.turn_s = 0.0
    rows = []
    walker.propagator.rate = 1e-3  # one step a call
    while not rows or rows[-1] is None:
        walker.propagator.rate = 1e-3
        rows.append(walker.report(never))
    assert len(rows) > 1
    assert rows[-1]["positions"][0, 0] == 10


def later(new, walker, snapshot, **history):
    """A walker of the next session, whose files are those of `walker`."""
    successor, files = new(snapshot[0]["topology"]), walker.trajectory
    successor.trajectory.frames, successor.trajectory.segments = list(files.frames), list(files.segments)
    points = sum(s["restart_point"] for s in files.segments)
    successor.trajectory.history = History(
        **{
            "n_frames": files.n_frames,
            "restart_points": points,
            "time_ps": walker.ps,
            "segment": files.segments[-1]["segment"],
            **history,
        }
    )
    values, arrays = snapshot
    successor.resume(json.loads(json.dumps(values)), arrays)
    return successor


def test_a_walker_that_was_stopped_goes_on_with_the_next_step(new, walker):
    walker.report(never)
    walker.propagator.rate = 1e-3  # one step a call
    assert walker.report(lambda: True) is None
    successor = later(new, walker, walker.snapshot())
    assert successor.engine.x == walker.engine.x == 11
    row = successor.report(never)
    assert successor.engine.x == 20, "one of ten steps was done"
    assert (row["segment"], row["frame"], row["time"]) == (1, 2, pytest.approx(0.02))
    line = successor.trajectory.segments[-1]
    assert (line["restart_point"], line["source_walker"], line["source_frame"]) == (False, 3, 1)
    assert (successor.frames, successor.segments.ended) == (2, 1)


def test_frames_that_are_younger_than_the_snapshot_stay_and_the_walker_goes_back_to_its_last_one(new, walker):
    walker.report(never)
    snapshot = walker.snapshot()
    walker.report(never)
    walker.restart(command(), coordinates(1000))
    walker.report(never)
    successor = later(new, walker, snapshot)
    row = successor.report(never)
    line = successor.trajectory.segments[-1]
    assert (line["segment"], line["restart_point"], line["source_segment"], line["source_frame"]) == (2, True, 0, 1)
    assert successor.trajectory.frames[line["first_frame"]] == (2, 10.0)
    assert ("set_state", 10.0, True, line["velocity_seed"]) not in successor.engine.calls
    assert (row["frame"], successor.engine.x) == (6, 20)
    assert (successor.frames, successor.segments.ended) == (4, 2), "frames of the lost session count"


def test_a_walker_whose_engine_fails_at_the_checkpoint_goes_back_to_its_last_frame(new, walker):
    walker.report(never)
    walker.engine.broken = True
    successor = later(new, walker, walker.snapshot())
    assert successor.engine.x == 10.0
    assert successor.trajectory.segments[-1]["restart_point"] is True


def test_a_retired_walker_stays_retired(new, walker):
    walker.report(never)
    for _ in range(4):
        walker.recover(EngineError("NaN"))
    successor = later(new, walker, walker.snapshot())
    assert (successor.active, successor.failures) == (False, 4)


def test_a_trajectory_that_was_cut_is_refused(new, walker):
    walker.report(never)
    walker.report(never)
    with pytest.raises(CheckpointError, match="has 2 frames, but the checkpoint has 3"):
        later(new, walker, walker.snapshot(), n_frames=2)


def test_a_walker_that_has_not_begun_begins(new, walker):
    values, arrays = walker.snapshot()
    successor = new()
    successor.resume(json.loads(json.dumps(values)), arrays)
    assert successor.report(never)["segment"] == 0


def test_a_frame_that_the_disk_refuses_is_not_counted_and_comes_first_when_the_run_goes_on(walker):
    walker.report(never)
    walker.trajectory.full = True
    with pytest.raises(DiskError):
        walker.report(never)
    assert (walker.frames, walker.ps) == (1, 0.01)
    values, arrays = walker.snapshot()
    assert (values["frames"], values["ahead"], arrays["engine/positions"][0, 0]) == (2, 10, 20.0)
    walker.trajectory.full = False
    row = walker.report(never)
    assert (row["time"], walker.engine.x, walker.frames) == (0.02, 20.0, 2)
    assert walker.report(never)["time"] == pytest.approx(0.03)
    assert walker.engine.x == 30.0


def test_a_restart_that_the_disk_refuses_leaves_the_walker_at_its_last_frame(walker):
    walker.report(never)
    walker.trajectory.full = True
    with pytest.raises(DiskError):
        walker.restart(command(), coordinates(7.0))
    values, arrays = walker.snapshot()
    assert arrays["mark/positions"][0, 0] == 10.0
    assert not [name for name in arrays if name.startswith("engine/")], "the engine is where no file knows of"
    assert values["last"].frame == 1


def test_a_walker_goes_on_with_its_topology_and_fails_back_to_that_of_its_good_restart_point(new, walker):
    walker.report(never)
    walker.restart(command(topology=2), coordinates(1000))
    successor = later(new, walker, walker.snapshot())
    assert successor.topology == 2
    assert successor._pool.log == [("take", 2, 3)]
    assert successor.engine.x == 1001, "the step after the restart was done"
    assert successor.trajectory.segments[-1]["topology"] == "ligand-2"
    successor.recover(EngineError("NaN"))
    assert successor.topology == 0, "in topology 2 there was no report yet"
    assert successor.report(never)["topology"] == 0
