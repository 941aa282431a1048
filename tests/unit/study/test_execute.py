"""Trials that end, fail, are stopped and are killed, with a stand-in for the program."""

import json
import os
import signal
import sys
import threading
import time

import pytest

from ddmd_mpi.errors import RunDirectoryError
from ddmd_mpi.study.execute import Executor, alone, command, last_line
from ddmd_mpi.study.trials import State

#: Called as: stand_in.py LOG RANKS SLOT python -m ddmd_mpi OPTION ...
STAND_IN = """
import json, pathlib, signal, sys, time
log, ranks, slot, *words = sys.argv[1:]
where = pathlib.Path(words[words.index("--resume" if "--resume" in words else "--output") + 1])
with open(log, "a") as file:
    file.write(json.dumps([slot, where.parent.parent.name, where.parent.name, "--resume" in words]) + "\\n")
PLACE
where.mkdir(parents=True, exist_ok=True)
(where / "summary.json").write_text(json.dumps({"completed": True, "stop_reason": "all simulations ended"}))
"""


@pytest.fixture
def begin(make, tmp_path):
    """``begin(extra)``: runs the study; `extra` is code of the stand-in. Starts, lines for the user, the executor."""

    def function(extra="", at_once=1, meanwhile=None):
        script, log = tmp_path / "stand_in.py", tmp_path / "log"
        script.write_text(STAND_IN.replace("PLACE", extra))
        log.write_text("")
        study, trials = make(f"{sys.executable} {script} {log} {{ranks}} {{slot}}", at_once)
        said, finished = [], []
        with alone(tmp_path / "out", said.append) as lock:
            executor = Executor(study, lock, finished.append, said.append)
            if meanwhile:
                threading.Thread(target=meanwhile, args=(executor,), daemon=True).start()
            executor.run(trials)
        starts = [json.loads(line) for line in log.read_text().splitlines()]
        return starts, said, executor, finished

    return function


def test_no_finished_trial_runs_again(begin):
    starts, _, executor, finished = begin()
    assert [tuple(s[1:3]) for s in starts] == [
        ("none", "seed-0001"), ("greedy", "seed-0001"), ("none", "seed-0002"), ("greedy", "seed-0002")
    ]  # fmt: skip
    assert len(finished) == 4
    assert executor.failures == {}
    assert begin()[0] == []


def test_a_failing_trial_is_named_and_the_others_run(begin):
    fail = "if slot == '0' and 'greedy' in str(where) and '0001' in str(where): sys.exit('ddmd-mpi: no luck')"
    starts, said, executor, finished = begin(fail)
    assert len(starts) == 4
    assert len(finished) == 3
    assert executor.failures == {"bba-go-markov, arm greedy, seed 1": "ddmd-mpi: no luck"}
    assert "bba-go-markov, arm greedy, seed 1: FAILED: ddmd-mpi: no luck" in said
    starts, _, executor, _ = begin()
    assert [s[1:3] for s in starts] == [["greedy", "seed-0001"]]
    assert executor.failures == {}


def test_a_trial_with_a_checkpoint_is_resumed_and_one_without_begins_again(begin, make):
    _, (first, second, *_) = make()
    (first.run / "checkpoints").mkdir(parents=True)
    (first.run / "checkpoints" / "manifest-000003.json").write_text("{}")
    second.run.mkdir(parents=True)
    (second.run / "left").write_text("of a killed start")
    starts, said, *_ = begin()
    assert [s[3] for s in starts] == [True, False, False, False]
    assert said[0].endswith("seed 1: unfinished, with a checkpoint: is resumed")
    assert said[1].endswith("seed 1: unfinished, without a checkpoint: begins again")
    assert not (second.run / "left").exists()


def test_a_trial_that_cannot_be_resumed_is_put_aside_and_begins_again(begin, make):
    _, (first, *_) = make()
    (first.directory / "run-given-up-1").mkdir(parents=True)  # of another time
    (first.run / "checkpoints").mkdir(parents=True)
    (first.run / "checkpoints" / "manifest-000003.json").write_text("{}")
    starts, said, executor, _ = begin("if '--resume' in words: sys.exit('ddmd-mpi: torn')")
    assert [s[3] for s in starts[:2]] == [True, False]
    assert starts[0][1:3] == starts[1][1:3]
    assert any("cannot be resumed (ddmd-mpi: torn)" in line and "run-given-up-2" in line for line in said)
    assert (first.directory / "run-given-up-2" / "checkpoints" / "manifest-000003.json").exists()
    assert not (first.run / "checkpoints").exists()
    assert executor.failures == {}


def test_a_trial_that_fails_after_it_was_resumed_and_made_progress_is_resumed_the_next_time(begin, make):
    _, (first, *_) = make()
    (first.run / "checkpoints").mkdir(parents=True)
    (first.run / "checkpoints" / "manifest-000003.json").write_text("{}")
    advance = """
if "--resume" in words:
    (where / "checkpoints" / "manifest-000004.json").write_text("{}")
    sys.exit("ddmd-mpi: rank 2 is lost")
"""
    starts, _, executor, finished = begin(advance)
    assert [s[3] for s in starts] == [True, False, False, False]
    assert executor.failures == {first.name: "ddmd-mpi: rank 2 is lost"}
    assert len(finished) == 3
    assert (first.run / "checkpoints" / "manifest-000003.json").exists()
    starts, _, executor, _ = begin()
    assert [s[3] for s in starts] == [True]
    assert executor.failures == {}


