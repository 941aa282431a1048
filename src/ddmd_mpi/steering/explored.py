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
    opened
        States opened so far, those that have become one with another included.
    """

    def __init__(self, resolution_angstrom: float, most: int = MOST):
        self.resolution = resolution_angstrom
        self.centres = np.zeros((0, 0), np.float32)
        self.opened = 0
        self._most = most

    def __len__(self) -> int:
        return len(self.centres)

    def add(self, ca_positions: np.ndarray) -> np.ndarray:
        """Open a state for each frame that belongs to none; which frames these are, shape (n,) bool.

        Parameters
        ----------
        ca_positions
            Descriptor atoms, 0.01 angstrom, shape (n, n_residues, 3).
        """
        x = distances(ca_positions)
        if not len(self):
            self.centres = np.zeros((0, x.shape[1]), np.float32)
        new = self._open(x)
        self.opened += int(new.sum())
        while len(self) > self._most:
            self.resolution *= COARSER
            held, self.centres = self.centres, self.centres[:0]
            self._open(held)
        return new

    def state(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        packed = base64.b64encode(self.centres.tobytes()).decode()
        return {"resolution": self.resolution, "opened": self.opened, "states": len(self), "centres": packed}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a :meth:`state`."""
        self.resolution, self.opened = state["resolution"], state["opened"]
        centres = np.frombuffer(base64.b64decode(state["centres"]), np.float32)
        self.centres = centres.reshape(state["states"], -1) if state["states"] else np.zeros((0, 0), np.float32)

    def _open(self, x: np.ndarray) -> np.ndarray:
        """Open states for the rows of `x` that are far from all; which these are, shape (n,) bool."""
        new = np.zeros(len(x), bool)
        limit = self.resolution**2
        far = np.flatnonzero(squared(x, self.centres).min(axis=1, initial=np.inf) > limit)
        leaders: list[int] = []
        for i in far:
            if not leaders or squared(x[i : i + 1], x[leaders]).min() > limit:
                leaders.append(int(i))
        new[leaders] = True
        self.centres = np.concatenate([self.centres, x[leaders]])
        return new


def distances(ca_positions: np.ndarray) -> np.ndarray:
    """Distances between the landmarks of each frame, angstrom, shape (n, n_pairs), float32."""
    n = ca_positions.shape[1]
    chosen = np.unique(np.linspace(0, n - 1, LANDMARKS).round().astype(int))
    first, second = np.triu_indices(len(chosen), 1)
    x = ca_positions[:, chosen].astype(np.float32) / PER_ANGSTROM
    return np.linalg.norm(x[:, first] - x[:, second], axis=2)


def squared(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Mean square difference of each row of `x` to each centre, shape (n, n_centres)."""
    cross = x @ centres.T
    return (np.square(x).sum(axis=1)[:, None] - 2 * cross + np.square(centres).sum(axis=1)) / max(1, x.shape[1])
