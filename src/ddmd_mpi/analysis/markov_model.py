"""The truth behind ``simulation.engine = "markov"``: exact populations, passage times and committors of its model.

Times are in steps of the model; :attr:`MarkovModel.lag_ps` is the time of one.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..md.emulated.markov import RESOLUTION_NM, MarkovModel, read_model

__all__ = ["MarkovModel", "committor", "mean_first_passage_times", "read_model", "states_of", "stationary_distribution"]


def stationary_distribution(matrix: np.ndarray) -> np.ndarray:
    """The probabilities p with p @ matrix = p and sum 1, shape (n_states,).

    Parameters
    ----------
    matrix
        Transition probabilities between states that are all connected, rows sum to 1, shape (n_states, n_states).
    """
    n = len(matrix)
    equations = np.eye(n) - matrix.T
    equations[-1] = 1.0  # in place of one that follows from the others
    return np.linalg.solve(equations, np.eye(n)[-1])


def mean_first_passage_times(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean number of steps from each state to the first visit of one of the `target` states, shape (n_states,).

    Parameters
    ----------
    matrix
        As in :func:`stationary_distribution`.
    target
        Indices of states; their own times are 0.
    """
    times = np.zeros(len(matrix))
    others = np.setdiff1d(np.arange(len(matrix)), target)
    times[others] = np.linalg.solve(np.eye(len(others)) - matrix[np.ix_(others, others)], np.ones(len(others)))
    return times


def committor(matrix: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Probability of each state to come to `target` before `source`, shape (n_states,).

    P. Metzner, C. Schütte and E. Vanden-Eijnden, Multiscale Model. Simul. 7, 1192 (2009), doi:10.1137/070699500.

    Parameters
    ----------
    matrix
        As in :func:`stationary_distribution`.
    source, target
        Indices of states, none of them in both.
    """
    probability = np.zeros(len(matrix))
    probability[target] = 1.0
    others = np.setdiff1d(np.arange(len(matrix)), np.union1d(source, target))
    straight = matrix[np.ix_(others, target)].sum(axis=1)
    probability[others] = np.linalg.solve(np.eye(len(others)) - matrix[np.ix_(others, others)], straight)
    return probability


def states_of(model: MarkovModel, positions_nm: np.ndarray) -> np.ndarray:
    """The states that frames of a run belong to, shape (n_frames,): what the run has covered.

    Parameters
    ----------
    positions_nm
        Frames of a run with that model, as its trajectories have them, nm, shape (n_frames, n_atoms, 3).

    Raises
    ------
    InputError
        If a frame is not one of the model's.
    """
    known = {_key(x): int(s) for x, s in zip(model.positions, model.state, strict=True)}
    found = [known.get(_key(x), -1) for x in positions_nm]
    if -1 in found:
        raise InputError(f"frame {found.index(-1)} is none of the Markov model: give frames of a run with this model")
    return np.array(found, int)


def _key(positions_nm: np.ndarray) -> bytes:
    return np.rint(positions_nm / RESOLUTION_NM).astype(np.int32).tobytes()
