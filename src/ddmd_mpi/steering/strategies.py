"""What makes a frame worth a restart: one short function per strategy (section V-A of the paper)."""

from __future__ import annotations

import numpy as np

from .adaptive import fast, knn, least_counts, reap
from .auto import auto
from .candidates import Candidates, Choice, Ranking, Strategy


def ml(candidates: Candidates) -> Ranking:
    """Outliers only, the rarest first."""
    return Ranking(-candidates.outliers.score, candidates.outliers.mask)


def ml_rmsd(candidates: Candidates) -> Ranking:
    """Outliers only, the lowest RMSD to the target first."""
    return Ranking(candidates.coordinate, candidates.outliers.mask)


def ml_lof(candidates: Candidates) -> Ranking:
    """Outliers only, the largest local outlier factor first."""
    return Ranking(-candidates.outliers.lof, candidates.outliers.mask)


def ml_contacts(candidates: Candidates) -> Ranking:
    """Outliers only, the one with the most contacts between protein and ligand first."""
    return Ranking(-candidates.contacts.astype(np.float64), candidates.outliers.mask)


def greedy(candidates: Candidates) -> Ranking:
    """Every frame, the lowest RMSD to the target first."""
    return Ranking(candidates.coordinate, np.ones(len(candidates), bool))


def random(candidates: Candidates) -> Ranking:
    """Every frame, in random order."""
    return Ranking(candidates.generator.random(len(candidates)), np.ones(len(candidates), bool))


def published(candidates: Candidates) -> Choice:
    """Every walker: walker i takes the outlier with the i-th lowest RMSD; of all frames if the outliers are too few.

    The rule of DeepDriveMD-S (agent of DeepDriveMD-streaming, commit 62f3465). Frames are used again and again.
    """
    allowed = candidates.usable & np.isfinite(candidates.coordinate)
    outliers = allowed & candidates.outliers.mask
    pool = np.flatnonzero(outliers if outliers.sum() >= candidates.n_walkers else allowed)
    best = pool[np.argsort(candidates.coordinate[pool], kind="stable")][: candidates.n_walkers]
    frames = np.full(candidates.n_walkers, -1)
    frames[: len(best)] = best
    return Choice(frames)


#: Strategies by their name in the settings; "none" decides nothing. What they need is in config/strategies.py.
STRATEGIES: dict[str, Strategy] = {
    f.__name__: f
    for f in (ml, ml_rmsd, ml_lof, ml_contacts, greedy, random, least_counts, fast, knn, reap, auto, published)
}
