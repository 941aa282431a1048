"""How many walkers each ligand has, and the rule that keeps them diverse: a floor and a cap of walkers per ligand."""

from __future__ import annotations

import numpy as np

from ..config.schema import SteeringSection


def first_topology(walker: int, n_topologies: int) -> int:
    """The topology that a walker starts with: all are spread evenly."""
    return walker % n_topologies


class LigandCensus:
    """Which topology each walker has.

    Parameters
    ----------
    topologies
        Index of the topology that each walker starts with, shape (n_walkers,).
    n_topologies
        Topologies of the run, each with a ligand of its own.
    settings
        ``walkers_per_ligand_min`` and ``walkers_per_ligand_max``.
    """

    def __init__(self, topologies: np.ndarray, n_topologies: int, settings: SteeringSection):
        self.topologies, self.n_topologies = np.array(topologies), n_topologies
        self._floor, self._cap = settings.walkers_per_ligand_min, settings.walkers_per_ligand_max

    @property
    def counts(self) -> np.ndarray:
        """Walkers of each topology, shape (n_topologies,)."""
        return np.bincount(self.topologies, minlength=self.n_topologies)

    def update(self, walkers: np.ndarray, topologies: np.ndarray) -> None:
        """Note what walkers have been found to have."""
        self.topologies[walkers] = topologies

    def allows(self, walker: int, topology: int) -> bool:
        """Whether a walker may change to a topology: it leaves enough behind, and is not one too many."""
        left = self.topologies[walker]
        if left == topology:
            return True
        counts = self.counts
        return bool(counts[left] > self._floor and (self._cap is None or counts[topology] < self._cap))

    def move(self, walker: int, topology: int) -> None:
        """Book a walker's change."""
        self.topologies[walker] = topology
