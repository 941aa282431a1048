"""An iteration is all stages in their order; what goes wrong in one ends the run for all, with its books closed."""

import errno
import json
import logging
import time

import pytest
from checker import problems
from doubles import NullDetector
from mpi4py import MPI

from ddmd_mpi import config as configuration
from ddmd_mpi.errors import DiskError, ModelError, StreamError
from ddmd_mpi.faults.heartbeat import Heartbeat
from ddmd_mpi.faults.stop import Control, Signals
from ddmd_mpi.file_mode.loop import Iteration
from ddmd_mpi.file_mode.segments import Segments
from ddmd_mpi.layout.file_mode import plan
from ddmd_mpi.md.structures import load_structures, write_topology
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.monitor.status import STATUS_DTYPE, StatusPost, StopReason
from ddmd_mpi.parallel.board import MessageBoard
from ddmd_mpi.roles.context import RunInfo, StageContext
from ddmd_mpi.rundir.checkpoints import Store

SETTINGS = (
    "run.mode=file",
    "simulation.walkers_per_rank=2",
    "simulation.report_interval_ps=0.2",
    "simulation.segment_ps=0.6",
    "simulation.minimize=false",
    "training.model=none",
    "steering.strategy=greedy",
    "output.progress=none",
    "output.progress_interval=1e-6",
    "file.iterations=3",
)


def prepared(directory):
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture
def make(tmp_path):
    """``make(*settings)`` gives a rank that is alone."""

    def iteration(*settings, comm=MPI.COMM_SELF, resumed=None):
        for name in ("trajectories", "events", "models", "checkpoints"):
            prepared(tmp_path / name)
        config = configuration.load("bba-go", assignments=(*SETTINGS, *settings))
        (tmp_path / "config.toml").write_text(configuration.to_toml(config))
        write_topology(load_structures(config.system), prepared(tmp_path / "topology") / "bba-go.pdb")
        layout = plan([0], [0], config.ranks, config.simulation.walkers_per_rank)
        board = MessageBoard(comm, len(layout.status_slots), STATUS_DTYPE)
        events = EventLog(tmp_path / "events" / "simulation-0000.jsonl", "simulation", 0)
        log = logging.getLogger("ddmd_mpi.test")
        log.propagate = True
        status = StatusPost(lambda record: board.put(0, record), events)
        info = RunInfo(
            directory=tmp_path,
            started=time.time(),
            n_atoms=28,
            n_residues=28,
            order_parameters=("radius_of_gyration", "native_contacts"),
            about={"n_walkers": 2},
            session=0 if resumed is None else resumed.session + 1,
            resumed=resumed,
            last_checkpoint=Store(tmp_path).last_number,
        )
        return Iteration(
            StageContext(
                config=config,
                info=info,
                layout=layout,
                rank=0,
                role="simulation",
                gpu=None,
                comm=comm,
                control=Control(left_s=1000, reason=StopReason.DURATION, drain_s=60, grace_s=60, signals=Signals()),
                events=events,
                status=status,
                log=log,
                heartbeat=Heartbeat(status, NullDetector(), config.faults),
                detector=NullDetector(),
                board=board,
            )
        )

    return iteration


def summary(directory):
    return json.loads((directory / "summary.json").read_text())


def stages(directory):
    """The stages in the order in which they were waited for."""
    path = directory / "events" / "simulation-0000.jsonl"
    spans = [json.loads(line) for line in path.read_text().splitlines()]
    return [(s["iteration"], s["stage"]) for s in spans if s["name"] == "wait"]


def test_stages_follow_each_other_until_it_is_enough(make, tmp_path):
    iteration = make()
    assert iteration.run() is True
    order = ("simulation", "aggregation", "training", "inference")
    assert stages(tmp_path) == [
        (0, "begin"),
        *((i, stage) for i in (1, 2, 3) for stage in order),
        (3, "checkpoint"),
        (3, "manifest"),
    ]
    assert summary(tmp_path)["completed"] is True
    assert summary(tmp_path)["stop_reason"] == "iterations"
    assert summary(tmp_path)["inference"]["rounds"] == 3


