"""The engine that draws from a Markov model: its exact numbers, its walkers, and files that are no model."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddmd_mpi.analysis.markov_model import (
    committor,
    mean_first_passage_times,
    read_model,
    states_of,
    stationary_distribution,
)
from ddmd_mpi.config import load
from ddmd_mpi.errors import ConfigError, InputError
from ddmd_mpi.md.emulated.engine import EmulatedEngine
from ddmd_mpi.md.engines import check_engine, check_molecule
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.structure.rmsd import superposed_rmsd

CONFIG = load("bba-go-markov")
STRUCTURES = load_structures(CONFIG.system)
MODEL = read_model(CONFIG.emulation.markov_model)
STEPS = CONFIG.simulation.steps_per_report


def parts(n_states=3):
    """The arrays of a file: a ring of states, with two frames of the molecule each."""
    first = np.arange(n_states)
    return {
        "lag_ps": np.float64(4.0),
        "first": np.concatenate([first, first[:-1]]).astype(np.uint16),
        "second": np.concatenate([first, first[1:]]).astype(np.uint16),
        "flux": np.concatenate([np.full(n_states, 0.2), np.linspace(0.1, 0.3, n_states - 1)]),
        "positions": np.random.default_rng(0).integers(-2000, 2000, (2 * n_states, 28, 3)).astype(np.int16),
        "state": np.repeat(first, 2).astype(np.uint16),
    }


@pytest.fixture
def written(tmp_path):
    def write(**changes):
        path = tmp_path / "model.npz"
        np.savez(path, **{**parts(), **changes})
        read_model.cache_clear()
        return path

    return write


def engine(path=None, seed=1):
    emulation = CONFIG.emulation if path is None else replace(CONFIG.emulation, markov_model=path)
    return EmulatedEngine(STRUCTURES, CONFIG.simulation, emulation, seed)


def walk(walker, n):
    frames = []
    for _ in range(n):
        walker.advance(STEPS)
        frames.append(walker.state().positions)
    return np.array(frames)


def test_the_model_that_is_shipped_is_large_connected_and_in_balance():
    assert MODEL.n_states >= 1000
    np.testing.assert_allclose(MODEL.matrix.sum(axis=1), 1)
    np.testing.assert_allclose(MODEL.stationary @ MODEL.matrix, MODEL.stationary, atol=1e-15)
    np.testing.assert_allclose(stationary_distribution(MODEL.matrix), MODEL.stationary, rtol=1e-6)
    assert np.isfinite(mean_first_passage_times(MODEL.matrix, [0])).all()
    rmsd = 10 * superposed_rmsd(MODEL.positions.astype(float), STRUCTURES.target_nm)
    assert rmsd.min() < 1.5
    assert rmsd.max() > 8
    folded = np.bincount(MODEL.state, rmsd < 3, MODEL.n_states) / np.bincount(MODEL.state)
    assert MODEL.stationary @ folded == pytest.approx(0.044, abs=0.01), "of the unsteered runs"
    share = np.bincount(MODEL.state, rmsd < 2, MODEL.n_states) / np.bincount(MODEL.state)
    native = np.flatnonzero(share > 0.5)
    assert set(share) == {0, 1}, "a state lies in one band of RMSD"
    begin = MODEL.state[np.argmin(superposed_rmsd(MODEL.positions.astype(float), STRUCTURES.positions_nm))]
    assert 200 < mean_first_passage_times(MODEL.matrix, native)[begin] < 1000
    unfolded = np.flatnonzero(np.bincount(MODEL.state, rmsd > 8, MODEL.n_states) > 0)
    assert 0 < committor(MODEL.matrix, unfolded, native)[begin] < 0.5 or begin in unfolded


def test_passage_times_and_committors_of_a_line_are_known():
    """A symmetric walk on 0 .. n-1, reflected at 0: n^2 - i^2 steps to n, probability i/n to come there before 0."""
    n = 12
    matrix = (np.eye(n + 1, k=1) + np.eye(n + 1, k=-1)) / 2
    matrix[0, 1] = matrix[n, n - 1] = 1
    place = np.arange(n + 1)
    np.testing.assert_allclose(mean_first_passage_times(matrix, [n]), n**2 - place**2)
    np.testing.assert_allclose(committor(matrix, [0], [n]), place / n, atol=1e-12)
    expected = np.full(n + 1, 1 / n)
    expected[[0, n]] /= 2
    np.testing.assert_allclose(stationary_distribution(matrix), expected, atol=1e-12)


def test_a_walker_visits_states_as_often_as_the_model_says(written):
    path = written()
    model = read_model(path)
    np.testing.assert_allclose(model.matrix, [[2 / 3, 1 / 3, 0], [1 / 6, 1 / 3, 1 / 2], [0, 3 / 5, 2 / 5]])
    walker = engine(path)
    walker.start(1)
    states = states_of(model, walk(walker, 20_000))
    seen = np.zeros((3, 3))
    np.add.at(seen, (states[:-1], states[1:]), 1)
    np.testing.assert_allclose(seen / seen.sum(axis=1, keepdims=True), model.matrix, atol=0.03)
    np.testing.assert_allclose(np.bincount(states) / len(states), model.stationary, atol=0.03)


def test_reports_that_are_drawn_at_once_are_the_same_chain(written):
    """Batches of any length, one after the other, and single reports behind them."""
    path = written()
    model = read_model(path)
    walker = engine(path)
    walker.start(1)
    lengths = np.tile([1, 2, 3, 7, 50], 300)
    batches = []
    for n in lengths:
        batches.append(walker.reports(n).positions)
        np.testing.assert_array_equal(walker.state().positions, batches[-1][-1])
    assert [len(batch) for batch in batches] == lengths.tolist()
    batches.append(walk(walker, 10))
    states = states_of(model, np.concatenate(batches))
    seen = np.zeros((3, 3))
    np.add.at(seen, (states[:-1], states[1:]), 1)
    np.testing.assert_allclose(seen / seen.sum(axis=1, keepdims=True), model.matrix, atol=0.03)
    np.testing.assert_allclose(np.bincount(states) / len(states), model.stationary, atol=0.03)
    assert len(np.unique(np.concatenate(batches), axis=0)) == 6, "both frames of each state"


def test_a_batch_has_what_single_reports_have():
    walker = engine()
    walker.start(1)
    reports = walker.reports(200)
    assert reports.positions.dtype == reports.velocities.dtype == np.float32
    assert reports.velocities.shape == (200, 28, 3)
    single = walker.state()
    np.testing.assert_array_equal(reports.box, single.box)
    np.testing.assert_array_equal(reports.potential_energy, np.full(200, single.potential_energy))
    speeds = np.sqrt(0.0083144626 * 300 / STRUCTURES.masses)
    np.testing.assert_allclose(reports.velocities.std(axis=(0, 2)), speeds, rtol=0.15)
    emulated = load("bba-go", None, ("simulation.engine=emulated",))
    other = EmulatedEngine(STRUCTURES, emulated.simulation, emulated.emulation, 1)
    with pytest.raises(TypeError, match="many reports"):
        other.reports(2)


def test_frames_are_real_and_both_frames_of_a_state_are_shown(written):
    path = written()
    walker = engine(path)
    walker.start(1)
    frames = walk(walker, 300)
    assert len(np.unique(frames, axis=0)) == 6
    assert frames.dtype == np.float32
    with pytest.raises(InputError, match="frame 1 is none of the Markov model"):
        states_of(read_model(path), np.array([frames[0], frames[0] + 0.1]))


def test_walkers_start_nearest_to_the_start_and_repeat_with_their_seed():
    walker, same, other = engine(), engine(), engine(seed=2)
    for each in (walker, same, other):
        each.start(5)
    begin = walker.state().positions.astype(float)
    away = superposed_rmsd(MODEL.positions.astype(float), STRUCTURES.positions_nm)
    assert superposed_rmsd(begin, STRUCTURES.positions_nm) == pytest.approx(away.min())
    first = walk(walker, 50)
    np.testing.assert_array_equal(first, walk(same, 50))
    assert not np.array_equal(first, walk(other, 50))


def test_a_restart_continues_from_its_frame_and_draws_at_the_next_report():
    walker = engine()
    walker.start(5)
    frame = MODEL.positions[len(MODEL.positions) // 2]
    walker.set_state(frame, seed=3)
    walker.advance(1)
    np.testing.assert_array_equal(walker.state().positions, frame)
    before = int(states_of(MODEL, frame[None])[0])
    after = []
    for seed in range(40):
        walker.set_state(frame, seed=seed)
        walker.advance(1)
        walker.advance(STEPS - 1)
        after.append(int(states_of(MODEL, walker.state().positions[None])[0]))
    assert (MODEL.matrix[before, after] > 0).all()
    assert len(set(after)) > 1


def test_a_snapshot_is_restored():
    walker, other = engine(), engine()
    walker.start(1)
    walk(walker, 3)
    other.restore(walker.snapshot(), 9)
    np.testing.assert_array_equal(other.state().positions, walker.state().positions)
    assert check_engine(CONFIG, 28, None) == other.platform == "markov"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flux": np.full(5, np.nan)}, "fluxes are not positive"),
        ({"flux": np.ones(4)}, "fluxes are not positive"),
        ({"state": np.array([0, 0, 1, 1, 3, 3])}, "a state has no frame"),
        ({"state": np.arange(6)[::-1]}, "frames do not match"),
        ({"second": np.array([0, 1, 2, 1, 9])}, "a state has no frame"),
        ({"positions": np.zeros((6, 27, 3), np.int16)}, "27 atoms and the start has 28"),
        ({"lag_ps": 20.0}, "set simulation.report_interval_ps to it"),
        ({"lag_ps": np.array([object()])}, "is no Markov model"),
    ],
)
def test_what_is_no_model_of_the_molecule_is_refused(written, changes, words):
    config = replace(CONFIG, emulation=replace(CONFIG.emulation, markov_model=written(**changes)))
    with pytest.raises(InputError, match=words) as caught:
        check_molecule(config, STRUCTURES)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist: correct emulation.markov_model"):
        read_model(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("flux")
    with pytest.raises(InputError, match="is no Markov model"):
        read_model(tmp_path / "text.npz")


def test_engine_and_model_go_together():
    for assignments in (("simulation.engine=markov",), ("emulation.markov_model='x.npz'",)):
        with pytest.raises(ConfigError, match="bba-go-markov"):
            load("bba-go", None, assignments)
    for setting in ("batch_reports=2", "wait_for_rounds=true"):
        with pytest.raises(ConfigError, match=f"emulation.{setting.partition('=')[0]} is for a Markov model"):
            load("bba-go", None, (f"emulation.{setting}",))
    assert "draws from the Markov model bba-go-markov.npz" in CONFIG.note


def test_the_code_of_the_page_runs():
    page = (Path(__file__).parents[3] / "docs" / "steering.md").read_text()
    found = {}
    exec(next(code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "committor" in code), found)
    assert found["steps"].shape == found["first"].shape == (MODEL.n_states,)
    assert f"It has {MODEL.n_states} states" in page
