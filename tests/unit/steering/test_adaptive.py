"""Strategies of adaptive sampling: known answers, and the choices of AdaptivePy on the same windows."""

import numpy as np
import pytest

from ddmd_mpi.config.strategies import BUILT_IN
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.steering import Candidates, cluster
from ddmd_mpi.steering.adaptive import best_weights, reap_rewards
from ddmd_mpi.steering.clusters import UNKNOWN
from ddmd_mpi.steering.outliers import Outliers
from ddmd_mpi.steering.strategies import STRATEGIES

N_FRAMES, N_WALKERS, N_CLUSTERS = 400, 6, 12


def window(seed: int, name: str, **options) -> Candidates:
    """Frames of a few walkers around places that are visited more and less often."""
    rng = np.random.default_rng(seed)
    place = rng.choice(N_CLUSTERS, N_FRAMES, p=np.arange(1, N_CLUSTERS + 1) / 78)
    x = 10 * rng.normal(size=(N_CLUSTERS, 3))[place] + 0.3 * rng.normal(size=(N_FRAMES, 3))
    block = FrameBlock({"walker": rng.integers(N_WALKERS, size=N_FRAMES), "order_parameters": x.astype(np.float32)})
    return Candidates(
        block=block,
        coordinate=x[:, 0],
        usable=np.ones(N_FRAMES, bool),
        n_walkers=N_WALKERS,
        generator=np.random.default_rng(seed),
        outliers=Outliers.none(N_FRAMES),
        latents=x,
        contacts=np.full(N_FRAMES, np.nan),
        options={**BUILT_IN[name].options, "clusters": N_CLUSTERS, **options},
    )


def order(ranking) -> list[int]:
    """Eligible frames, best first."""
    return [int(i) for i in np.argsort(ranking.score, kind="stable") if ranking.eligible[i]]


def theirs(seen: Candidates, points: np.ndarray, seed: int, name: str, n_seeds: int, **arguments) -> list[int]:
    """The frames that AdaptivePy chooses, given the clusters of this window."""
    policies = pytest.importorskip("adaptivepy.policies")
    from adaptivepy.models import Dataset, FrameRecord
    from adaptivepy.selection.frame_selector import select_seeds
    from adaptivepy.stats.cluster_stats import assign_clusters, compute_cluster_stats

    states = cluster(points, N_CLUSTERS, np.random.default_rng(seed))
    walkers = seen.block["walker"].tolist()
    data = Dataset([FrameRecord(w, i, points[i], global_index=i) for i, w in enumerate(walkers)])
    assign_clusters(data, states.labels)
    stats = compute_cluster_stats(data)
    chosen = policies.get_policy(name, **arguments).select_clusters(stats, n_seeds)
    return [found.global_index for found in select_seeds(name, chosen, stats, states.centres)]


@pytest.mark.parametrize("seed", range(5))
def test_the_choices_are_those_of_adaptivepy(seed):
    seen = window(seed, "least_counts")
    ours, others = order(STRATEGIES["least_counts"](seen)), theirs(seen, seen.latents, seed, "least_counts", N_CLUSTERS)
    states = cluster(seen.latents, N_CLUSTERS, np.random.default_rng(seed))
    assert [states.counts[states.labels[i]] for i in ours] == [states.counts[states.labels[i]] for i in others]
    assert set(ours) == set(others)  # the order of states with equal counts is free

    seen = window(seed, "fast", alpha=0.7)
    arguments = {"feature_indices": [0], "directions": ["minimize"], "alpha": 0.7}
    assert order(STRATEGIES["fast"](seen))[:6] == theirs(seen, seen.latents, seed, "fast", 6, **arguments)

    seen = window(seed, "knn", neighbours=4)
    assert order(STRATEGIES["knn"](seen))[:6] == theirs(seen, seen.latents, seed, "knn_as", 6, k=4)


@pytest.mark.parametrize("seed", range(5))
def test_the_choices_are_those_of_multiagent_reap_of_adaptivepy(seed):
    seen = window(seed, "reap", agents=2, candidates=8, delta=0.1)
    x = seen.block["order_parameters"].astype(float)
    points = x / x.std(axis=0)  # what the strategy clusters; distances in widths do not depend on the scale
    agents = {"a": ["0", "2", "4"], "b": ["1", "3", "5"]}
    chosen = theirs(
        seen, points, seed, "ma_reap", 4,
        agent_assignments=agents, traj_names=[str(w) for w in range(N_WALKERS)], n_candidates=8, delta=0.1,
    )  # fmt: skip
    assert order(STRATEGIES["reap"](seen))[:4] == chosen


