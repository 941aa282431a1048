"""Strategies of adaptive sampling: the states of the window are ranked, and one frame stands for each.

A state is a cluster of the window, its frame the one nearest to the centre. The score of a frame is that of its state,
so that a walker restarts only if the state which it is in ranks lower.
"""

from __future__ import annotations

import numpy as np

from .candidates import Candidates, Ranking
from .clusters import Clusters, cluster

#: Keeps distances in units of a standard deviation finite.
SMALLEST = np.finfo(float).eps


def least_counts(candidates: Candidates) -> Ranking:
    """The states with the fewest frames first.

    G. R. Bowman, D. L. Ensign and V. S. Pande, J. Chem. Theory Comput. 6, 787 (2010), doi:10.1021/ct900620b.
    """
    states = _states(candidates)
    return Ranking(states.spread(states.counts.astype(float)), states.representatives)


def fast(candidates: Candidates) -> Ranking:
    """The states with the largest reward: a good coordinate, plus `alpha` times few frames, each scaled to 0 .. 1.

    M. I. Zimmerman and G. R. Bowman, J. Chem. Theory Comput. 11, 5747 (2015), doi:10.1021/acs.jctc.5b00737.
    """
    states = _states(candidates)
    directed = _scaled(-states.mean(candidates.coordinate))
    undirected = _scaled(-states.counts.astype(float))
    return Ranking(states.spread(-(directed + candidates.options["alpha"] * undirected)), states.representatives)


def knn(candidates: Candidates) -> Ranking:
    """The states at the border of the sampled region first: the ways to their nearest states add up, not cancel.

    kNN-AS: "k-Nearest Neighbour Adaptive Sampling (kNN-AS), a Simple Tool to Efficiently Explore Conformational Space",
    bioRxiv. The `neighbours` include the state itself.
    """
    states = _states(candidates)
    x = states.centres
    away = np.square(x[:, None] - x).sum(axis=2)
    nearest = np.argsort(away, axis=1, kind="stable")[:, : candidates.options["neighbours"]]
    way = (x[nearest] - x[:, None]).sum(axis=1)
    return Ranking(states.spread(-np.linalg.norm(way, axis=1)), states.representatives)


def reap(candidates: Candidates) -> Ranking:
    """Of the `candidates` states with the fewest frames, those farthest out in the order parameters that matter most.

    Each agent (the walkers in turn: 1 is REAP, more are MA-REAP with shared stakes and collaboration) weighs the order
    parameters so that its reward is largest, changing no weight by more than `delta` in a round.

    Z. Shamsi, K. J. Cheng and D. Shukla, J. Phys. Chem. B 122, 8386 (2018), doi:10.1021/acs.jpcb.8b06521;
    D. E. Kleiman and D. Shukla, J. Chem. Theory Comput. 18, 5422 (2022), doi:10.1021/acs.jctc.2c00683.
    """
    options, x = candidates.options, candidates.block["order_parameters"].astype(float)
    width = np.nanstd(x, axis=0)
    states = cluster(x / np.where(width > 0, width, 1), options["clusters"], candidates.generator, candidates.usable)
    chosen = np.argsort(states.counts, kind="stable")[: options["candidates"]]
    vectors = np.stack([states.mean(column)[chosen] for column in x.T], axis=1)
    agent = candidates.block["walker"] % options["agents"]
    known = np.asarray(candidates.memory.get("weights", []))
    shape = (options["agents"], x.shape[1])
    weights = known if known.shape == shape else np.full(shape, 1 / x.shape[1])
    reward, weights = reap_rewards(x, states.labels, agent, chosen, vectors, weights, options["delta"])
    score = np.zeros(len(states.counts))
    score[chosen] = -reward
    eligible = states.representatives & np.isin(states.labels, chosen)
    return Ranking(states.spread(score), eligible, {"weights": weights.tolist()})


def reap_rewards(
    x: np.ndarray,
    labels: np.ndarray,
    agent: np.ndarray,
    chosen: np.ndarray,
    vectors: np.ndarray,
    weights: np.ndarray,
    delta: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Reward of each state by all agents together (equations 2 and 7 of MA-REAP), and the agents' new weights.

    Parameters
    ----------
    x, labels, agent
        Order parameters, state and agent of each frame, shapes (n, d), (n,), (n,).
    chosen, vectors
        The states that are rewarded and their order parameters, shapes (k,), (k, d).
    weights
        Of the last round, shape (n_agents, d).
    """
    counts = np.array([[np.sum((labels == s) & (agent == a)) for s in chosen] for a in range(len(weights))])
    stakes = counts / np.maximum(counts.sum(axis=0), 1)
    reward, found = np.zeros(len(chosen)), weights.astype(float)
    for a in range(len(weights)):
        own = x[agent == a]
        if not len(own):
            continue
        away = np.abs(vectors - np.nanmean(own, axis=0)) / (np.nanstd(own, axis=0) + SMALLEST)
        found[a] = best_weights(stakes[a] @ away, weights[a], delta)
        reward += stakes[a] * (away @ found[a])
    return reward, found


def best_weights(gain: np.ndarray, weights: np.ndarray, delta: float) -> np.ndarray:
    """The weights >= 0 of sum 1, none changed by more than `delta`, for which gain @ weights is largest.

    A linear programme with bounds and one sum: what is left above the lower bounds goes to the largest gains first.
    """
    best, upper = np.maximum(weights - delta, 0.0), weights + delta
    left = 1.0 - best.sum()
    for i in np.argsort(-gain, kind="stable"):
        best[i], left = best[i] + min(left, upper[i] - best[i]), left - min(left, upper[i] - best[i])
    return best


def _states(candidates: Candidates) -> Clusters:
    """The clusters of the latents."""
    latents = candidates.latents
    if latents is None:
        raise ValueError("there are no latents")
    return cluster(latents, candidates.options["clusters"], candidates.generator, candidates.usable)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values scaled to 0 .. 1; 0 if all are equal."""
    lowest, highest = np.nanmin(values), np.nanmax(values)
    return (values - lowest) / (highest - lowest) if highest > lowest else np.zeros(len(values))
