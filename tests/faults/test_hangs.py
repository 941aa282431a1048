"""A rank of a real job goes on existing and does nothing any more: in a round, at the start, stopped or waiting."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
from hurt_jobs import begun, end, hurt, left_by, nobody_is_left, running, start, suspend, wait

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(400)]

#: Rounds of training that would last for longer than the run.
IN_A_ROUND = ("training.model=pca", "training.first_frames=64", "emulation.training_seconds=60")
TWO_AGGREGATORS = ("ranks.aggregation=2",)

WAITS_FOR_EVER = """
import os
import threading
import numpy as np
from ddmd_mpi.model import Model, Round

class Waits(Model):
    n_latent, architecture, rounds = 2, {"model": "waits"}, 0

    def __init__(self, setup):
        if os.environ["WAITS_IN"] == "load":
            self.wait_for_a_lock_that_nobody_gives_back()
        if os.environ["WAITS_IN"] == "nothing":
            os._exit(1)

    def train(self, block, supervisor):
        self.rounds += 1
        if str(self.rounds) == os.environ["WAITS_IN"]:
            self.wait_for_a_lock_that_nobody_gives_back()
        return Round(1, len(block), 1.0, 1.0, True)

    def wait_for_a_lock_that_nobody_gives_back(self):
        threading.Event().wait()

    def embed(self, block):
        return np.zeros((len(block), 2))

    def weights(self):
        return [np.zeros(1)]

    def load(self, arrays):
        pass
"""


def training(directory: Path) -> bool:
    """Whether the training rank is in a round."""
    try:
        return json.loads((directory / "status.json").read_text())["activities"]["training"] == {"training": 1}
    except (OSError, ValueError):
        return False


@pytest.mark.parametrize(
    ("role", "seed", "sets", "when"),
    [
        ("training", 7, IN_A_ROUND, training),
        ("training", 8, (), begun),
        ("inference", 9, (), None),
        ("aggregation", 0, TWO_AGGREGATORS, None),
        ("aggregation", 1, TWO_AGGREGATORS, None),
    ],
)
def test_a_stopped_process_ends_the_run_within_a_minute(tmp_path, role, seed, sets, when):
    """The seeds are such that of two aggregators each is stopped once."""
    moment = {} if when is None else {"after": when, "within": 0.2}
    rank, ended = hurt(
        tmp_path / "run", role, signal.SIGSTOP, seed, sets=sets, options=("--duration", "300s"), **moment
    )
    assert ended.code == 1, ended.out
    assert ended.seconds_after < 60
    reasons = [line for line in ended.err.splitlines() if "the run ends:" in line]
    assert len(reasons) == 1, ended.err
    assert f"rank {rank} ({role}" in reasons[0]
    assert "its process was stopped, and then killed" in reasons[0]
    nobody_is_left(ended.directory)


@pytest.mark.parametrize("when", [begun, running])
def test_a_job_that_was_suspended_goes_on_when_it_wakes(tmp_path, when):
    """For longer than a rank may be silent (6 s) or stopped (3 s)."""
    directory = tmp_path / "run"
    with start(directory, options=("--duration", "30s")) as process:
        try:
            wait(lambda: when(directory) or process.poll() is not None, pause=0.002)
            suspend(directory, 12.0)
            ended = left_by(process, directory)
        finally:
            end(process, directory)
    assert ended.code == 0, ended.err
    assert ended.summary["completed"]
    assert ended.summary["stop_reason"] == "duration"
    assert ended.summary["simulation"]["lost_ranks"] == []


def reason_of(directory, monkeypatch, where):
    """The one line that says why a run with that model ends."""
    (directory.parent / "foreign.py").write_text(WAITS_FOR_EVER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(directory.parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("WAITS_IN", where)
    sets = (
        "training.model=foreign:Waits",
        "training.first_frames=32",
        "training.retrain_frames=32",
        "faults.hang_after=20s",
    )
    with start(directory, sets, ("--duration", "100s")) as process:
        try:
            ended = left_by(process, directory)
        finally:
            end(process, directory)
    assert ended.code == 1, ended.out
    (reason,) = [line for line in ended.err.splitlines() if "the run ends:" in line]
    return reason


@pytest.mark.parametrize(
    ("where", "role", "activity", "span"),
    [
        ("load", "(training|inference)", "loading", "start"),
        ("1", "training", "training", "train_round"),
        ("3", "training", "training", "train_round"),
    ],
)
def test_what_never_ends_ends_the_run_and_is_seen_in_the_log(tmp_path, monkeypatch, where, role, activity, span):
    """Loading and the first round, which promise 15 minutes, too: who waits uses no processor."""
    directory = tmp_path / "run"
    said = re.search(rf"rank (4|5) \({role}, .*last seen {activity}", reason_of(directory, monkeypatch, where))
    assert said
    (path,) = (directory / "logs").glob(f"*-000{said[1]}.log")
    log = path.read_text()
    assert ("round 2:" in log) == (where == "3")
    assert f"in {span}" in log, "the span"
    assert "in wait_for_a_lock_that_nobody_gives_back" in log, "the stack"
    nobody_is_left(directory)


def test_a_library_that_ends_its_process_ends_the_run(tmp_path, monkeypatch):
    """By an exit code, not by a signal, of which MPI would tell; and long before it has promised its next record."""
    assert "its process has ended" in reason_of(tmp_path / "run", monkeypatch, "nothing")
    nobody_is_left(tmp_path / "run")