@pytest.mark.parametrize("reason", ["rmsd_plateau", "coverage_plateau"])
def test_a_rule_stops_the_run(make, tmp_path, reason):
    iteration = make(f"run.{reason}_ns=1e-6", "run.coverage_resolution_angstrom=100", "file.iterations=50")
    assert iteration.run() is True
    assert summary(tmp_path)["stop_reason"] == reason
    assert iteration.iteration < 50


@pytest.mark.parametrize(("every", "trained"), [(1, [1, 2, 3]), (2, [1, 3]), (3, [1])])
def test_training_has_its_turn(make, every, trained):
    iteration, turns = make(f"file.retrain_every={every}"), []
    iteration.training.run = lambda: turns.append(iteration.iteration)
    iteration.run()
    assert turns == trained


def fails(error):
    def stage(*_):
        raise error

    return stage


@pytest.mark.parametrize(
    ("stage", "error", "reason"),
    [
        ("simulation", DiskError("the disk is full"), "disk"),
        ("aggregation", OSError(errno.ENOSPC, "the disk is full"), "disk"),
        ("training", ModelError("the disk is full"), "failure"),
        ("inference", StreamError("the disk is full"), "failure"),
    ],
)
def test_an_error_in_a_stage_ends_the_run_with_one_sentence(make, tmp_path, caplog, stage, error, reason):
    iteration = make()
    where = iteration.books if stage in ("aggregation", "inference") else iteration
    getattr(where, stage).run = fails(error)
    assert iteration.run() is False
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert said.startswith("iteration 1: ")
    assert "the disk is full" in said
    assert (summary(tmp_path)["completed"], summary(tmp_path)["stop_reason"]) == (False, reason)
    assert ("resumes from checkpoint 1" in said) == (reason == "failure")
    assert [s for _, s in stages(tmp_path)][-3:][reason == "disk" and -1 :] == [
        stage,
        *(("checkpoint", "manifest") if reason == "failure" else ()),
    ]
    assert not iteration.context.events._file


