"""The whole loop on a Markov model, steered by a strategy of the user's own that now and then gives nothing."""

import json

import numpy as np
import pytest

from ddmd_mpi import config
from ddmd_mpi.analysis import open_run
from ddmd_mpi.analysis.markov_model import read_model, states_of, stationary_distribution
from ddmd_mpi.analysis.potentials import POTENTIALS
from ddmd_mpi.md.emulated.recorded import DCDFrames

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

MODULE = """
import numpy as np
from ddmd_mpi.steering import Ranking

def forgetful(seen):
    n = seen.memory.get("rounds", 0) + 1
    if n == 2 and not hasattr(forgetful, "failed"):
        forgetful.failed = True
        return None
    return Ranking(seen.coordinate, np.ones(len(seen), bool), {"rounds": n})
"""


def test_a_strategy_that_fails_once_is_named_and_the_run_goes_on(ddmd_mpi, tmp_path, monkeypatch):
    """Walkers wait for each round, of 5 reports, so that it is known how many there are and when they restart."""
    (tmp_path / "own_rounds.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run, n_reports = tmp_path / "run", 100
    done = ddmd_mpi(
        4, "--usecase", "bba-go-markov", "--duration", "150s", "--output", run,
        sets=("steering.strategy=own_rounds:forgetful", "training.model=none", "simulation.walker_length_ns=0.4",
              "emulation.batch_reports=2"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stop_reason"] == "all simulations ended"
    assert summary["simulation"]["frames"] == 12 * n_reports
    rounds = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    complaint = "strategy own_rounds:forgetful gave None: a Ranking or a Choice of ddmd_mpi.steering is expected"
    assert [r.get("complaint") for r in rounds][:3] == [None, complaint, None]
    assert rounds[1]["decisions"] == 0
    assert len(rounds) in (n_reports // 5 - 1, n_reports // 5), (
        "the last one, if it comes before the streams have ended"
    )
    lines = [line for path in run.glob("trajectories/*.segments.jsonl") for line in path.read_text().splitlines()]
    restarts = [segment for segment in map(json.loads, lines) if segment["decision"] >= 0]
    assert len(restarts) == summary["steering"]["delivered"] >= 12
    assert {segment["time_ps"] % (5 * 4.0) for segment in restarts} == {0.0}
    (log,) = (run / "logs").glob("inference-*.log")
    assert log.read_text().count(complaint) == 1
    assert open_run(run).contradictions() == []

    model = read_model(config.inputs() / "bba-go-markov.npz")
    states = states_of(model, frames_of(run, 3))
    assert len(np.unique(states)) > 5


def test_walkers_that_give_many_reports_at_once_move_as_the_model_says(ddmd_mpi, tmp_path):
    """Batches of two and a half segments that wait for nothing.

    Every step within a stretch is one of the model's, and restarts join them.
    """
    run = tmp_path / "run"
    done = ddmd_mpi(
        4, "--usecase", "bba-go-markov", "--duration", "150s", "--output", run,
        sets=("steering.strategy=greedy", "training.model=none", "simulation.walker_length_ns=8",
              "emulation.batch_reports=25", "emulation.wait_for_rounds=false", "streams.block_frames=256",
              "aggregation.archive=full"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((run / "summary.json").read_text())
    assert summary["simulation"]["frames"] == summary["simulation"]["archived"] == 12 * 2000
    assert summary["steering"]["delivered"] >= 1
    assert open_run(run).contradictions() == []
    model = read_model(config.inputs() / "bba-go-markov.npz")
    states = [states_of(model, frames_of(run, walker)) for walker in range(12)]
    restarts = 0
    for walker, visited in enumerate(states):
        lines = (run / "trajectories" / f"sim-{walker:04d}.segments.jsonl").read_text().splitlines()
        jumps = [line for line in map(json.loads, lines) if line["restart_point"]]
        for line in jumps[1:]:
            assert visited[line["first_frame"]] == states[line["source_walker"]][line["source_frame"]]
        restarts += len(jumps) - 1
        moves = np.ones(len(visited), bool)
        moves[[line["first_frame"] for line in jumps]] = False
        moved = np.flatnonzero(moves)
        assert len(moved) == 2000
        assert (model.matrix[visited[moved - 1], visited[moved]] > 0).all()
    assert restarts == summary["steering"]["delivered"]


def test_a_walker_whose_companions_have_ended_gets_its_rounds(ddmd_mpi, tmp_path):
    """A walker that joins at a resume has twice as far to go as the others, and every walker waits for rounds."""
    run, sets = tmp_path / "run", ("steering.strategy=greedy", "training.model=none", "emulation.batch_reports=5")
    begin = ("--usecase", "bba-go-markov", "--output", run)
    for session, n_walkers, length in ((begin, 2, 0.2), (("--resume", run), 3, 0.4)):
        own = (f"simulation.walkers_per_rank={n_walkers}", f"simulation.walker_length_ns={length}")
        done = ddmd_mpi(4, *session, "--duration", "120s", sets=(*sets, *own) if session is begin else own)
        assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stop_reason"] == "all simulations ended"
    assert summary["simulation"]["frames"] == 3 * 100
    assert open_run(run).contradictions() == []


def test_segments_of_a_steered_run_give_the_populations_of_the_potential(ddmd_mpi, tmp_path):
    """Restarts bias counts of frames, but not of steps: a Markov model of the segments has the exact populations."""
    run, potential = tmp_path / "run", POTENTIALS["prinz"]
    done = ddmd_mpi(
        4, "--usecase", "prinz", "--duration", "120s", "--output", run,
        sets=("run.seed=12", "simulation.walker_length_ns=120", "emulation.batch_reports=100",
              "emulation.wait_for_rounds=false", "streams.block_frames=1024"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((run / "summary.json").read_text())["steering"]["delivered"] >= 1
    model = read_model(config.inputs() / "prinz.npz")
    counts = np.zeros((model.n_states, model.n_states))
    for walker in range(12):
        states = states_of(model, frames_of(run, walker))
        lines = (run / "trajectories" / f"sim-{walker:04d}.segments.jsonl").read_text().splitlines()
        moves = np.ones(len(states), bool)
        moves[[line["first_frame"] for line in map(json.loads, lines) if line["restart_point"]]] = False
        moved = np.flatnonzero(moves)
        np.add.at(counts, (states[moved - 1], states[moved]), 1)
    seen = counts.sum(axis=1) > 0
    counts = counts[np.ix_(seen, seen)]
    x = potential.points(model.positions)[seen, 0]
    found = stationary_distribution(counts / counts.sum(axis=1, keepdims=True))
    for low, high in ((-9, -0.51), (-0.51, -0.01), (-0.01, 0.51), (0.51, 9)):
        exact = potential.population(lambda p, low=low, high=high: (p[:, 0] > low) & (p[:, 0] < high))
        assert found[(x > low) & (x < high)].sum() == pytest.approx(exact, abs=0.06)


def frames_of(run, walker):
    """All frames of a walker, nm."""
    frames = DCDFrames(run / "trajectories" / f"sim-{walker:04d}.dcd")
    return np.array([frames[i] for i in range(len(frames))])


@pytest.mark.parametrize("rule", ["rmsd_plateau", "coverage_plateau"])
def test_a_rule_stops_the_run(ddmd_mpi, tmp_path, rule):
    run = tmp_path / "run"
    done = ddmd_mpi(
        4, "--usecase", "bba-go-markov", "--duration", "150s", "--output", run,
        sets=("steering.strategy=greedy", "training.model=none", f"run.{rule}_ns=2",
              "run.coverage_resolution_angstrom=20"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["completed"], summary["stop_reason"]) == (True, rule)
    assert summary["simulation"]["aggregate_ns"] >= 2