def test_a_trial_that_crashes_when_it_is_resumed_does_not_stop_the_study(begin, make):
    _, (first, *_) = make()
    (first.run / "checkpoints").mkdir(parents=True)
    (first.run / "checkpoints" / "manifest-000003.json").write_text("{}")
    (first.run / "summary.json").write_text('{"completed": true, "stop_reason": "SIGTERM"}')  # of the session before
    starts, _, executor, finished = begin("if '--resume' in words: sys.exit(1)")
    assert [s[3] for s in starts] == [True, False, False, False, False]
    assert (len(finished), executor.stopped) == (4, False)


def test_trials_at_once_have_slots_of_their_own(begin):
    wait = """
mate = pathlib.Path(log + slot)
mate.write_text("")
while not (pathlib.Path(log + "0").exists() and pathlib.Path(log + "1").exists()):
    time.sleep(0.01)
"""
    starts, *_ = begin(wait, at_once=2)
    assert {s[0] for s in starts[:2]} == {"0", "1"}
    assert len(starts) == 4


def test_a_signal_stops_the_trials_and_starts_no_more(begin):
    stopped = """
def leave(*_):
    (where / "checkpoints").mkdir(parents=True)
    (where / "checkpoints" / "manifest-000001.json").write_text("{}")
    (where / "summary.json").write_text(json.dumps({"completed": True, "stop_reason": "SIGTERM"}))
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
pathlib.Path(log + "ready").write_text("")
time.sleep(60)
"""

    def interrupt(executor):
        while not executor._running or not os.path.exists(executor._running[0].process.args[2] + "ready"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    starts, said, executor, finished = begin(stopped, meanwhile=interrupt)
    assert (len(starts), finished, executor.stopped, executor.failures) == (1, [], True, {})
    assert said[-1].endswith("stopped before its end")
    starts, *_ = begin()
    assert [s[3] for s in starts] == [True, False, False, False]


def test_no_trial_begins_at_the_end_of_a_job(begin, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(time.time() + 60))
    starts, said, executor, _ = begin()
    assert (starts, executor.stopped, executor.failures) == ([], True, {})
    assert said == ["the batch job ends soon: no more trials begin"]
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(time.time() + 3600))
    assert len(begin()[0]) == 4


def test_what_a_killed_study_has_left_running_is_waited_for(tmp_path):
    """The lock is that of the open file, which the trials inherit."""
    said, order = [], []
    with alone(tmp_path, said.append) as lock:
        inherited = os.dup(lock)

    def wait():
        with alone(tmp_path, said.append):
            order.append("entered")

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while not said:
        time.sleep(0.01)
    assert order == []
    os.close(inherited)
    thread.join(30)
    assert order == ["entered"]
    assert said[0].startswith(f"waiting for the study in {tmp_path}")


def test_a_launcher_that_does_not_exist_is_named(make, tmp_path):
    study, trials = make("/absent/srun -n {ranks}")
    with (
        alone(tmp_path / "out", print) as lock,
        pytest.raises(RunDirectoryError, match="/absent/srun cannot be started"),
    ):
        Executor(study, lock, print, print).run(trials)


def test_one_rank_needs_no_launcher_and_several_do(make):
    _, (trial, *_) = make(change=("launcher", "#"))
    assert command(trial, None, 0, resume=False)[:3] == [sys.executable, "-m", "ddmd_mpi"]
    assert command(trial, None, 0, resume=True)[3:] == ["--resume", str(trial.run)]
    assert command(trial, "srun -n {ranks} -w n{slot}", 3, resume=False)[:5] == ["srun", "-n", "1", "-w", "n3"]
    _, (trial, *_) = make(change=("ranks = 1", "ranks = 4"))
    words = command(trial, None, 0, resume=False)
    assert words[0].endswith(("ranks.sh", "mpiexec"))
    assert "4" in words[:3]


def test_a_trial_that_is_resumed_beside_others_does_not_bind(make):
    _, (trial, *_) = make(at_once=2, change=("launcher", "#"))
    words = command(trial, None, 0, resume=True)
    assert words[3:] == ["--resume", str(trial.run), "--set", "simulation.bind=false"]


def test_the_reason_is_what_the_program_says(tmp_path):
    path = tmp_path / "output.txt"
    assert last_line(path) == "it printed nothing"
    path.write_text("started\nddmd-mpi: no target\n------\nprterun has ended\n\n")
    assert last_line(path) == "ddmd-mpi: no target"
    path.write_text("started\nKilled\n")
    assert last_line(path) == "Killed"


def test_a_trial_ends_in_one_state(make):
    _, (trial, *_) = make()
    trial.clear()
    assert trial.state() is State.NEW
