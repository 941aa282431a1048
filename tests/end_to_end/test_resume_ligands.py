"""A run of many complexes goes on after a stop and after a kill, on other ranks: every walker with its ligand."""

import os
import signal

import pytest
from checker import lines, problems
from jobs import ended, kill_session, ranks, start, summary, until
from stitched import check_routes
from toy_table import write_table

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

STRENGTHS = [0.3, 3.5, 1.1, 2.7]
SETTINGS = (
    "simulation.walkers_per_rank=12",
    "run.checkpoint_interval=2",
    "output.progress_interval=0.3",
    "simulation.bind=false",
    "training.first_frames=64",
    "simulation.segment_ps=400",
)


def segments(directory):
    """The segments of every walker."""
    return [lines(path) for path in sorted((directory / "trajectories").glob("*.segments.jsonl"))]


def changed(directory):
    """Walkers that have another ligand than they began with."""
    return [w for w, mine in enumerate(segments(directory)) if mine and mine[-1]["topology"] != mine[0]["topology"]]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """The run directory, what came of each session, and the topologies of all walkers between them."""
    base = tmp_path_factory.mktemp("ligands")
    config, directory = write_table(base, STRENGTHS), base / "run"
    manifests, found = directory / "checkpoints", []
    first = start(4, "--usecase", "plc", "--config", config, "--output", directory, *(f"--set={s}" for s in SETTINGS))
    until(first, lambda: len(changed(directory)) >= 2)
    os.kill(ranks(directory, "inference")[0], signal.SIGTERM)
    printed = ended(first)
    found.append((first.returncode, printed, problems(directory)))
    stopped = [mine[-1] for mine in segments(directory)]

    second = start(6, "--resume", directory)
    newest, n_rounds = max(manifests.glob("manifest-*")), len(lines(directory / "rounds.jsonl"))
    until(
        second,
        lambda: max(manifests.glob("manifest-*")) != newest and len(lines(directory / "rounds.jsonl")) > n_rounds,
    )
    kill_session(second.pid)
    ended(second)
    found.append((second.returncode, "", problems(directory, ended=False)))

    third = start(4, "--resume", directory, "--duration", "9s")
    printed = ended(third)
    found.append((third.returncode, printed, problems(directory)))
    return directory, found, stopped


def test_every_session_leaves_what_holds_together(sessions):
    codes, printed, wrong = zip(*sessions[1], strict=True)
    assert wrong == ([], [], []), printed
    assert (codes[0], codes[2]) == (0, 0), printed
    assert codes[1] != 0


def test_a_walker_goes_on_with_the_ligand_that_it_had(sessions):
    directory, _, stopped = sessions
    assert len({last["topology"] for last in stopped}) > 1
    for mine, last in zip(segments(directory), stopped, strict=True):
        after = mine[last["segment"] + 1]
        assert (after["topology"], after["decision"], after["restart_point"]) == (last["topology"], -1, False)


def test_the_walkers_of_each_ligand_are_counted_on(sessions):
    directory = sessions[0]
    rounds = lines(directory / "rounds.jsonl")
    assert all(sum(line["walkers_per_ligand"].values()) == 12 for line in rounds)
    assert summary(directory)["inference"]["rounds"] == len(rounds)


def test_routes_are_continuous_whatever_ligand_a_walker_had(sessions, tmp_path):
    assert check_routes(sessions[0], tmp_path, n_routes=12) > 0
