"""Populations and passage times of steered walkers, against those of a chain that is known."""

import numpy as np
import pytest
from markov_chain import N_PLACES, SOURCE, TARGET, Walkers, ask, chain, steered_walk

from ddmd_mpi.analysis.estimators import MarkovModel, connected, random_clusterings, reversible_flux, riteweight
from ddmd_mpi.analysis.intervals import Interval, expit, interval, logit
from ddmd_mpi.analysis.lag import Scan, chosen_lag, is_flat
from ddmd_mpi.analysis.passages import Passage
from ddmd_mpi.analysis.populations import estimate
from ddmd_mpi.analysis.regions import Region, parse_region
from ddmd_mpi.analysis.transitions import Stretches, counts, hazards, lineage_blocks, stretches, transitions
from ddmd_mpi.analysis.verdict import fewest_crossings
from ddmd_mpi.errors import InputError

TRUTH = chain()


def split(data: Stretches, keep) -> Stretches:
    """The stretches for which `keep` is true of their states."""
    walks = [data.features[data.stretch == i] for i in range(data.n_stretches)]
    walks = [walk for walk in walks if keep(walk[:, 0])]
    begins = np.concatenate([np.arange(len(walk)) == 0 for walk in walks])
    return stretches(np.concatenate(walks), begins, np.ones(len(begins), bool))


def places(data: Stretches) -> np.ndarray:
    return data.features[:, 0].astype(int)


def test_no_answer_of_a_short_run_is_wrong_and_said_to_be_right():
    for seed in range(4):
        data, question = steered_walk(seed, 300)
        found = estimate(data, question, n_samples=20, seed=seed)
        assert (places(data) < TARGET).mean() > TRUTH.population + 0.2
        assert not found.converged or found.target.low <= TRUTH.population <= found.target.high


def test_unsteered_walkers_converge_to_the_truth():
    data, question = steered_walk(3, 1000, "none")
    found = estimate(data, question, n_samples=30)
    assert found.missing == []
    assert found.target.low < TRUTH.population < found.target.high
    assert found.there.low < TRUTH.passage < found.there.high
    for answer in found.answers.values():
        assert answer.target.value == pytest.approx(TRUTH.population, abs=0.06)
        assert answer.there.value / TRUTH.passage == pytest.approx(1, abs=0.3)
        assert answer.target.low < answer.target.value < answer.target.high
        np.testing.assert_allclose(answer.profiles["rmsd"][:, 0].sum(), 1)


def test_a_hidden_slow_motion_is_not_said_to_be_converged():
    """A second well of the same places, left about once in 60 steps: places alone are no Markov chain."""
    truth = chain(hidden=0.002)
    data, question = steered_walk(1, 600, truth=truth)
    found = estimate(data, question, n_samples=20)
    assert not found.converged or found.target.low <= truth.population <= found.target.high


@pytest.mark.parametrize(("hidden", "unsteered"), [(0.0, 1200), (0.002, 3000)])
def test_walkers_that_are_no_longer_restarted_converge_to_the_truth(hidden, unsteered):
    """Steering has selected wells that no coordinate shows; what is long after the last restart has forgotten that."""
    truth = chain(hidden)
    data, question = steered_walk(1, 1000, "ml_rmsd", truth, unsteered)
    found = estimate(data, question, n_samples=30)
    assert question.target.mean() > truth.population + 0.1
    assert found.missing == []
    assert found.skip_ps > 3 * 14
    assert found.target.low < truth.population < found.target.high
    assert found.there.low < truth.passage < found.there.high


