"""An iteration is all stages in their order; what goes wrong in one ends the run for all, with its books closed."""

import errno
import json
import logging
import time

import pytest
from mpi4py import MPI

from ddmd_mpi import config as configuration
from ddmd_mpi.errors import DiskError, ModelError, StreamError
from ddmd_mpi.events import EventLog
from ddmd_mpi.parallel.board import MessageBoard
from ddmd_mpi.parallel.stages import plan
from ddmd_mpi.roles.context import Context, Facts
from ddmd_mpi.roles.iteration import Iteration
from ddmd_mpi.status import STATUS_DTYPE, StatusPost
from ddmd_mpi.stopping import Control, Signals

SETTINGS = ("run.mode=file", "simulation.walkers_per_rank=2", "simulation.report_interval_ps=0.2",
            "simulation.segment_ps=0.6", "simulation.minimize=false", "training.model=none", "steering.strategy=greedy",
            "output.progress=none", "output.progress_interval=1e-6", "file.iterations=3")


@pytest.fixture
def make(tmp_path):
    """``make(*settings)`` gives a rank that is alone."""

    def iteration(*settings, comm=MPI.COMM_SELF):
        for name in ("trajectories", "events", "models"):
            (tmp_path / name).mkdir()
        config = configuration.load("bba-go", assignments=(*SETTINGS, *settings))
        layout = plan([0], [0], config.ranks, config.simulation.walkers_per_rank)
        board = MessageBoard(comm, len(layout.seats), STATUS_DTYPE)
        events = EventLog(tmp_path / "events" / "simulation-0000.jsonl", "simulation", 0)
        log = logging.getLogger("ddmd_mpi.test")
        log.propagate = True
        facts = Facts(28, 28, ("radius_of_gyration", "native_contacts"), tmp_path, time.time())
        return Iteration(Context(
            config, facts, layout, 0, "simulation", None, Control(1000, "duration", 60, Signals()), events,
            StatusPost(lambda record: board.put(0, record), events), log, (), comm, None, None, None, None, board))

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
    assert stages(tmp_path) == [(i, stage) for i in (1, 2, 3) for stage in order]
    assert summary(tmp_path)["completed"] is True
    assert summary(tmp_path)["stop_reason"] == "iterations"
    assert summary(tmp_path)["inference"]["rounds"] == 3


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


@pytest.mark.parametrize(("stage", "error", "reason"), [
    ("simulation", DiskError("the disk is full"), "disk"),
    ("aggregation", OSError(errno.ENOSPC, "the disk is full"), "disk"),
    ("training", ModelError("the disk is full"), "failure"),
    ("inference", StreamError("the disk is full"), "failure"),
])
def test_an_error_in_a_stage_ends_the_run_with_one_sentence(make, tmp_path, caplog, stage, error, reason):
    iteration = make()
    getattr(iteration, stage).run = fails(error)
    assert iteration.run() is False
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert said.startswith("iteration 1: ")
    assert "the disk is full" in said
    assert (summary(tmp_path)["completed"], summary(tmp_path)["stop_reason"]) == (False, reason)
    assert stages(tmp_path)[-1][1] == stage
    assert not iteration.context.events._file


def test_the_run_goes_on_without_a_live_view_that_cannot_be_written(make, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ddmd_mpi"), "propagate", True)
    (tmp_path / "status.json").mkdir()
    assert make().run() is True
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert said == "the run goes on without the live view: Is a directory"
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
    assert f"{tmp_path} was deleted or renamed while the run went on" in said[-2]
    assert "summary.json cannot be written" in said[-1]


def test_an_error_where_others_may_wait_ends_the_job_at_once(make):
    iteration = make()
    with pytest.raises(ModelError):
        iteration.together("training", fails(ModelError("NaN")), alone=False)


def test_walkers_that_have_all_failed_too_often_end_the_run(make, tmp_path):
    iteration = make("simulation.failures_per_walker=1", "file.iterations=30")
    for walker in iteration.simulation.walkers:
        walker.retired = True
    assert iteration.run() is True
    assert summary(tmp_path)["stop_reason"] == "failure"
    assert iteration.iteration == 1
