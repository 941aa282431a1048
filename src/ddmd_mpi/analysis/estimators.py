"""Populations from transitions: a Markov state model, and RiteWeight.

Both take weighted transitions and give a weight for each frame that a transition starts from, so that populations of
whatever regions are sums of weights.
"""

from __future__ import annotations

import numpy as np

from .transitions import Transitions

#: RiteWeight: clusters of a random clustering, and how many iterations are left out and averaged.
N_CLUSTERS, BURN_IN, AVERAGED = 20, 30, 40
#: The same for a sample of the bootstrap, which starts from the weights of all data.
SHORT_BURN_IN, SHORT_AVERAGED = 10, 20
#: Newton's method: steps at most, the largest step of a logarithm, and the one at which it ends.
MAX_STEPS, MAX_STEP, TOLERANCE = 100, 3.0, 1e-8
RIDGE = 1e-12  # of the Hessian's diagonal, which makes it regular
#: How much an iteration changes a weight at most: clusters that are left and not entered lose theirs step by step.
MAX_FACTOR = 1e3


def connected(count: np.ndarray) -> np.ndarray:
    """The labels of the largest strongly connected set, by its transitions."""
    reaches = ((count > 0) | np.eye(len(count), dtype=bool)).astype(np.float32)
    for _ in range(int(np.ceil(np.log2(max(2, len(count)))))):
        reaches = (reaches @ reaches > 0).astype(np.float32)
    together = (reaches > 0) & (reaches.T > 0)
    return np.flatnonzero(together[(together @ count.sum(axis=1)).argmax()])


