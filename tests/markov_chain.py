"""Walkers on a Markov chain of known populations and passage times, steered as a run is."""

from __future__ import annotations

import numpy as np

from ddmd_mpi.analysis.transitions import Stretches, stretches

N_STATES, TARGET, SOURCE = 20, 6, 14
N_WALKERS, CHECK, WINDOW = 12, 5, 20


def chain(power: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Transition matrix and stationary distribution of a walk in a double well: Metropolis steps, `power` at a time."""
    place = np.arange(N_STATES)
    energy = -1.5 * np.cos(4 * np.pi * (place + 0.5) / N_STATES) + 1.5 * place / N_STATES
    stationary = np.exp(-energy) / np.exp(-energy).sum()
    matrix = np.zeros((N_STATES, N_STATES))
    for i in place:
        for j in (i - 1, i + 1):
            if 0 <= j < N_STATES:
                matrix[i, j] = 0.45 * min(1.0, stationary[j] / stationary[i])
        matrix[i, i] = 1.0 - matrix[i].sum()
    return np.linalg.matrix_power(matrix, power), stationary


def passage(matrix: np.ndarray, stationary: np.ndarray) -> float:
    """Mean first passage time from the source to the target, by the hitting times' own equations."""
    free = np.arange(TARGET, N_STATES)
    times = np.linalg.inv(np.eye(len(free)) - matrix[np.ix_(free, free)]).sum(axis=1)
    mass = stationary[SOURCE:]
    return float(mass @ times[SOURCE - TARGET :] / mass.sum())


def steered_walk(seed: int, n_steps: int, every: int = CHECK) -> Stretches:
    """Walkers that start at the far end; the worse half of them is restarted, every other time, from the best states.

    Parameters
    ----------
    every
        Steps between two rounds of restarts.
    """
    matrix, _ = chain()
    steps, random = matrix.cumsum(axis=1), np.random.default_rng(seed)
    state = np.full(N_WALKERS, N_STATES - 2)
    open_ones, done, cut = [[s] for s in state], [], []
    for step in range(1, n_steps + 1):
        state = np.array([np.searchsorted(steps[s], u) for s, u in zip(state, random.random(N_WALKERS), strict=True)])
        state = np.minimum(state, N_STATES - 1)
        for walk, s in zip(open_ones, state, strict=True):
            walk.append(s)
        if step % every:
            continue
        best = np.sort(np.concatenate([walk[-WINDOW:] for walk in open_ones]))[:N_WALKERS]
        for walker in np.argsort(state + 0.1 * random.random(N_WALKERS))[N_WALKERS // 2 :]:
            source = random.choice(best)
            if random.random() < 0.5 and source < state[walker]:
                done.append(open_ones[walker])
                cut.append(True)
                state[walker], open_ones[walker] = source, [source]
    walks, cut = [*done, *open_ones], [*cut, *[False] * N_WALKERS]
    begins = np.concatenate([np.arange(len(walk)) == 0 for walk in walks])
    ended = np.concatenate([np.full(len(walk), not c) for walk, c in zip(walks, cut, strict=True)])
    return stretches(np.concatenate(walks).astype(float)[:, None], begins, ended)
