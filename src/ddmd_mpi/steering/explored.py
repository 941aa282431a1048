"""Which conformations a run has been in so far: states that open as new conformations come, and never close.

A frame further than the resolution from the centres of all states opens a state, and is its centre (the leader
algorithm: J. A. Hartigan, Clustering Algorithms, Wiley 1975, chapter 3). The distance of two frames is the root mean
square difference of the distances between a few descriptor atoms, so that nothing needs to be superposed.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

#: Descriptor atoms, evenly spaced along the chain, whose distances are compared; states, at most.
LANDMARKS, MOST = 8, 1000
#: Frames whose distances are in memory together: they stay in the cache.
AT_ONCE = 500
#: Factor of the resolution when there are too many states; those that are then too close become one.
COARSER = 1.2
#: Stored positions are whole numbers of 0.01 angstrom.
PER_ANGSTROM = 100


class Explored:
    """The states that have been found.

    Parameters
    ----------
    resolution_angstrom
        Frames within this distance of a state's centre are of that state. It grows if there are too many states.
    most
        States, at most.

    Attributes
    ----------
    centres
        Distances of the states' centres, angstrom, shape (n_states, n_pairs), float32.
    counts
        Frames of each state so far, shape (n_states,), float64.
    opened
        States opened so far, those that have become one with another included.
    """

    def __init__(self, resolution_angstrom: float, most: int = MOST):
        self.resolution = resolution_angstrom
        self.centres = np.zeros((0, 0), np.float32)
        self.counts = np.zeros(0)
        self.opened = 0
        self._most = most

    def __len__(self) -> int:
        return len(self.centres)

    def add(self, ca_positions: np.ndarray) -> np.ndarray:
        """Count frames, and open a state for each that belongs to none; which these are, shape (n,) bool.

        Parameters
        ----------
        ca_positions
            Descriptor atoms, 0.01 angstrom, shape (n, n_residues, 3).
        """
        x = distances(ca_positions)
        if not len(self):
            self.centres = np.zeros((0, x.shape[1]), np.float32)
        parts = [self._add(x[i : i + AT_ONCE]) for i in range(0, len(x), AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros(0, bool)

    def states_of(self, ca_positions: np.ndarray) -> np.ndarray:
        """The state of each frame: that with the nearest centre, shape (n,)."""
        return nearest(distances(ca_positions), self.centres)

    def state(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        packed = base64.b64encode(self.centres.tobytes()).decode()
        return {
            "resolution": self.resolution,
            "opened": self.opened,
            "counts": self.counts.tolist(),
            "centres": packed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a :meth:`state`."""
        self.resolution, self.opened = state["resolution"], state["opened"]
        self.counts = np.array(state["counts"], float)
        centres = np.frombuffer(base64.b64decode(state["centres"]), np.float32)
        self.centres = centres.reshape(len(self.counts), -1) if len(self.counts) else np.zeros((0, 0), np.float32)

    def _add(self, x: np.ndarray) -> np.ndarray:
        """Count the rows of `x`, and open states for those that are far from all, shape (n,) bool."""
        new = self._open(x)
        self.opened += int(new.sum())
        self.counts = np.concatenate([self.counts, np.zeros(len(self) - len(self.counts))])
        self.counts += np.bincount(nearest(x, self.centres), minlength=len(self))
        while len(self) > self._most:
            self.resolution *= COARSER
            held, self.centres = self.centres, self.centres[:0]
            self._open(held)
            self.counts = np.bincount(nearest(held, self.centres), self.counts, len(self)).astype(float)
        return new

    def _open(self, x: np.ndarray) -> np.ndarray:
        """Open states for the rows of `x` that are far from all; which these are, shape (n,) bool."""
        new = np.zeros(len(x), bool)
        limit = self.resolution**2
        far = np.flatnonzero(squared(x, self.centres).min(axis=1, initial=np.inf) > limit)
        near = squared(x[far], x[far]) <= limit
        settled = np.zeros(len(far), bool)
        for i in range(len(far)):
            if not settled[i]:
                new[far[i]] = True
                settled |= near[i]
        self.centres = np.concatenate([self.centres, x[new]])
        return new


def distances(ca_positions: np.ndarray) -> np.ndarray:
    """Distances between the landmarks of each frame, angstrom, shape (n, n_pairs), float32."""
    n = ca_positions.shape[1]
    chosen = np.unique(np.linspace(0, n - 1, LANDMARKS).round().astype(int))
    first, second = np.triu_indices(len(chosen), 1)
    x = ca_positions[:, chosen].astype(np.float32) / PER_ANGSTROM
    return np.linalg.norm(x[:, first] - x[:, second], axis=2)


def nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the centre nearest to each row of `x`, shape (n,)."""
    parts = [squared(x[i : i + AT_ONCE], centres).argmin(axis=1) for i in range(0, len(x), AT_ONCE)]
    return np.concatenate(parts) if parts else np.zeros(0, int)


def squared(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Mean square difference of each row of `x` to each centre, shape (n, n_centres)."""
    cross = x @ centres.T
    return (np.square(x).sum(axis=1)[:, None] - 2 * cross + np.square(centres).sum(axis=1)) / max(1, x.shape[1])
