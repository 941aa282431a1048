"""Which walkers restart, and from which frames: the rules that decide more than the model does.

Only walkers of the worse half restart, never all of them, and only to a frame that is better than where they are; a
frame is used once, a segment has few children, and the frames chosen together are not the same conformation again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config.schema import SteeringSection
from ..frames.block import FrameBlock
from .ligand_quota import LigandCensus
from .outliers import Outliers
from .strategies import NEEDS_MODEL, STRATEGIES, Candidates, Ranking

#: ``min_latent_distance = "auto"`` as a fraction of the median noise radius: half of the way to the tenth neighbour.
#: Frames that coincide with so many others are left out of the median, or it would be 0 where most maps are equal.
AUTO_DISTANCE = 0.5
#: Velocity seed that asks for a copy of the frame's velocities.
COPY_VELOCITIES = -1


@dataclass(frozen=True)
class Restart:
    """One walker's restart from one frame of the window; scores are the strategy's, lower is better."""

    walker: int
    index: int  # of the frame in the window
    score: float
    walker_score: float  # of the walker's newest frame
    rmsd: float  # angstrom
    velocity_seed: int  # -1: copy the frame's velocities
    walker_rmsd: float  # angstrom, of the walker's newest frame


class Policy:
    """Chooses restarts round after round, and remembers which frames and segments it has used.

    Parameters
    ----------
    settings
        The strategy and the rules' numbers.
    n_walkers
        Walkers of the ensemble.
    seed
        Of the velocity seeds, and of the strategy ``random``.
    contacts
        Which order parameter is the number of ligand contacts, None for none.
    census
        The walkers' ligands; None for a run of one topology.
    """

    def __init__(
        self,
        settings: SteeringSection,
        n_walkers: int,
        seed: int,
        contacts: int | None = None,
        census: LigandCensus | None = None,
    ):
        self.settings, self.n_walkers, self._contacts = settings, n_walkers, contacts
        self.census = LigandCensus(np.zeros(n_walkers, int), 1, settings) if census is None else census
        self._generator = np.random.default_rng(seed)
        self._used: set[tuple[int, int]] = set()  # (walker, frame)
        self._children: Counter[tuple[int, int]] = Counter()  # of (walker, segment)

    def recall(self, sources: Iterable[tuple[int, int, int]]) -> None:
        """Count the (walker, segment, frame) of restarts that were chosen in earlier sessions as used."""
        for walker, segment, frame in sources:
            self._used.add((walker, frame))
            self._children[walker, segment] += 1

    def state(self) -> dict[str, Any]:
        """The state of the random numbers; what JSON can hold."""
        return dict(self._generator.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a :meth:`state`."""
        self._generator.bit_generator.state = state

    @property
    def needs_model(self) -> bool:
        """Whether the strategy ranks outliers, and so chooses nothing before the first model."""
        return self.settings.strategy in NEEDS_MODEL

    def choose(
        self, block: FrameBlock, latents: np.ndarray | None, outliers: Outliers | None, may_restart: np.ndarray
    ) -> list[Restart]:
        """Restarts for this window: the best frame for the worst walker, and so on while that is an improvement.

        Parameters
        ----------
        block
            The window, features hop.
        latents, outliers
            Of the window's frames, shape (n, d), or None before the first model and for strategies without one.
        may_restart
            Walkers that can take a command now, shape (n_walkers,) bool.
        """
        newest = newest_frames(block["walker"], block["frame"], self.n_walkers)
        seen = np.flatnonzero(may_restart & (newest >= 0))
        self.census.update(seen, block["topology"][newest[seen]])
        strategy = STRATEGIES.get(self.settings.strategy)
        if strategy is None or (self.needs_model and outliers is None):
            return []
        n, column = len(block), self._contacts
        contacts = np.full(n, np.nan) if column is None else block["order_parameters"][:, column]
        ranking = strategy(Candidates(block["rmsd"], outliers or Outliers.none(n), self._generator, contacts))
        current = walker_scores(ranking.score, newest)
        walkers = [w for w in worse_walkers(current, self.settings.restart_fraction) if may_restart[w]]
        distance = self._distance(outliers)
        chosen: list[Restart] = []
        for index in self._candidates(block, ranking, latents):
            score, topology = ranking.score[index], int(block["topology"][index])
            if not walkers or score >= current[walkers[0]]:
                break
            walker = next((w for w in walkers if score < current[w] and self.census.allows(w, topology)), None)
            if walker is not None and self._admissible(block, index, latents, [r.index for r in chosen], distance):
                walkers.remove(walker)
                self.census.move(walker, topology)
                chosen.append(self._restart(block, index, walker, newest[walker], score, current[walker]))
        return chosen

    def give_back(self, frames: Iterable[tuple[int, int]]) -> None:
        """Let frames, (walker, frame), be chosen again: nobody has started from them."""
        self._used -= set(frames)

    def _candidates(self, block: FrameBlock, ranking: Ranking, latents: np.ndarray | None) -> np.ndarray:
        """Frames that may be restart points and whose coordinates are kept, best first."""
        usable = ranking.eligible & np.isfinite(ranking.score) & (block["slot_generation"] > 0)
        if latents is not None:
            usable &= np.isfinite(latents).all(axis=1)
        order = np.argsort(ranking.score, kind="stable")
        return order[usable[order]]

    def _admissible(
        self, block: FrameBlock, index: int, latents: np.ndarray | None, chosen: list[int], distance: float
    ) -> bool:
        """Whether the frame is unused, its segment may have another child, and no chosen frame is the same again."""
        source, segment, frame = (int(block[name][index]) for name in ("walker", "segment", "frame"))
        if (source, frame) in self._used:
            return False
        if self._children[source, segment] >= self.settings.children_per_parent:
            return False
        if latents is None or not chosen or distance == 0:
            return True
        return bool((np.linalg.norm(latents[chosen] - latents[index], axis=1) >= distance).all())

    def _restart(
        self, block: FrameBlock, index: int, walker: int, newest: int, score: float, walker_score: float
    ) -> Restart:
        """Book the frame for the walker."""
        source, segment, frame = (int(block[name][index]) for name in ("walker", "segment", "frame"))
        self._used.add((source, frame))
        self._children[source, segment] += 1
        copy = self._generator.random() < self.settings.copy_velocities_probability
        seed = COPY_VELOCITIES if copy else int(self._generator.integers(1, 2**31 - 1))
        rmsd, walker_rmsd = (float(block["rmsd"][i]) for i in (index, newest))
        return Restart(int(walker), int(index), float(score), float(walker_score), rmsd, seed, walker_rmsd)

    def _distance(self, outliers: Outliers | None) -> float:
        """Least distance of two frames chosen together, in the unit of the latents; 0 for no such rule."""
        if self.settings.min_latent_distance != "auto":
            return self.settings.min_latent_distance
        radius = np.empty(0) if outliers is None else outliers.noise_radius
        radius = radius[np.isfinite(radius) & (radius > 0)]  # 0 if a map comes again and again
        return AUTO_DISTANCE * float(np.median(radius)) if len(radius) else 0.0


def newest_frames(walker: np.ndarray, frame: np.ndarray, n_walkers: int) -> np.ndarray:
    """Index of each walker's newest frame in the window, -1 for none, shape (n_walkers,)."""
    newest = np.full(n_walkers, -1)
    order = np.argsort(frame, kind="stable")
    newest[walker[order]] = order
    return newest


def walker_scores(score: np.ndarray, newest: np.ndarray) -> np.ndarray:
    """Score of each walker's newest frame, shape (n_walkers,): inf if it is not finite, NaN for no frame."""
    current = np.where(np.isfinite(score[newest]), score[newest], np.inf)
    return np.where(newest < 0, np.nan, current)


def worse_walkers(current: np.ndarray, fraction: float) -> np.ndarray:
    """The worst `fraction` of the walkers that have a score, worst first: at least one, but never all of them."""
    known = np.flatnonzero(~np.isnan(current))
    n = min(max(int(fraction * len(known)), fraction > 0), len(known) - 1)
    return known[np.argsort(-current[known], kind="stable")][: max(n, 0)]