def test_walkers_are_cut_while_steering_is_on():
    """Half of the run is steered: the chance of a cut is of that half, and of the clusters that are cut."""
    rng, n = np.random.default_rng(0), 20_000
    labels, phase = rng.integers(3, size=n), np.repeat([0, 1], n // 2)
    chance = np.array([0.0, 0.1, 0.4])[labels] * (phase == 0)
    begins = np.append(True, rng.random(n - 1) < chance[:-1])
    data = stretches(labels[:, None].astype(float), begins, np.zeros(n, bool), phase=phase)
    np.testing.assert_allclose(hazards(data, labels)[:-1], chance[:-1], atol=0.02)
    assert data.age[:3].tolist() == [0, *np.where(begins[1:3], 0, [1, 1 + data.age[1]])]
    pairs = transitions(data, 2, labels, skip=5)
    assert data.age[pairs.start].min() == 5
    np.testing.assert_allclose(pairs.weight[phase[pairs.start] == 1], 1.0, atol=0.01)
    assert pairs.weight.max() > 1.5


@pytest.mark.parametrize("lag", [1, 10, 25])
def test_passage_times_are_those_of_frames_at_any_lag(lag):
    """At a lag of 25 a model that sees both ends alone says twice as much."""
    random = np.random.default_rng(0)
    steps, walk = TRUTH.matrix.cumsum(axis=1), [18]
    for chance in random.random(60_000):
        walk.append(min(int(np.searchsorted(steps[walk[-1]], chance)), N_PLACES - 1))
    state = np.array(walk)
    data = stretches(state[:, None].astype(float), np.arange(len(state)) == 0, np.arange(len(state)) == 60_000)
    pairs = transitions(data, lag, state)
    passage = Passage(pairs, lag, state, state >= SOURCE, state < TARGET)
    mean = passage.mean(pairs.weight, TRUTH.stationary, np.arange(N_PLACES))
    assert mean == pytest.approx(TRUTH.passage, rel=0.06)
    lonely = passage.mean(pairs.weight, TRUTH.stationary, np.arange(TARGET, N_PLACES))
    assert np.isnan(lonely)


def test_riteweight_undoes_the_choice_of_restart_points():
    data, _ = steered_walk(1, 1000, "ml_lof")
    pairs = transitions(data, 1, places(data))
    weights = riteweight(pairs, random_clusterings(data.features, 30, np.random.default_rng(0)), pairs.weight)
    reached = places(data)[pairs.start] < TARGET
    assert weights[reached].sum() == pytest.approx(TRUTH.population, abs=0.06)
    assert abs(reached.mean() - TRUTH.population) > 0.06


def test_pairs_that_a_restart_cut_are_made_up_for():
    """Walkers that go away from the target are cut: pairs that are left say that none goes."""
    lag, weighted, counted = 3, [], []
    for seed in range(4):
        data = Walkers(TRUTH, "greedy", seed).run(1200).stretches()
        state = places(data)
        pairs = transitions(data, lag, state)
        visited = np.bincount(state[pairs.start], minlength=N_PLACES) > 100
        expected = np.linalg.matrix_power(TRUTH.matrix, lag)[visited]
        for shifts, weight in ((weighted, pairs.weight), (counted, np.ones(len(pairs.start)))):
            count = counts(pairs, state, N_PLACES, weight)[visited]
            shifts += ((count / count.sum(axis=1, keepdims=True) - expected) @ np.arange(N_PLACES)).tolist()
        assert visited.sum() > 3
    assert max(counted) < 0
    assert np.abs(weighted).mean() < 0.7 * np.abs(counted).mean()


def fixed_point(count: np.ndarray, n_steps: int = 20_000) -> np.ndarray:
    """The most likely reversible fluxes by the slow iteration of Trendelkamp-Schroer et al., their equation 15."""
    both, leaves = count + count.T, count.sum(axis=1)
    mass = both.sum(axis=1)
    for _ in range(n_steps):
        ratio = leaves / mass
        mass = (both / (ratio[:, None] + ratio)).sum(axis=1)
    flux = both / (leaves / mass + (leaves / mass)[:, None])
    return flux / flux.sum()


def test_fluxes_are_the_most_likely_reversible_ones():
    random, place = np.random.default_rng(0), np.arange(12)
    mean = 100 * np.exp(-np.abs(place[:, None] - place) - 2 * np.cos(place / 2)[:, None])
    count = random.poisson(mean).astype(float)
    active = connected(count)
    count = count[np.ix_(active, active)]
    flux, _ = reversible_flux(count, np.zeros(len(count)))
    np.testing.assert_allclose(flux, flux.T)
    np.testing.assert_allclose(flux, fixed_point(count), rtol=1e-6, atol=1e-12)


def test_a_markov_model_of_a_known_chain_is_that_chain():
    model = MarkovModel(1e4 * TRUTH.stationary[:, None] * TRUTH.matrix)
    np.testing.assert_allclose(model.stationary, TRUTH.stationary, rtol=1e-6)
    slowest = np.sort(np.linalg.eigvals(TRUTH.matrix).real)[-2]
    assert model.timescale() == pytest.approx(-1 / np.log(slowest), rel=1e-6)
    place = np.arange(N_PLACES)
    committor = model.committor(place[14:], place[:TARGET])
    assert committor[[0, 19]].tolist() == [1, 0]
    assert (np.diff(committor[5:15]) < 0).all()
    np.testing.assert_allclose(TRUTH.matrix[6:14] @ committor, committor[6:14], atol=1e-6)


def scan_of(*rows: tuple[int, float, float]) -> list[Scan]:
    """Lags with their timescales and the spread of these, the same in all samples of the bootstrap but for it."""
    common = np.exp(0.5 * np.random.default_rng(0).standard_normal(40))
    found = []
    for i, (lag, timescale, spread) in enumerate(rows):
        own = np.exp(spread * np.random.default_rng(1 + i).standard_normal(40))
        values = np.append(timescale, timescale * common * own)
        found.append(Scan(lag, float(lag), interval(values, np.log, np.exp), values))
    return found


@pytest.mark.parametrize(("rows", "lag", "flat"), [
    ([(1, 50, 0.02), (2, 50, 0.02), (3, 51, 0.02), (5, 50, 0.02)], 1, True),
    # Every interval meets every other, since all have the same passages; within a sample the timescale grows.
    ([(1, 30, 0.02), (2, 40, 0.02), (3, 43, 0.02), (5, 50, 0.02), (8, 51, 0.02), (12, 50, 0.02)], 5, True),
    ([(1, 30, 0.02), (2, 40, 0.02), (3, 50, 0.02), (5, 60, 0.02), (8, 80, 0.02)], 8, False),
    # It seems to grow by a lot, but not for certain.
    ([(1, 50, 0.4), (2, 62, 0.4), (3, 70, 0.4), (5, 90, 0.4)], 1, False),
    # The growth at longer lags is unknown: that is not flat.
    ([(1, 50, 0.5), (2, 50, 0.5), (3, 51, 0.5), (5, 50, 0.5)], 1, False),
])  # fmt: skip
def test_the_lag_is_the_first_that_agrees_with_all_longer_ones(rows, lag, flat):
    scan = scan_of(*rows)
    assert chosen_lag(scan) == lag
    assert is_flat(scan) == flat


def tree(parents: list[int], n_frames: int = 10) -> Stretches:
    """Stretches of equal length that descend from one another."""
    n = len(parents) * n_frames
    origin = np.full(n, -1)
    origin[::n_frames] = [n_frames * p + 3 if p >= 0 else -1 for p in parents]
    return stretches(np.arange(n, dtype=float)[:, None], np.arange(n) % n_frames == 0, np.zeros(n, bool), origin)


def test_stretches_know_their_parents():
    assert tree([-1, 0, -1, 1, 1]).parent.tolist() == [-1, 0, -1, 1, 1]
    gap = stretches(np.array([[0.0], [np.nan], [2], [3]]), np.array([1, 0, 0, 1], bool), np.zeros(4, bool),
                    np.array([-1, -1, -1, 1]))  # fmt: skip
    assert gap.parent.tolist() == [-1, 0, 0]


def test_a_lineage_is_a_founder_with_all_that_descend_from_it():
    assert lineage_blocks(tree([-1, 0, 1, -1, 3, 3]), 2).tolist() == [0, 0, 0, 1, 1, 1]
    assert lineage_blocks(tree([-1] * 4), 2).tolist() == [0, 1, 2, 3]


def test_a_founder_of_all_frames_is_divided():
    blocks = lineage_blocks(tree([-1, *range(11)]), 4)
    assert np.bincount(blocks).tolist() == [3, 3, 3, 3]
    assert (np.diff(blocks) >= 0).all()


def test_very_many_founders_share_blocks():
    blocks = lineage_blocks(tree([-1] * 1000), 4)
    assert np.bincount(blocks).tolist() == [3] * 200 + [2] * 200


def test_parents_in_a_circle_do_not_hang():
    assert len(lineage_blocks(tree([1, 0, -1]), 2)) == 3


def test_families_are_counted_at_the_surface_that_fewest_cross():
    data = tree([-1, -1, -1, 0], n_frames=4)
    there_and_back, never = [0.0, 0.5, 1.0, 0.0], [0.0, 0.4, 0.0, 0.0]
    committor = np.array([*there_and_back, *never, *never, *there_and_back])
    assert fewest_crossings(data, np.arange(4), committor) == (2, 2)
    assert fewest_crossings(data, np.array([0, 1, 2, 0]), committor) == (1, 1)
    assert fewest_crossings(data, np.arange(4), np.full(16, np.nan)) == (0, 0)


def test_an_interval_is_about_its_value_on_its_scale():
    values = np.array([0.9, *expit(logit(np.array([0.9])) + np.array([-1.0, 1.0, -1.0, 1.0]))])
    found = interval(values, logit, expit)
    assert found.value == 0.9
    assert 0 < found.low < 0.9 < found.high < 1
    assert logit(np.array(found.high)) + logit(np.array(found.low)) == pytest.approx(2 * logit(np.array(0.9)))
    assert interval(np.array([1.0, 2, np.nan, 3]), np.log, np.exp).lost == pytest.approx(1 / 3)
    assert np.isnan(interval(np.array([np.nan, 2, 3]), np.log, np.exp).low)
    assert found.meets(Interval(0.1, 0.05, found.low))
    assert not found.meets(Interval(0.1, 0.05, 0.1))


def test_no_pair_crosses_a_restart_or_a_gap():
    features = np.array([[0.0], [1], [2], [np.nan], [4], [5], [6]])
    data = stretches(features, np.array([1, 0, 0, 0, 0, 1, 0], bool), np.zeros(7, bool))
    pairs = transitions(data, 1, np.zeros(len(data), int))
    assert data.features[pairs.start].ravel().tolist() == [0, 1, 5]
    assert data.features[pairs.end].ravel().tolist() == [1, 2, 6]


@pytest.mark.parametrize(("keep", "said"), [
    (lambda walk: walk.min() > TARGET, "no frame is in the target region"),
    (lambda walk: walk.min() > TARGET + 2 or walk.max() < TARGET, "disconnected"),
    (lambda walk: walk.min() > TARGET + 2 or walk.max() < TARGET, "too few arrivals: 0 families pass to the target"),
])  # fmt: skip
def test_what_is_missing_is_said(keep, said):
    data = split(steered_walk(0, 200, "ml_lof")[0], keep)
    found = estimate(data, ask(data), n_samples=20)
    assert any(said in sentence for sentence in found.missing)
    assert not found.converged


def test_stretches_of_two_frames_allow_no_lag_scan():
    data, _ = steered_walk(0, 300)
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
