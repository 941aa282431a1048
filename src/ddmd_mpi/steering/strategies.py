"""What makes a frame worth a restart: one short function per strategy (section V-A of the paper)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .outliers import Outliers


class Candidates(NamedTuple):
    """The window of n frames as the strategies see it."""

    rmsd: np.ndarray  # (n,) angstrom
    outliers: Outliers
    generator: np.random.Generator
    contacts: np.ndarray  # (n,) between protein and ligand; NaN if they are not counted


class Ranking(NamedTuple):
    """The verdict on every frame of the window."""

    score: np.ndarray  # (n,) lower is better
    eligible: np.ndarray  # (n,) bool: may be a restart point


def ml(candidates: Candidates) -> Ranking:
    """Outliers only, the rarest first."""
    return Ranking(-candidates.outliers.score, candidates.outliers.mask)


def ml_rmsd(candidates: Candidates) -> Ranking:
    """Outliers only, the lowest RMSD to the target first."""
    return Ranking(candidates.rmsd, candidates.outliers.mask)


def ml_lof(candidates: Candidates) -> Ranking:
    """Outliers only, the largest local outlier factor first."""
    return Ranking(-candidates.outliers.lof, candidates.outliers.mask)


def ml_contacts(candidates: Candidates) -> Ranking:
    """Outliers only, the one with the most contacts between protein and ligand first."""
    return Ranking(-candidates.contacts.astype(np.float64), candidates.outliers.mask)


def greedy(candidates: Candidates) -> Ranking:
    """Every frame, the lowest RMSD to the target first."""
    return Ranking(candidates.rmsd, np.ones(len(candidates.rmsd), bool))


def random(candidates: Candidates) -> Ranking:
    """Every frame, in random order."""
    return Ranking(candidates.generator.random(len(candidates.rmsd)), np.ones(len(candidates.rmsd), bool))


#: Strategies by their name in the settings; "none" ranks nothing.
STRATEGIES: dict[str, Callable[[Candidates], Ranking]] = {
    f.__name__: f for f in (ml, greedy, ml_rmsd, ml_lof, ml_contacts, random)
}
#: Those that rank outliers, and so wait for the first model.
NEEDS_MODEL = frozenset({"ml", "ml_rmsd", "ml_lof", "ml_contacts"})