class MarkovModel:
    """A reversible Markov state model of the largest connected set.

    The maximum of the likelihood (Trendelkamp-Schroer et al., doi:10.1063/1.4934536) has the fluxes x_ij =
    (c_ij + c_ji) / (l_i + l_j), and the l solve sum_j (c_ij + c_ji) l_i / (l_i + l_j) = sum_j c_ij. These are the
    equations of a Bradley-Terry model in log l, whose likelihood is concave: Newton's method takes a few steps.

    Attributes
    ----------
    stationary
        Probability of each label, 0 outside the connected set, shape (n_labels,).
    active
        The labels of the connected set.
    matrix
        Transition matrix of the active labels.

    Parameters
    ----------
    count
        Transitions, shape (n_labels, n_labels).
    near
        A model of similar transitions, from which Newton's method starts.
    """

    def __init__(self, count: np.ndarray, near: MarkovModel | None = None):
        self.active = connected(count)
        self.log_l: np.ndarray = np.zeros(len(count)) if near is None else near.log_l.copy()
        flux = np.ones((1, 1))
        if len(self.active) > 1:
            flux, self.log_l[self.active] = reversible_flux(
                count[np.ix_(self.active, self.active)], self.log_l[self.active]
            )
        mass = flux.sum(axis=1)
        self.matrix = flux / mass[:, None]
        self.stationary = np.zeros(len(count))
        self.stationary[self.active] = mass / mass.sum()

    def timescale(self) -> float:
        """The slowest implied timescale in units of the lag; NaN if there is none."""
        if len(self.active) < 2:
            return np.nan
        root = np.sqrt(self.stationary[self.active])
        second = np.linalg.eigvalsh(root[:, None] * self.matrix / root)[-2]
        return float(-1.0 / np.log(second)) if 0 < second < 1 else np.nan

    def committor(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Chance of each label to reach `target` before `source`, shape (n_labels,); NaN if it is not connected."""
        found = np.full(len(self.stationary), np.nan)
        fixed = np.isin(self.active, np.concatenate([source, target]))
        ends = np.isin(self.active, target).astype(float)
        if not ends.any() or not (fixed & (ends == 0)).any():
            return found
        free = ~fixed
        matrix = self.matrix[free]
        ends[free] = np.linalg.solve(np.eye(free.sum()) - matrix[:, free], matrix @ ends)
        found[self.active] = ends
        return found


def reversible_flux(count: np.ndarray, log_l: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric fluxes that make connected transitions most likely, and log l, see :class:`MarkovModel`.

    Parameters
    ----------
    log_l
        Where Newton's method starts.

    Returns
    -------
    flux, log_l
        The sum of the fluxes is 1.
    """
    both, leaves = count + count.T, count.sum(axis=1)
    both[np.diag_indices(len(both))] /= 2
    others = both - np.diag(both.diagonal())
    wins = leaves - both.diagonal()
    for _ in range(MAX_STEPS):
        share = 1.0 / (1.0 + np.exp(log_l - log_l[:, None]))  # l_i / (l_i + l_j)
        gradient = wins - (others * share).sum(axis=1)
        curvature = others * share * share.T
        hessian = np.diag(curvature.sum(axis=1) * (1 + RIDGE)) - curvature
        step = np.linalg.solve(hessian, gradient)
        step -= step[0]  # a common factor of all l is free
        log_l = log_l + np.clip(step, -MAX_STEP, MAX_STEP)
        if np.abs(step).max() < TOLERANCE:
            break
    rate = np.exp(log_l - log_l.max())
    flux = others / (rate[:, None] + rate) + np.diag(both.diagonal() / np.maximum(rate, 1e-300))
    return flux / flux.sum(), log_l


def random_clusterings(features: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
    """Labels in `n` random clusterings, shape (n, n_frames): each frame goes to the nearest of some frames."""
    from scipy.spatial import cKDTree

    n_clusters = min(N_CLUSTERS, max(2, len(features) // 5))
    found = np.empty((n, len(features)), np.int32)
    for labels in found:
        centres = random.choice(len(features), n_clusters, replace=False)
        labels[:] = cKDTree(features[centres]).query(features)[1]
    return found


def riteweight(
    pairs: Transitions, clusterings: np.ndarray, weight: np.ndarray, guess: np.ndarray | None = None
) -> np.ndarray:
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
    guess
        Weights for `weight` of ones to start from, such as those of all data.
    """
    density = np.full(len(weight), 1.0 / max(1, len(weight))) if guess is None else guess / pairs.weight
    burn_in, averaged = (BURN_IN, AVERAGED) if guess is None else (SHORT_BURN_IN, SHORT_AVERAGED)
    mean = np.zeros(len(density))
    n_labels = int(clusterings.max()) + 1
    for iteration in range(burn_in + averaged):
        labels = clusterings[iteration % len(clusterings)]
        flow = density * weight
        cells = labels[pairs.start] * n_labels + labels[pairs.end]
        count = np.bincount(cells, weights=flow, minlength=n_labels**2).reshape(n_labels, n_labels)
        factor = _factors(count)
        density = density * factor[labels[pairs.start]]
        density /= (factor * count.sum(axis=1)).sum()
        if iteration >= burn_in:
            mean += density
    mean *= weight
    return mean / mean.sum()


def _factors(count: np.ndarray) -> np.ndarray:
    """What the weight of each cluster is multiplied by to be stationary; those outside the connected set keep it."""
    factor, active = np.ones(len(count)), connected(count)
    if len(active) > 1:
        own, mass = count[np.ix_(active, active)], count.sum(axis=1)
        wanted = stationary_of(own) * mass[active].sum()
        factor[active] = np.clip(wanted / mass[active], 1 / MAX_FACTOR, MAX_FACTOR)
    return factor


def stationary_of(count: np.ndarray) -> np.ndarray:
    """Stationary distribution of connected transitions, not assumed reversible."""
    equations = (count / count.sum(axis=1, keepdims=True)).T - np.eye(len(count))
    equations[-1] = 1.0
    solution = np.maximum(np.linalg.solve(equations, np.eye(len(count))[-1]), 1e-300)
    return solution / solution.sum()
