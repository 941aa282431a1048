"""Strategies: what each ranks first, and what it does not rank at all."""

from typing import get_args, get_type_hints

import numpy as np
import pytest

from ddmd_mpi.config.schema import SteeringSection
from ddmd_mpi.steering.outliers import Outliers
from ddmd_mpi.steering.strategies import NEEDS_MODEL, STRATEGIES, Candidates

RMSD = np.array([5.0, 3.0, 1.0, 4.0, 2.0])
MASK = np.array([True, True, False, False, True])
RADIUS = np.array([0.7, 0.9, 0.1, 0.2, 0.8])
LOF = np.array([3.0, 1.4, 1.0, 1.1, 1.5])
CONTACTS = np.full(5, np.nan)


def rank(name: str, method: str = "dbscan", seed: int = 0):
    outliers = Outliers(MASK, 0.5, RADIUS, LOF, method)
    return STRATEGIES[name](Candidates(RMSD, outliers, np.random.default_rng(seed), CONTACTS))


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


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - NEEDS_MODEL))
def test_strategies_that_need_no_model_rank_without_outliers(name):
    ranking = STRATEGIES[name](Candidates(RMSD, Outliers.none(len(RMSD)), np.random.default_rng(0), CONTACTS))
    assert ranking.eligible.all()
    assert np.isfinite(ranking.score).all()


def test_every_strategy_of_the_settings_is_here():
    assert {*STRATEGIES, "none"} == set(get_args(get_type_hints(SteeringSection)["strategy"]))
