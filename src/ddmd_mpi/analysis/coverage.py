"""How many of the states of a reference a run has visited, over its simulated time (Fig. 5 of the paper)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.cluster.vq import kmeans2, vq
from scipy.spatial.distance import pdist

from ..errors import InputError
from .models import Descriptor, read_trajectory
from .sample import MOST_FRAMES, Sample, even

#: States of the paper; fewer if a state would have fewer frames of the reference than this.
N_STATES, FRAMES_PER_STATE = 500, 10
#: The shape of a frame is the distances between at most so many of its descriptor atoms, in so many components.
N_ATOMS, N_COMPONENTS = 24, 10
KMEANS_STEPS = 5


@dataclass(frozen=True)
class States:
    """States of a reference: clusters of its frames by shape.

    Parameters
    ----------
    name
        Where they are from, in words.
    mean, axes
        Mean distances, nm, shape (n_distances,), and their principal axes, shape (n_distances, n_components).
    centres
        Shape (n_states, n_components), nm.
    """

    name: str
    n_residues: int
    mean: np.ndarray
    axes: np.ndarray
    centres: np.ndarray

    def __len__(self) -> int:
        return len(self.centres)

    def assign(self, positions_nm: np.ndarray) -> np.ndarray:
        """The nearest state of each frame, shape (n_frames,).

        Raises
        ------
        InputError
            If the frames have another number of descriptor atoms.
        """
        if positions_nm.shape[1] != self.n_residues:
            raise InputError(
                f"{self.name} has {self.n_residues} descriptor atoms and the run has {positions_nm.shape[1]}: give a "
                "reference of the same system"
            )
        return vq((_distances(positions_nm) - self.mean) @ self.axes, self.centres)[0]


def states(positions_nm: np.ndarray, name: str, most: int = N_STATES, seed: int = 0) -> States:
    """Cluster the frames of a reference by k-means.

    Parameters
    ----------
    positions_nm
        Positions of the descriptor atoms, shape (n_frames, n_residues, 3).
    name
        Where they are from, in words.

    Raises
    ------
    InputError
        If there are too few frames for two states.
    """
    n_states = min(most, len(positions_nm) // FRAMES_PER_STATE)
    if n_states < 2:
        raise InputError(
            f"{name} has {len(positions_nm)} frames: at least {2 * FRAMES_PER_STATE} are needed to define states"
        )
    distances = _distances(positions_nm)
    mean = distances.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(distances.T).reshape(distances.shape[1], -1))
    axes = axes[:, ::-1][:, :N_COMPONENTS]
    projected = (distances - mean) @ axes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cluster without frames keeps its centre
        centres, _ = kmeans2(projected, _spread(projected, n_states, seed), KMEANS_STEPS, minit="matrix")
    return States(name, positions_nm.shape[1], mean, axes, centres)


def _spread(points: np.ndarray, n: int, seed: int) -> np.ndarray:
    """At most n of the points, far from each other (k-means++, Arthur and Vassilvitskii, 2007)."""
    random = np.random.default_rng(seed)
    chosen = [int(random.integers(len(points)))]
    squared = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < n and squared.max() > 0:
        chosen.append(int(random.choice(len(points), p=squared / squared.sum())))
        squared = np.minimum(squared, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return points[chosen]


def _distances(positions_nm: np.ndarray) -> np.ndarray:
    chosen = np.unique(np.linspace(0, positions_nm.shape[1] - 1, N_ATOMS).round().astype(int))
    return np.array([pdist(frame[chosen]) for frame in positions_nm])


def states_of_file(trajectory: Path, topology: Path, descriptor: Descriptor) -> States:
    """The states of a trajectory file.

    Raises
    ------
    InputError
        If the files cannot be read, or have too few frames.
    """
    pieces = list(read_trajectory(trajectory, topology, descriptor))
    positions = np.concatenate(pieces) if pieces else np.empty((0, 0, 3))
    return states(positions[even(len(positions), MOST_FRAMES)], str(trajectory))


def coverage(found: States, sample: Sample, aggregate_ps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the states that have been visited, over the simulated time.

    Parameters
    ----------
    aggregate_ps
        Time simulated by all walkers until each frame of the sample, ps, shape (n,).

    Returns
    -------
    times, shares : ndarray, shape (n_visited + 1,)
        The time of each first visit, ps, ascending, and the share of the states that have been visited then; the last
        time is that of the last frame.
    """
    order = np.argsort(aggregate_ps, kind="stable")
    _, first = np.unique(found.assign(sample.positions_nm)[order], return_index=True)
    times = np.sort(aggregate_ps[order][first])
    return np.append(times, aggregate_ps.max()), np.append(np.arange(1, len(times) + 1), len(times)) / len(found)
