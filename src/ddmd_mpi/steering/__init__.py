"""Latents and frames to decisions: outliers, strategies, and the restart policy. Only here: neighbour queries.

What a strategy of one's own needs is here; see docs/steering.md.
"""

from .candidates import Candidates, Choice, Ranking, needs
from .clusters import cluster
from .outliers import Outliers

__all__ = ["Candidates", "Choice", "Outliers", "Ranking", "cluster", "needs"]
