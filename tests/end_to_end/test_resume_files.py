"""A run in file mode that is stopped by a signal, goes on with other ranks, is killed, and goes on once more."""

import os
import signal
import subprocess
import sys

import pytest
from checker import archive, lines, problems
from jobs import ended, kill_session, ranks, start, summary, until
from stitched import check_routes

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

SETTINGS = (
    "training.model=pca",
    "simulation.walkers_per_rank=3",
    "simulation.report_interval_ps=2",
    "simulation.segment_ps=8",
    "simulation.minimize=false",
    "simulation.bind=false",
    "simulation.platform=CPU",
    "run.checkpoint_interval=0.5",
    "output.progress_interval=0.1",
    "ranks.training=2",
)
BEGIN = ("--usecase", "bba-go", "--mode", "file", "--duration", "100s")


def iterations(directory):
    """How many iterations have been written."""
    return len(list(directory.glob("aggregated/*.h5")))


def session(*arguments, n_ranks, directory, reached, end):
    """The program, until `reached`, then ended by `end`; its exit code, what it printed, and what is wrong."""
    process = start(n_ranks, *arguments)
    until(process, reached)
    end(process, directory)
    printed = ended(process)
    return process.returncode, printed, problems(directory, ended=process.returncode == 0)


def stop(_, directory):
    os.kill(ranks(directory, "simulation")[-1], signal.SIGTERM)


def kill(process, _):
    kill_session(process.pid)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """The run directory after three sessions, what came of each, and the summaries of those that ended."""
    directory = tmp_path_factory.mktemp("files") / "run"
    manifests, decisions = directory / "checkpoints", directory / "decisions.jsonl"
    found, summaries = [], []
    found.append(
        session(
            *BEGIN,
            "--output",
            directory,
            *(f"--set={s}" for s in SETTINGS),
            n_ranks=2,
            directory=directory,
            reached=lambda: len(lines(decisions)) >= 2,
            end=stop,
        )
    )
    summaries.append(summary(directory))
    newest, n = max(manifests.glob("manifest-*")), iterations(directory)
    found.append(
        session(
            "--resume",
            directory,
            n_ranks=3,
            directory=directory,
            end=kill,
            reached=lambda: max(manifests.glob("manifest-*")) != newest and iterations(directory) > n + 2,
        )
    )
    finished, n = [d["decision"] for d in lines(decisions)], iterations(directory)
    last = start(2, "--resume", directory, "--iterations", n + 3, "--set=simulation.walkers_per_rank=4")
    printed = ended(last)
    found.append((last.returncode, printed, problems(directory)))
    summaries.append(summary(directory))
    return directory, found, summaries, finished, n


def test_every_end_leaves_what_holds_together(sessions):
    codes, printed, wrong = zip(*sessions[1], strict=True)
    assert wrong == ([], [], []), printed
    assert (codes[0], codes[2]) == (0, 0), printed
    assert codes[1] != 0


def test_the_run_goes_on_and_its_totals_are_right(sessions):
    directory, _, (first, last), finished, n = sessions
    assert (first["stop_reason"], last["stop_reason"], last["sessions"]) == ("SIGTERM", "iterations", 3)
    assert (first["simulation"]["walkers"], last["simulation"]["walkers"]) == (6, 8)
    assert last["inference"]["rounds"] > first["inference"]["rounds"] > 0
    assert last["aggregation"]["frames_archived"] == archive(directory).total()
    assert last["training"]["rounds"] > first["training"]["rounds"]
    assert last["wall_s"] > first["wall_s"]
    assert iterations(directory) >= n + 3
    decisions = [d["decision"] for d in lines(directory / "decisions.jsonl")]
    assert decisions[: len(finished)] == finished, "what was finished is never written again"


def test_walkers_restart_from_frames_of_earlier_sessions_and_of_this_one(sessions):
    directory = sessions[0]
    applied = [d for d in lines(directory / "decisions.jsonl") if d["outcome"] == "applied"]
    begun = {
        (s["walker"], s["segment"]): s
        for path in (directory / "trajectories").glob("*.segments.jsonl")
        for s in lines(path)
    }
    assert applied
    for decision in applied:
        assert begun[decision["walker"], decision["segment"]]["decision"] == decision["decision"]


def test_the_report_is_made_of_all_sessions(sessions):
    directory = sessions[0]
    subprocess.run([sys.executable, "-m", "ddmd_mpi", "report", directory], check=True, capture_output=True)
    assert (directory / "report.html").exists()


def test_routes_are_continuous_over_all_sessions(sessions, tmp_path):
    assert check_routes(sessions[0], tmp_path) > 0
