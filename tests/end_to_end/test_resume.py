"""A run that is stopped by a signal, goes on with other ranks, is killed, and goes on once more."""

import json
import os
import signal

import pytest
from checker import lines, problems
from jobs import ended, kill_session, ranks, start, summary, until
from stitched import check_routes

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

SETTINGS = (
    "training.model=pca",
    "training.first_frames=64",
    "simulation.walkers_per_rank=6",
    "simulation.report_interval_ps=10",
    "simulation.segment_ps=100",
    "run.checkpoint_interval=3",
    "output.progress_interval=0.3",
    "simulation.bind=false",
    "simulation.platform=CPU",
    "steering.restart_fraction=0.9",
    "steering.children_per_parent=5",
)
LONG = ("--duration", "100s")


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """The run directory after three sessions, and what was found after each."""
    directory, found = tmp_path_factory.mktemp("resume") / "run", []
    decisions, manifests = directory / "decisions.jsonl", directory / "checkpoints"
    first = start(4, "--usecase", "bba-go", *LONG, "--output", directory, *(f"--set={s}" for s in SETTINGS))
    until(first, lambda: len(lines(decisions)) >= 3)
    os.kill(ranks(directory, "training")[0], signal.SIGTERM)
    printed = ended(first)
    found.append((first.returncode, printed, summary(directory), problems(directory)))
    newest = max(manifests.glob("manifest-*"))
    n_decisions = len(lines(decisions))

    second = start(6, "--resume", directory, *LONG)
    until(second, lambda: max(manifests.glob("manifest-*")) != newest and len(lines(decisions)) > n_decisions)
    kill_session(second.pid)
    ended(second)
    found.append((second.returncode, "", None, problems(directory, ended=False)))
    finished = [d["decision"] for d in lines(decisions)]

    third = start(5, "--resume", directory, "--duration", "15s")
    printed = ended(third)
    found.append((third.returncode, printed, summary(directory), problems(directory)))
    return directory, found, finished


def test_a_signal_to_one_rank_ends_the_run_in_order(sessions):
    code, printed, result, wrong = sessions[1][0]
    assert (code, wrong) == (0, []), printed
    assert (result["completed"], result["stop_reason"], result["sessions"]) == (True, "SIGTERM", 1)
    assert result["simulation"]["frames"] == result["aggregation"]["frames_archived"] > 0


def test_a_kill_leaves_nothing_that_contradicts_itself(sessions):
    code, _, _, wrong = sessions[1][1]
    assert code != 0
    assert wrong == []


def test_the_run_goes_on_with_other_ranks_and_its_totals_are_right(sessions):
    directory, found, finished = sessions
    code, printed, result, wrong = found[2]
    assert (code, wrong) == (0, []), printed
    assert (result["completed"], result["stop_reason"], result["sessions"]) == (True, "duration", 3)
    assert result["simulation"]["walkers"] == 6
    assert result["ranks"]["simulation"] == 2
    assert result["simulation"]["frames"] > found[0][2]["simulation"]["frames"]
    assert result["training"]["rounds"] >= found[0][2]["training"]["rounds"]
    assert result["wall_s"] > found[0][2]["wall_s"]
    decisions = [d["decision"] for d in lines(directory / "decisions.jsonl")]
    assert set(finished) <= set(decisions)
    assert decisions[: len(finished)] == finished, "what was finished is never written again"


def test_walkers_restart_from_frames_of_earlier_sessions(sessions):
    """Each aggregator has found coordinates again, and walkers have begun from frames older than their session."""
    directory = sessions[0]
    recalled = [
        e["frames"]
        for path in sorted((directory / "events").glob("aggregation-*.jsonl"))
        for e in lines(path)
        if e["name"] == "recall"
    ]
    assert len(recalled) == 2
    assert min(recalled) > 0
    begun = [
        json.loads((directory / name).read_text())["started"] for name in ("environment.0001.json", "environment.json")
    ]
    starts = {
        (s["walker"], s["segment"]): s["start"]
        for path in (directory / "trajectories").glob("*.segments.*")
        for s in lines(path)
    }
    decisions = [d for d in lines(directory / "decisions.jsonl") if d["outcome"] == "applied"]
    assert [
        d
        for d in decisions
        for start in begun
        if starts[d["source"]["walker"], d["source"]["segment"]] < start < d["decided"]
    ]


def test_what_must_not_change_is_refused(sessions, ddmd_mpi):
    done = ddmd_mpi(4, "--resume", sessions[0], sets=("simulation.timestep_fs=1",))
    assert done.returncode == 2
    assert "simulation.timestep_fs was" in done.stderr
    assert (sessions[0] / "summary.json").exists()


def test_routes_are_continuous_over_all_sessions(sessions, tmp_path):
    assert check_routes(sessions[0], tmp_path) > 0
