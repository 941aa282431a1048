"""Which part of the conformations a trial has visited: states of a truth, or clusters of the frames of all trials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..analysis import coverage
from .outcome import NM_PER_UNIT, Outcome

#: Clusters of a system without a truth, and the frames of all its trials to which they are fitted, at most.
N_CLUSTERS, FIT_FRAMES = 200, 4000


def coverage_curve(states: np.ndarray, n_states: int) -> np.ndarray:
    """Part of all states that were visited until each frame, shape (n_frames,)."""
    new = np.zeros(len(states), int)
    new[np.unique(states, return_index=True)[1]] = 1
    return np.cumsum(new) / n_states


def reach(times: np.ndarray, curve: np.ndarray, part: float) -> float:
    """First time at which a rising curve has reached a value, infinite if it never has."""
    at = int(np.searchsorted(curve, part - 1e-9))
    return float(times[at]) if at < len(curve) else np.inf


def states_of_trials(outcomes: Sequence[Outcome]) -> tuple[list[np.ndarray], int]:
    """States of the frames of each trial of a system, and their number.

    Those of the Markov model that the system moves on; without one, clusters of frames of all trials together, see
    :func:`.analysis.coverage.states`.

    Raises
    ------
    InputError
        If there are too few frames to define states.
    """
    known = int(outcomes[0].facts["states"])
    if known:
        return [outcome.states for outcome in outcomes], known
    ends = np.cumsum([len(outcome.positions) for outcome in outcomes])
    chosen = np.unique(np.linspace(0, ends[-1] - 1, FIT_FRAMES).astype(int))
    starts = np.concatenate([[0], ends[:-1]])
    fitted = [
        o.positions[chosen[(chosen >= a) & (chosen < b)] - a] for o, a, b in zip(outcomes, starts, ends, strict=True)
    ]
    pooled = coverage.states(np.concatenate(fitted) * NM_PER_UNIT, "the study", N_CLUSTERS)
    return [pooled.assign(outcome.positions * NM_PER_UNIT) for outcome in outcomes], len(pooled)
