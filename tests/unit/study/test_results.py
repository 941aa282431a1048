"""From the frames of trials to curves, tables and the page, on frames that are made up."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from ddmd_mpi.study.coverage import coverage_curve, reach, states_of_trials
from ddmd_mpi.study.figures import N_PARTS, densities
from ddmd_mpi.study.measures import AGGREGATE, COVERAGE, N_GRID, PER_WALKER, RMSD, at_grid, measure
from ddmd_mpi.study.outcome import Outcome
from ddmd_mpi.study.tables import arm_table, markdown, passage
from ddmd_mpi.study.write import write_study

N_WALKERS, N_REPORTS = 4, 100


def outcome(trial, best, n_states=50, positions=None):
    """Walkers in step, a report every 6 ps, that come to `best` Å and visit a new state in each round."""
    n = N_WALKERS * N_REPORTS
    rmsd = np.linspace(8.0, best, n)
    facts = {
        "states": 0 if positions is not None else n_states, "walkers": N_WALKERS, "aggregate_ns": 2.4, "steps": 120_000,
        "restarts": 0 if trial.arm == "none" else 30, "stale": 0, "rounds": 9, "model_versions": 0, "wall_s": 2.5,
        "sessions": 1, "stop_reason": "all simulations ended", "host": "here", "versions": {"ddmd-mpi": "1"},
        "timestep_fs": 20.0, "report_ps": 6.0, "note": "",
    }  # fmt: skip
    states = np.minimum(np.arange(n) // N_WALKERS, n_states - 1)
    (trial.directory).mkdir(parents=True, exist_ok=True)
    (trial.directory / "result.npz").write_bytes(b"made up")
    return Outcome(
        trial=trial,
        time_ps=np.repeat(6.0 * np.arange(1, N_REPORTS + 1), N_WALKERS),
        aggregate_ps=6.0 * np.arange(1, n + 1),
        rmsd_angstrom=rmsd,
        states=states if positions is None else np.empty(0, int),
        positions=np.empty(0) if positions is None else positions,
        facts=facts,
    )


@pytest.fixture
def study(make):
    """A study in which `greedy` comes 2 Å nearer than `none`, and its outcomes."""
    found, trials = make()
    return found, trials, [outcome(t, 1.0 + 2.0 * (t.arm == "none") + 0.1 * t.seed) for t in trials]


def test_coverage_counts_each_state_once():
    curve = coverage_curve(np.array([3, 3, 1, 3, 0]), 4)
    assert curve == pytest.approx([0.25, 0.25, 0.5, 0.5, 0.75])
    times = np.arange(5.0)
    assert reach(times, curve, 0.5) == 2.0
    assert reach(times, curve, 0.8) == np.inf


def test_a_curve_keeps_its_last_value():
    found = at_grid(np.array([1.0, 2.0]), np.array([7.0, 5.0]), np.array([0.5, 1.0, 1.5, 2.0, 9.0]))
    assert np.isnan(found[0])
    assert found[1:] == pytest.approx([7.0, 7.0, 5.0, 5.0])


def test_the_numbers_of_a_trial(study):
    found, _, outcomes = study
    m = measure(found, found.systems[0], outcomes)
    assert (m.n_states, m.exact, m.arms) == (50, True, ["none", "greedy"])
    assert m.values("greedy", RMSD) == pytest.approx({1: 1.1, 2: 1.2})
    assert m.values("none", COVERAGE) == {1: 1.0, 2: 1.0}
    # In half of the time, 200 of 400 frames, four walkers visit a new state each round.
    assert m.values("none", "coverage_half") == pytest.approx({1: 1.0, 2: 1.0})
    assert m.values("none", "passage_ns_to_2_angstrom") == {1: np.inf, 2: np.inf}
    rmsd = outcomes[1].rmsd_angstrom
    assert m.values("greedy", "passage_ns_to_2_angstrom")[1] == pytest.approx(6e-3 * (1 + np.argmax(rmsd <= 2.0)))
    assert m.values("greedy", "passage_ns_to_coverage_80")[1] == pytest.approx(6e-3 * (39 * N_WALKERS + 1))


def test_both_time_axes(study):
    found, _, outcomes = study
    m = measure(found, found.systems[0], outcomes)
    assert m.grids[AGGREGATE][-1] == pytest.approx(2.4)
    assert m.grids[PER_WALKER][-1] == pytest.approx(0.6)
    for axis in (AGGREGATE, PER_WALKER):
        curves = m.curves[RMSD, axis, "greedy"]
        assert curves.shape == (2, N_GRID)
        assert curves[:, -1] == pytest.approx([1.1, 1.2])
        assert (np.diff(curves[:, 5:]) <= 0).all()


def test_without_a_truth_the_states_are_clusters_of_all_trials(make):
    _, trials = make()
    generator = np.random.default_rng(1)
    shapes = generator.normal(0.0, 500.0, size=(2, 6, 3))
    kinds = generator.integers(2, size=400)
    both = (shapes[kinds] + generator.normal(0.0, 2.0, size=(400, 6, 3))).round().astype(np.int16)
    one = np.repeat(shapes[:1].round().astype(np.int16), 400, axis=0)
    states, n_states = states_of_trials(
        [outcome(trials[0], 3.0, positions=both), outcome(trials[1], 2.0, positions=one)]
    )
    assert n_states >= 2
    assert not set(states[0][kinds == 0]) & set(states[0][kinds == 1])
    assert len(set(states[1])) == 1
    assert states[1][0] in states[0][kinds == 0] or len(set(states[0][kinds == 0])) > 1


def test_a_density_integrates_to_one_in_each_part():
    edges = np.linspace(0.0, 9.0, 19)
    parts = densities(np.arange(1.0, 401.0), np.linspace(8.0, 1.0, 400), edges)
    assert parts.shape == (N_PARTS, 18)
    assert parts.sum(axis=1) * 0.5 == pytest.approx(1.0)
    assert parts[0] @ edges[:-1] > parts[-1] @ edges[:-1]


def test_a_table_says_how_many_trials_got_there(study):
    found, _, outcomes = study
    rows = {(r["arm"], r["quantity"]): r for r in arm_table([measure(found, found.systems[0], outcomes)])}
    best = rows["none", RMSD]
    assert (best["trials"], best["n"], best["mean"], best["min"], best["max"]) == pytest.approx((2, 2, 3.15, 3.1, 3.2))
    assert best["sd"] == pytest.approx(np.std([3.1, 3.2], ddof=1))
    never = rows["none", "passage_ns_to_2_angstrom"]
    assert (never["trials"], never["n"], never["mean"], never["median"]) == (2, 0, None, np.inf)
    assert passage(np.array([1.0, 2.0, np.inf])) == "2 (2 of 3)"
    assert passage(np.array([1.0, np.inf, np.inf])) == "- (1 of 3)"


def test_markdown():
    assert markdown([{"a": 1, "b": "x"}]) == "| a | b |\n| --- | --- |\n| 1 | x |\n"


def test_the_directory_of_a_study(study, tmp_path):
    found, trials, outcomes = study
    page = write_study(found, trials, outcomes[:3], {trials[3].name: "no <luck>"}, tmp_path / "out")
    html = page.read_text()
    assert html.count("data:image/png;base64,") == 3
    assert not re.search(r"""(src|href)=["']https?:""", html)
    assert "no &lt;luck&gt;" in html
    output = page.parent
    with (output / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["arm"], r["seed"]) for r in rows] == [("none", "1"), ("none", "2"), ("greedy", "1")]
    assert {"system", RMSD, COVERAGE, "restarts", "steps", "wall_s", "passage_ns_to_3_angstrom"} <= rows[0].keys()
    with (output / "tests.csv").open() as file:
        tests = {r["quantity"]: r for r in csv.DictReader(file)}
    assert float(tests[RMSD]["effect"]) == -1.0
    assert (tests[RMSD]["n"], tests[RMSD]["n_reference"], tests[RMSD]["n_pairs"]) == ("1", "2", "1")
    assert "| greedy | 1 |" in (output / "table.md").read_text()
    with (output / "curves.csv").open() as file:
        assert {(r["arm"], r["quantity"], r["axis"]) for r in csv.DictReader(file)} == {
            (a, q, x) for a in ("none", "greedy") for q in (RMSD, COVERAGE) for x in (AGGREGATE, PER_WALKER)
        }
    text = (output / "methods.md").read_text()
    assert "4 walkers simulated 2.4 ns together (120,000 steps of 20 fs, a report every 6 ps)" in text
    assert "Trials with different seeds for each arm: 1 to 2; arms: none, greedy." in text
    assert "50 states of the Markov model" in text
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["seeds"] == [1, 2]
    assert manifest["failures"] == {trials[3].name: "no <luck>"}
    assert [t["seed"] for t in manifest["trials"]] == [1, 1, 2]
    assert len({t["settings_sha256"] for t in manifest["trials"]}) == 3
    assert manifest["machine"]["cores"] >= 1
    assert Path(output / "study.toml").read_text() == found.text