def test_clusters_are_places_of_the_window():
    rng = np.random.default_rng(0)
    place = np.repeat(np.arange(5), [3, 50, 20, 7, 1])
    points = 100 * np.eye(5)[place] + rng.normal(size=(81, 5))
    points[80] = np.nan
    usable = np.ones(81, bool)
    usable[:2] = False
    found = cluster(points, 4, rng, usable)
    assert found.labels[80] == UNKNOWN
    assert sorted(found.counts.tolist()) == [3, 7, 20, 50]
    for label in range(4):
        members = np.flatnonzero(found.labels == label)
        assert len(set(place[members])) == 1
        np.testing.assert_allclose(found.centres[label], points[members].mean(axis=0))
        allowed = members[usable[members]]
        away = np.linalg.norm(points[allowed] - found.centres[label], axis=1)
        assert found.nearest[label] == allowed[away.argmin()]
    assert found.representatives.sum() == 4
    assert np.isnan(found.spread(found.counts.astype(float))[80])


@pytest.mark.parametrize(("points", "n"), [(np.zeros((9, 2)), 1), (np.full((9, 2), np.nan), 0), (np.eye(3), 3)])
def test_clusters_of_windows_that_hold_little(points, n):
    found = cluster(points, 5, np.random.default_rng(0))
    assert len(found.counts) == n
    assert found.counts.sum() == np.isfinite(points).all(axis=1).sum()


def test_automatic_number_of_clusters_is_the_square_root():
    points = np.random.default_rng(0).normal(size=(400, 2))
    assert len(cluster(points, "auto", np.random.default_rng(0)).counts) == 20


def test_fast_goes_by_counts_alone_or_by_the_coordinate_alone():
    by_counts = STRATEGIES["fast"](window(3, "fast", alpha=1e6))
    seen = window(3, "fast", alpha=1e-9)
    by_coordinate = STRATEGIES["fast"](seen)
    assert order(by_counts)[0] == order(STRATEGIES["least_counts"](window(3, "least_counts")))[0]
    best = cluster(seen.latents, N_CLUSTERS, np.random.default_rng(3)).mean(seen.coordinate)
    states = cluster(seen.latents, N_CLUSTERS, np.random.default_rng(3))
    assert order(by_coordinate) == [int(states.nearest[s]) for s in np.argsort(best)]


def test_knn_prefers_the_ends_of_a_line():
    line = np.repeat(np.linspace(0, 10, 11), 20)[:, None] * np.ones(2)
    seen = window(0, "knn", clusters=11, neighbours=3)
    keep = np.arange(len(line))
    seen = Candidates(**{**vars(seen), "latents": line, "coordinate": line[:, 0], "usable": np.ones(len(line), bool),
                         "block": FrameBlock({"walker": keep})})  # fmt: skip
    first, second, *_ = order(STRATEGIES["knn"](seen))
    assert {line[first, 0], line[second, 0]} == {0.0, 10.0}


@pytest.mark.parametrize(
    ("gain", "weights", "delta", "best"),
    [
        ([3, 1, 2], [1 / 3] * 3, 0.1, [1 / 3 + 0.1, 1 / 3 - 0.1, 1 / 3]),
        ([1, 2], [0.95, 0.05], 0.02, [0.93, 0.07]),
        ([1, 2], [0.0, 1.0], 0.05, [0.0, 1.0]),
        ([5, 1, 1, 1], [0.25] * 4, 1.0, [1, 0, 0, 0]),
    ],
)
def test_best_weights(gain, weights, delta, best):
    np.testing.assert_allclose(best_weights(np.array(gain), np.array(weights), delta), best, atol=1e-12)


def test_best_weights_are_those_of_a_linear_programme():
    from scipy.optimize import linprog

    rng = np.random.default_rng(4)
    for _ in range(50):
        gain, weights, delta = rng.normal(size=6), rng.dirichlet(np.ones(6)), rng.uniform(0, 0.4)
        bounds = [(max(0, w - delta), w + delta) for w in weights]
        exact = linprog(-gain, A_eq=np.ones((1, 6)), b_eq=[1], bounds=bounds)
        np.testing.assert_allclose(gain @ best_weights(gain, weights, delta), -exact.fun, atol=1e-9)


def test_reap_remembers_its_weights():
    seen = window(2, "reap", delta=0.02)
    weights = np.full((1, 3), 1 / 3)
    for _ in range(3):
        ranking = STRATEGIES["reap"](Candidates(**{**vars(seen), "generator": np.random.default_rng(2)}))
        now = np.array(ranking.memory["weights"])
        assert np.abs(now - weights).max() == pytest.approx(0.02)
        assert now.sum() == pytest.approx(1)
        weights = now
        seen = Candidates(**{**vars(seen), "memory": ranking.memory})


def test_the_reward_of_one_agent_is_the_distance_in_its_own_widths():
    x = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
    labels, agent, chosen = np.arange(4), np.zeros(4, int), np.array([3, 0])
    reward, _ = reap_rewards(x, labels, agent, chosen, x[chosen] + [[1, 0], [0, 0]], np.array([[0.5, 0.5]]), 1e-9)
    np.testing.assert_allclose(reward, [0.5 * 2 + 0.5 * 1, 0.5 * 1 + 0.5 * 1], rtol=1e-6)
