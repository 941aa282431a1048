"""Populations and passage times of steered walkers, against those of a chain that is known."""

import sys

import numpy as np
import pytest
from markov_chain import N_STATES, SOURCE, TARGET, chain, passage, steered_walk

from ddmd_mpi.analysis.estimators import connected, import_deeptime, random_clusterings, riteweight
from ddmd_mpi.analysis.populations import Question, estimate
from ddmd_mpi.analysis.regions import Region, parse_region
from ddmd_mpi.analysis.transitions import Stretches, counts, stretches, transitions
from ddmd_mpi.errors import InputError

MATRIX, STATIONARY = chain()
POPULATION, PASSAGE = STATIONARY[:TARGET].sum(), passage(MATRIX, STATIONARY)


def ask(data: Stretches, target: float = TARGET, source: float = SOURCE) -> Question:
    state = data.features[:, 0]
    return Question(state >= source, state < target, {"state": state}, 1.0)


def split(data: Stretches, keep) -> Stretches:
    """The stretches for which `keep` is true of their states."""
    walks = [data.features[data.stretch == i] for i in range(data.n_stretches)]
    walks = [walk for walk in walks if keep(walk[:, 0])]
    begins = np.concatenate([np.arange(len(walk)) == 0 for walk in walks])
    return stretches(np.concatenate(walks), begins, np.ones(len(begins), bool))


def test_intervals_cover_the_truth_and_no_verdict_is_wrong():
    covered, wrong, raw = 0, 0, []
    for seed in range(8):
        data = steered_walk(seed, 500)
        found = estimate(data, ask(data), n_samples=50, seed=seed)
        right = found.target.low <= POPULATION <= found.target.high
        covered += right
        wrong += found.converged and not right
        raw.append((data.features[:, 0] < TARGET).mean())
    assert min(raw) > POPULATION + 0.2
    assert covered >= 7
    assert wrong <= 1


def test_more_data_converge_to_the_truth():
    data = steered_walk(3, 2000)
    found = estimate(data, ask(data), n_samples=30)
    assert found.missing == []
    for answer in found.answers.values():
        assert answer.target.value == pytest.approx(POPULATION, abs=0.06)
        assert answer.there.value / PASSAGE == pytest.approx(1, abs=0.5)
        assert answer.target.low < answer.target.value < answer.target.high
        np.testing.assert_allclose(answer.profiles["state"][:, 0].sum(), 1)


def test_riteweight_undoes_the_choice_of_restart_points():
    data = steered_walk(1, 2000)
    state = data.features[:, 0].astype(int)
    pairs = transitions(data, 1, state)
    weights = riteweight(pairs, random_clusterings(data.features, 30, np.random.default_rng(0)), pairs.weight)
    assert weights[state[pairs.start] < TARGET].sum() == pytest.approx(POPULATION, abs=0.06)
    assert (state < TARGET).mean() > POPULATION + 0.2


def test_pairs_that_a_restart_cut_are_made_up_for():
    """Walkers that go away from the target are cut: pairs that are left say that none goes."""
    data = steered_walk(5, 3000, every=1)
    state, lag = data.features[:, 0].astype(int), 3
    pairs = transitions(data, lag, state)
    visited = np.bincount(state[pairs.start], minlength=N_STATES) > 300
    expected = np.linalg.matrix_power(MATRIX, lag)[visited]
    shifts = []
    for weight in (pairs.weight, np.ones(len(pairs.start))):
        count = counts(pairs, state, N_STATES, weight)[visited]
        shifts.append((count / count.sum(axis=1, keepdims=True) - expected) @ np.arange(N_STATES))
    assert visited.sum() > 3
    assert abs(shifts[0]).max() < 0.2
    assert shifts[1].max() < -0.2


def test_no_pair_crosses_a_restart_or_a_gap():
    features = np.array([[0.0], [1], [2], [np.nan], [4], [5], [6]])
    data = stretches(features, np.array([1, 0, 0, 0, 0, 1, 0], bool), np.zeros(7, bool))
    pairs = transitions(data, 1, np.zeros(len(data), int))
    assert data.features[pairs.start].ravel().tolist() == [0, 1, 5]
    assert data.features[pairs.end].ravel().tolist() == [1, 2, 6]


@pytest.mark.parametrize(("keep", "target", "said"), [
    (lambda walk: walk.min() > TARGET, TARGET, "no frame is in the target region"),
    (lambda walk: walk.min() > TARGET + 1 or walk.max() < TARGET, TARGET, "disconnected"),
    (lambda walk: walk.min() > TARGET + 1 or walk.max() < TARGET, TARGET, "too few arrivals: 0 stretches enter"),
])  # fmt: skip
def test_what_is_missing_is_said(keep, target, said):
    data = split(steered_walk(0, 300), keep)
    found = estimate(data, ask(data, target), n_samples=20)
    assert any(said in sentence for sentence in found.missing)
    assert not found.converged


def test_stretches_of_two_frames_allow_no_lag_scan():
    data = steered_walk(0, 300)
    begins = np.arange(len(data)) % 2 == 0
    found = estimate(short := stretches(data.features, begins, ~begins), ask(short), n_samples=20)
    assert any("too short for a lag scan" in sentence for sentence in found.missing)


def test_too_few_frames_are_refused():
    data = stretches(np.arange(30.0)[:, None], np.arange(30) % 10 == 0, np.zeros(30, bool))
    with pytest.raises(InputError, match="30 frames in 3 stretches.*continue the run"):
        estimate(data, ask(data))


def test_the_largest_connected_set_is_entered_and_left():
    count = np.array([[5, 1, 0, 0], [1, 5, 1, 0], [0, 0, 1, 0], [0, 0, 0, 2]])
    assert connected(count).tolist() == [0, 1]


def test_deeptime_is_named_if_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "deeptime.markov.msm", None)
    with pytest.raises(InputError, match=r"need deeptime.*ddmd-mpi\[analysis\]"):
        import_deeptime()


@pytest.mark.parametrize(("text", "region"), [
    ("rmsd_angstrom<3", Region("rmsd_angstrom", high=3.0)),
    (" rmsd_angstrom > 6.5", Region("rmsd_angstrom", low=6.5)),
    ("0.2 < native_contacts < .8", Region("native_contacts", 0.2, 0.8)),
])  # fmt: skip
def test_a_region_is_read_and_said(text, region):
    assert parse_region(text) == region
    assert parse_region(str(region)) == region


@pytest.mark.parametrize("text", ["", "rmsd", "3<rmsd", "rmsd<x", "3<rmsd<2", "rmsd<3; import os", "rmsd=3"])
def test_what_is_no_region_is_refused(text):
    with pytest.raises(InputError, match="region"):
        parse_region(text)
