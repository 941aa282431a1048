"""Populations and passage times from transitions: a Markov state model, and RiteWeight.

Both take weighted transitions and give a weight for each frame that a transition starts from, so that populations of
whatever regions are sums of weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from ..errors import InputError
from .transitions import Transitions, counts

#: RiteWeight: clusters of a random clustering, and how many iterations are left out and averaged.
N_CLUSTERS, BURN_IN, AVERAGED = 20, 30, 40
#: How much an iteration changes a weight at most: clusters that are left and not entered lose theirs step by step.
MAX_FACTOR = 1e3


def import_deeptime() -> Any:
    """The library of Markov state models.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import deeptime.markov.msm
    except ImportError as error:
        raise InputError(f"populations need deeptime ({error}): pip install 'ddmd-mpi[analysis]'") from error
    return deeptime


def connected(count: np.ndarray) -> np.ndarray:
    """The labels of the largest strongly connected set, by its transitions."""
    _, component = connected_components(csr_array(count > 0), directed=True, connection="strong")
    largest = np.bincount(component, weights=count.sum(axis=1)).argmax()
    return np.flatnonzero(component == largest)


class MarkovModel:
    """A reversible Markov state model of the largest connected set (deeptime).

    Attributes
    ----------
    stationary
        Probability of each label, 0 outside the connected set, shape (n_labels,).
    active
        The labels of the connected set.
    """

    def __init__(self, count: np.ndarray):
        msm = import_deeptime().markov.msm
        self.active = connected(count)
        own = count[np.ix_(self.active, self.active)]
        estimator = msm.MaximumLikelihoodMSM(reversible=True, transition_matrix_tolerance=1e-4)
        self._model = estimator.fit_from_counts(own).fetch_model() if len(self.active) > 1 else None
        self.stationary = np.zeros(len(count))
        self.stationary[self.active] = 1.0 if self._model is None else self._model.stationary_distribution

    def timescales(self, n: int) -> np.ndarray:
        """The slowest implied timescales in units of the lag, shape (n,), NaN where there are fewer."""
        found = np.full(n, np.nan)
        if self._model is not None:
            slowest = np.real(self._model.timescales(n))
            found[: len(slowest)] = slowest
        return found

    def passage(self, source: np.ndarray, target: np.ndarray) -> float:
        """Mean first passage time between sets of labels in units of the lag; NaN if a set is not connected."""
        begin, end = (np.flatnonzero(np.isin(self.active, labels)) for labels in (source, target))
        if self._model is None or not len(begin) or not len(end):
            return np.nan
        return passage_time(self._model.transition_matrix, self.stationary[self.active], begin, end)


def passage_time(matrix: np.ndarray, stationary: np.ndarray, source: np.ndarray, target: np.ndarray) -> float:
    """Mean first passage time in steps, from the stationary distribution in `source` to `target`."""
    others = np.setdiff1d(np.arange(len(matrix)), target)
    times = np.zeros(len(matrix))
    try:
        times[others] = np.linalg.solve(np.eye(len(others)) - matrix[np.ix_(others, others)], np.ones(len(others)))
    except np.linalg.LinAlgError:
        return np.nan
    mass = stationary[source]
    return float(mass @ times[source] / mass.sum()) if mass.sum() > 0 else np.nan


def frame_weights(pairs: Transitions, labels: np.ndarray, stationary: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The weights of the pairs' starts that give each label its probability, shape (n_pairs,)."""
    own = labels[pairs.start]
    total = np.bincount(own, weights=weight, minlength=len(stationary))
    return weight * np.where(total[own] > 0, stationary[own] / np.maximum(total[own], 1e-300), 0.0)


def random_clusterings(features: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
    """Labels in `n` random clusterings, shape (n, n_frames): each frame goes to the nearest of some frames."""
    from scipy.spatial import cKDTree

    n_clusters = min(N_CLUSTERS, max(2, len(features) // 5))
    found = np.empty((n, len(features)), np.int32)
    for labels in found:
        centres = random.choice(len(features), n_clusters, replace=False)
        labels[:] = cKDTree(features[centres]).query(features)[1]
    return found


def riteweight(pairs: Transitions, clusterings: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights of the pairs' starts in the stationary distribution, which sum to 1, shape (n_pairs,).

    Each iteration solves for the stationary distribution of a random clustering, with the weights so far, and gives
    each cluster that weight; within a cluster the weights keep their ratios. Self-consistent weights are those that no
    clustering changes (Kania et al., arXiv:2401.05597). The mean of the last iterations is returned.

    Parameters
    ----------
    clusterings
        See :func:`random_clusterings`; used one after the other, again and again.
    weight
        Weights of the pairs to start from, such as those of a bootstrap sample, >= 0.
    """
    density = np.where(weight > 0, 1.0 / max(1, int((weight > 0).sum())), 0.0)
    mean = np.zeros(len(density))
    n_labels = int(clusterings.max()) + 1
    for iteration in range(BURN_IN + AVERAGED):
        labels = clusterings[iteration % len(clusterings)]
        count = counts(pairs, labels, n_labels, density * weight)
        active = connected(count)
        if len(active) > 1:
            density = _rescaled(pairs, labels, density, weight, count, active)
        if iteration >= BURN_IN:
            mean += density * weight
    return mean / mean.sum()


def _rescaled(
    pairs: Transitions,
    labels: np.ndarray,
    density: np.ndarray,
    weight: np.ndarray,
    count: np.ndarray,
    active: np.ndarray,
) -> np.ndarray:
    """The densities, such that each active cluster has its stationary probability; the others keep theirs."""
    own = count[np.ix_(active, active)]
    mass = count.sum(axis=1)
    factor = np.ones(len(count))
    factor[active] = np.clip(stationary_of(own) * mass[active].sum() / mass[active], 1 / MAX_FACTOR, MAX_FACTOR)
    scaled = density * factor[labels[pairs.start]]
    return scaled / (scaled * weight).sum()


def stationary_of(count: np.ndarray) -> np.ndarray:
    """Stationary distribution of connected transitions, not assumed reversible."""
    matrix = count / count.sum(axis=1, keepdims=True)
    n = len(matrix)
    equations = np.vstack([matrix.T - np.eye(n), np.ones(n)])
    solution = np.linalg.lstsq(equations, np.append(np.zeros(n), 1.0), rcond=None)[0]
    solution = np.maximum(solution, 1e-300)
    return solution / solution.sum()
