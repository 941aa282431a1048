"""The restart policy: one test per rule, each on a window in which only that rule decides."""

import numpy as np
import pytest
from frame_windows import choose, pairs, window

from ddmd_mpi.config.schema import SteeringSection
from ddmd_mpi.steering.outliers import Outliers
from ddmd_mpi.steering.policy import AUTO_DISTANCE, COPY_VELOCITIES, Policy


def policy(n_walkers: int = 4, seed: int = 1, **changes) -> Policy:
    settings = {"strategy": "greedy", "min_latent_distance": 0.0, **changes}
    return Policy(SteeringSection(**settings), n_walkers, seed)


#: Walkers 0 .. 3 are now at 9, 5, 8 and 4; walker 1 was at 1 and 2 before, walker 3 at 3.
HISTORY = window([
    (1, 0, 0, 1.0), (1, 1, 1, 2.0), (3, 0, 0, 3.0), (0, 0, 7, 9.0), (1, 2, 2, 5.0), (2, 0, 7, 8.0), (3, 1, 1, 4.0),
])  # fmt: skip


def test_the_best_frame_goes_to_the_worst_walker_and_only_the_worse_half_restarts():
    restarts = choose(policy(), HISTORY)
    assert pairs(restarts, HISTORY) == [(0, 0), (2, 1)]
    assert [(r.score, r.walker_score) for r in restarts] == [(1, 9), (2, 8)]
    assert [(r.rmsd, r.walker_rmsd) for r in restarts] == [(1, 9), (2, 8)]


@pytest.mark.parametrize(("fraction", "n"), [(0.0, 0), (0.2, 1), (0.5, 2), (0.75, 3), (1.0, 3)])
def test_the_fraction_of_walkers_and_never_all(fraction, n):
    block = window([*((w, 0, 50, 9.0 + w) for w in range(4)), *((0, s, s, 1.0) for s in range(8))])
    assert len(choose(policy(restart_fraction=fraction), block)) == n


def test_a_walker_that_may_not_restart_keeps_its_place_in_the_worse_half():
    restarts = choose(policy(), HISTORY, may_restart=[False, True, True, True])
    assert pairs(restarts, HISTORY) == [(2, 0)]


def test_a_walker_restarts_only_to_something_better():
    block = window([(0, 0, 0, 3.0), (1, 0, 0, 2.0), (0, 1, 1, 2.0), (1, 1, 1, 2.0)])
    assert choose(policy(n_walkers=2, restart_fraction=0.5), block) == []


def test_the_newest_frame_is_a_walkers_state_whatever_the_order_of_arrival():
    block = window([(0, 0, 9, 1.0), (0, 0, 8, 7.0), (1, 0, 9, 6.0), (1, 0, 8, 2.0)])
    restarts = choose(policy(n_walkers=2), block)
    assert pairs(restarts, block) == [(1, 9)]
    assert restarts[0].index == 0


def test_each_frame_is_used_once():
    chooser = policy(children_per_parent=100)
    assert pairs(choose(chooser, HISTORY), HISTORY) == [(0, 0), (2, 1)]
    third = choose(chooser, HISTORY)
    assert [r.rmsd for r in third] == [3, 4]
    assert [r.rmsd for r in choose(chooser, HISTORY)] == [5]


def test_a_segment_has_few_children():
    block = window([(0, 0, 90, 9.0), (2, 0, 90, 8.0), *((1, 0, f, 1.0 + f / 100) for f in range(9)), (3, 0, 0, 2.0)])
    chooser = policy(children_per_parent=3, restart_fraction=0.5)
    seen = [pairs(choose(chooser, block), block) for _ in range(3)]
    assert seen == [[(0, 0), (2, 1)], [(0, 2), (2, 0)], [(0, 90)]]


def test_the_cap_counts_segments_not_walkers():
    block = window([(0, 0, 90, 9.0), (2, 0, 90, 8.0), (1, 0, 0, 1.0), (1, 1, 1, 1.5), (3, 0, 0, 3.0)])
    assert pairs(choose(policy(children_per_parent=1), block), block) == [(0, 0), (2, 1)]


LINE = window([(0, 0, 90, 9.0), (2, 0, 90, 8.0), (1, 0, 0, 1.0), (1, 1, 1, 1.1), (1, 2, 2, 1.2), (3, 0, 0, 3.0)])
LINE_LATENTS = np.array([[50.0], [60.0], [0.0], [0.5], [2.0], [9.0]])