def test_the_run_goes_on_without_a_live_view_that_cannot_be_written(make, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ddmd_mpi"), "propagate", True)
    (tmp_path / "status.json").mkdir()
    assert make().run() is True
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert said == "the run continues without the live view: Is a directory"
    assert summary(tmp_path)["completed"] is True


def test_a_summary_that_cannot_be_written_is_said(make, tmp_path, caplog):
    (tmp_path / "summary.json").mkdir()
    assert make().run() is False
    said = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"][-1]
    assert said.startswith(f"{tmp_path}/summary.json cannot be written: Is a directory; in short: Completed (iterat")
    assert "6 segments" in said


def test_a_directory_that_is_deleted_ends_the_run(make, tmp_path, caplog):
    iteration = make("file.iterations=1000")
    begun = iteration.simulation.run

    def delete(number, commanded):
        if number == 3:
            tmp_path.rename(tmp_path.with_name("gone"))
        return begun(number, commanded)

    iteration.simulation.run = delete
    try:
        assert iteration.run() is False
    finally:
        tmp_path.with_name("gone").rename(tmp_path)
    assert iteration.iteration == 3
    said = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert f"{tmp_path} was deleted or renamed during the run" in said[-2]
    assert "summary.json cannot be written" in said[-1]


def test_an_error_where_others_may_wait_ends_the_job_at_once(make):
    iteration = make()
    with pytest.raises(ModelError):
        iteration.together("training", fails(ModelError("NaN")), alone=False)


def test_walkers_that_have_all_failed_too_often_end_the_run(make, tmp_path):
    iteration = make("simulation.failures_per_walker=1", "file.iterations=30")
    for walker in iteration.simulation.ensemble.walkers:
        walker.retired = True
    assert iteration.run() is True
    assert summary(tmp_path)["stop_reason"] == "failure"
    assert iteration.iteration == 1


def segment_files(directory):
    """Frames of every walker by iteration."""
    files = Segments(directory, "bba-go", 28, ("radius_of_gyration", "native_contacts"))
    return {i: {w: files.read(i, w)["frame"].tolist() for w in walkers} for i, walkers in files.found().items()}


def newest(directory):
    return Store(directory).newest(pytest.fail)


def test_a_later_session_goes_on_with_the_next_iteration(make, tmp_path):
    make().run()
    iteration = make("file.iterations=5", resumed=newest(tmp_path))
    assert iteration.run() is True
    assert {i: [len(frames) for frames in files.values()] for i, files in segment_files(tmp_path).items()} == {
        i: [3, 3] for i in (1, 2, 3, 4, 5)
    }
    assert problems(tmp_path) == []
    found = summary(tmp_path)
    assert (found["sessions"], found["inference"]["rounds"]) == (2, 5)
    assert found["aggregation"]["frames_archived"] == found["simulation"]["frames"] == 5 * 2 * 3


def test_after_a_stage_that_failed_a_later_session_goes_on_from_where_it_was(make, tmp_path):
    iteration = make()
    train = iteration.training.run
    iteration.training.run = lambda: fails(ModelError("NaN"))() if iteration.iteration == 2 else train()
    assert iteration.run() is False
    assert problems(tmp_path, ended=False) == []
    assert make("file.iterations=4", resumed=newest(tmp_path)).run() is True
    assert sorted(segment_files(tmp_path)) == [1, 2, 3, 4]
    assert problems(tmp_path) == []
    assert summary(tmp_path)["simulation"]["frames"] == 4 * 2 * 3


def test_stop_rules_count_iterations_that_are_younger_than_the_checkpoint(make, tmp_path):
    """A run that was killed knows as much when it is resumed, and counts nothing twice."""
    rules = "run.coverage_plateau_ns=1", "run.checkpoint_interval=1e-6"
    killed = make(*rules)
    complete, killed.checkpoint = killed.checkpoint, lambda: killed.iteration < 3 and complete()
    killed.run()
    assert newest(tmp_path).number == 2
    expected = killed.books.inference.selector.stop_rules.state()
    assert expected["ns"] == pytest.approx(3 * 2 * 3 * 0.2e-3)
    for _ in range(2):
        resumed = make(*rules, resumed=newest(tmp_path))
        assert resumed.run() is True
        assert resumed.books.inference.selector.stop_rules.state() == expected


def test_an_iteration_that_was_cut_off_stays_and_the_next_one_follows(make, tmp_path):
    """Iteration 3 is younger than the checkpoint, and the file of walker 1 was never written."""
    killed = make("run.checkpoint_interval=1e-6")
    complete, killed.checkpoint = killed.checkpoint, lambda: killed.iteration < 3 and complete()
    killed.run()
    (tmp_path / "segments" / "iteration-0003" / "sim-0001.h5").unlink()
    (tmp_path / "aggregated" / "iteration-0003.h5").unlink()
    prepared(tmp_path / "restarts")
    (tmp_path / "restarts" / "iteration-0004.h5").touch()
    manifest = newest(tmp_path)
    assert manifest.number == 2
    make("file.iterations=4", resumed=manifest).run()
    assert sorted(segment_files(tmp_path)) == [1, 2, 3, 4]
    assert sorted(segment_files(tmp_path)[3]) == [0]
    assert (tmp_path / "aggregated" / "iteration-0003.h5").exists()
    assert problems(tmp_path) == []
    assert summary(tmp_path)["simulation"]["frames"] == 4 * 2 * 3
    assert summary(tmp_path)["aggregation"]["frames_archived"] == 4 * 2 * 3 - 3
    assert not (tmp_path / "restarts" / "iteration-0004.h5").exists(), "nobody has obeyed it"
