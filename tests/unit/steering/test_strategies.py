"""Strategies: what each ranks first, and what it does not rank at all."""

import numpy as np
import pytest

from ddmd_mpi.config.strategies import BUILT_IN
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.steering import Candidates
from ddmd_mpi.steering.outliers import Outliers
from ddmd_mpi.steering.strategies import STRATEGIES

RMSD = np.array([5.0, 3.0, 1.0, 4.0, 2.0])
MASK = np.array([True, True, False, False, True])
RADIUS = np.array([0.7, 0.9, 0.1, 0.2, 0.8])
LOF = np.array([3.0, 1.4, 1.0, 1.1, 1.5])
CONTACTS = np.full(5, np.nan)
NEEDS_NOTHING_OF_A_MODEL = [n for n, b in BUILT_IN.items() if not b.needs & {"outliers", "latents"} and n != "none"]


def candidates(name, outliers, seed=0, **changes) -> Candidates:
    columns = {
        "walker": np.arange(5),
        "frame": np.arange(5),
        "decision": np.full(5, -1),
        "order_parameters": np.arange(10.0).reshape(5, 2),
        "ca_positions": np.arange(5 * 8 * 3).reshape(5, 8, 3),
    }
    parts = {
        "block": FrameBlock(columns),
        "coordinate": RMSD,
        "usable": np.ones(5, bool),
        "n_walkers": 2,
        "generator": np.random.default_rng(seed),
        "outliers": outliers,
        "contacts": CONTACTS,
        "options": BUILT_IN[name].options,
    }
    return Candidates(**{**parts, **changes})


def rank(name: str, method: str = "dbscan", seed: int = 0):
    return STRATEGIES[name](candidates(name, Outliers(MASK, 0.5, RADIUS, LOF, method), seed))


def order(ranking) -> list[int]:
    """Eligible frames, best first."""
    return [i for i in np.argsort(ranking.score) if ranking.eligible[i]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ml", [1, 4, 0]), ("ml_rmsd", [4, 1, 0]), ("ml_lof", [0, 4, 1]), ("greedy", [2, 4, 1, 3, 0])],
)
def test_order(name, expected):
    assert order(rank(name)) == expected


def test_ml_ranks_by_the_measure_that_made_the_outliers():
    assert order(rank("ml", method="lof")) == [0, 4, 1]


def test_random_ranks_every_frame_by_the_generator_alone():
    first, same, other = rank("random", seed=1), rank("random", seed=1), rank("random", seed=2)
    assert first.eligible.all()
    assert np.array_equal(first.score, same.score)
    assert not np.array_equal(first.score, other.score)


@pytest.mark.parametrize("name", NEEDS_NOTHING_OF_A_MODEL)
def test_strategies_that_need_no_model_rank_without_outliers(name):
    ranking = STRATEGIES[name](candidates(name, Outliers.none(len(RMSD)), n_walkers=5))
    assert ranking.eligible.any()
    assert np.isfinite(ranking.score).all()


def test_every_strategy_of_the_settings_is_here_and_cites_what_it_is():
    assert {*STRATEGIES, "none"} == set(BUILT_IN)
    for name in ("least_counts", "fast", "reap"):
        assert "doi:10." in STRATEGIES[name].__doc__
    assert "bioRxiv" in STRATEGIES["knn"].__doc__


def test_published_gives_each_walker_the_next_outlier_by_rmsd():
    rare = Outliers(MASK, 0.5, RADIUS, LOF, "dbscan")
    choose = STRATEGIES["published"]
    assert choose(candidates("published", rare)).frames.tolist() == [4, 1]
    assert choose(candidates("published", rare, n_walkers=3)).frames.tolist() == [4, 1, 0]
    lost = np.array([True, True, True, True, False])
    assert choose(candidates("published", rare, usable=lost)).frames.tolist() == [1, 0]


def test_published_takes_the_lowest_rmsd_of_all_where_outliers_are_too_few():
    rare = Outliers(MASK, 0.5, RADIUS, LOF, "dbscan")
    assert STRATEGIES["published"](candidates("published", rare, n_walkers=4)).frames.tolist() == [2, 4, 1, 3]
    spoiled = candidates("published", rare, n_walkers=6, coordinate=np.where(RMSD == 2, np.nan, RMSD))
    assert STRATEGIES["published"](spoiled).frames.tolist() == [2, 1, 3, 0, -1, -1]