@pytest.mark.parametrize(
    ("distance", "frames"), [(0.0, [0, 1]), (0.5, [0, 1]), (1.0, [0, 2]), (3.0, [0, 0]), (55.0, [0])]
)
def test_frames_chosen_together_are_apart(distance, frames):
    restarts = choose(policy(min_latent_distance=distance), LINE, LINE_LATENTS)
    assert [int(LINE["frame"][r.index]) for r in restarts] == frames


def test_automatic_distance_follows_the_density_of_the_window():
    for radius, frames in ((0.5 / AUTO_DISTANCE, [0, 1]), (0.51 / AUTO_DISTANCE, [0, 2])):
        outliers = Outliers(np.ones(6, bool), 0.1, np.array([np.nan, *[radius] * 5]), np.ones(6), "dbscan")
        restarts = choose(policy(min_latent_distance="auto"), LINE, LINE_LATENTS, outliers)
        assert [int(LINE["frame"][r.index]) for r in restarts] == frames


def test_automatic_distance_is_that_of_the_distinct_maps_where_most_are_equal():
    radius = np.array([0, 0, 0, 0, 0.51 / AUTO_DISTANCE, np.inf])
    outliers = Outliers(np.ones(6, bool), 0.1, radius, np.ones(6), "dbscan")
    restarts = choose(policy(min_latent_distance="auto"), LINE, LINE_LATENTS, outliers)
    assert [int(LINE["frame"][r.index]) for r in restarts] == [0, 2]


def test_frames_without_coordinates_are_no_candidates():
    block = window([(0, 0, 9, 9.0), (1, 0, 9, 4.0), (1, 0, 0, 1.0, 0), (1, 0, 1, 2.0, 3)])
    assert pairs(choose(policy(n_walkers=2), block), block) == [(0, 1)]


def test_frames_that_are_not_finite_are_no_candidates():
    spoiled = [(1, 0, 0, -np.inf), (1, 0, 1, np.nan)]
    block = window([(0, 0, 9, 9.0), (1, 0, 9, 4.0), *spoiled, (1, 0, 2, 1.0), (1, 0, 3, 2.0)])
    latents = np.zeros((6, 2))
    latents[4, 1] = np.nan
    assert pairs(choose(policy(n_walkers=2), block, latents), block) == [(0, 3)]


def test_a_walker_whose_newest_frame_is_not_finite_is_the_worst():
    block = window([(0, 0, 9, 9.0), (1, 0, 9, np.nan), (0, 0, 0, 1.0)])
    restarts = choose(policy(n_walkers=2), block)
    assert pairs(restarts, block) == [(1, 0)]
    assert np.isinf(restarts[0].walker_score)


def test_walkers_without_frames_are_left_alone():
    worst_last = HISTORY.take(np.array([0, 1, 2, 4, 5, 6, 3]))
    assert pairs(choose(policy(n_walkers=9), worst_last), worst_last) == [(0, 0), (2, 1)]
    assert choose(policy(n_walkers=9), window([(5, 0, 0, 3.0)])) == []


def test_siblings_get_different_velocity_seeds():
    restarts = choose(policy(), HISTORY)
    seeds = [r.velocity_seed for r in restarts]
    assert len(set(seeds)) == 2
    assert min(seeds) > 0
    assert [r.velocity_seed for r in choose(policy(), HISTORY)] == seeds
    assert [r.velocity_seed for r in choose(policy(seed=2), HISTORY)] != seeds


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_velocities_are_copied_with_their_probability(probability):
    chooser = policy(n_walkers=2, children_per_parent=1000, copy_velocities_probability=probability)
    rows = [(0, 0, 999, 9.0), (1, 0, 999, 8.0), *((1, 0, f, 1.0) for f in range(200))]
    seeds = [r.velocity_seed for _ in range(200) for r in choose(chooser, window(rows))]
    copied = np.mean(np.array(seeds) == COPY_VELOCITIES)
    assert len(seeds) == 200
    assert abs(copied - probability) < 0.15 * (0 < probability < 1) + 1e-9


@pytest.mark.parametrize("strategy", ["ml", "ml_rmsd", "ml_lof", "none"])
def test_nothing_is_chosen_before_the_first_model(strategy):
    assert choose(policy(strategy=strategy), HISTORY) == []


def test_only_outliers_are_chosen_when_the_strategy_says_so():
    mask = np.array([False, True, False, True, False, False, False])
    outliers = Outliers(mask, 0.5, np.where(mask, 1.0, 0.1), np.ones(7), "dbscan")
    assert pairs(choose(policy(strategy="ml_rmsd"), HISTORY, np.zeros((7, 1)), outliers), HISTORY) == [(0, 1)]
    assert pairs(choose(policy(strategy="ml"), HISTORY, np.zeros((7, 1)), outliers), HISTORY) == [(1, 1), (2, 7)]
