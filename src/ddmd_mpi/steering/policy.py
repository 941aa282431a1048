"""Which walkers restart, and from which frames: the rules that decide more than the model does.

Only walkers of the worse half restart, never all of them, and only to a frame that is better than where they are; a
frame is used once, a segment has few children, and the frames chosen together are not the same conformation again.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config.schema import SteeringSection
from ..frames.block import FrameBlock
from .candidates import Candidates, Choice, Ranking
from .ligand_quota import LigandCensus
from .outliers import Outliers
from .plugins import GuardedStrategy

#: ``min_latent_distance = "auto"`` as a fraction of the median noise radius: half of the way to the tenth neighbour.
#: Frames that coincide with this many others are left out of the median, or it would be 0 where most maps are equal.
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
    coordinate
        Which order parameter is ``steering.coordinate``; None for the RMSD.

    Raises
    ------
    ConfigError
        If a strategy of the user's own cannot be had.
    """

    def __init__(
        self,
        settings: SteeringSection,
        n_walkers: int,
        seed: int,
        contacts: int | None = None,
        census: LigandCensus | None = None,
        coordinate: int | None = None,
    ):
        self.settings, self.n_walkers = settings, n_walkers
        self._contacts, self._coordinate = contacts, coordinate
        self.strategy = GuardedStrategy(settings)
        self._memory: Mapping[str, Any] = {}
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
        """The state of the random numbers, and what the strategy remembers; what JSON can hold."""
        memory = {"strategy": self.strategy.name, "memory": self._memory}
        return {**self._generator.bit_generator.state, **memory}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a :meth:`state`; another strategy starts without a memory."""
        if state.get("strategy") == self.strategy.name:
            self._memory = state["memory"]
        self._generator.bit_generator.state = {k: v for k, v in state.items() if k not in ("strategy", "memory")}

    @property
    def needs_outliers(self) -> bool:
        """Whether the strategy ranks outliers."""
        return "outliers" in self.strategy.needs

    @property
    def needs_model(self) -> bool:
        """Whether the strategy needs latents, and so chooses nothing before the first model."""
        return self.needs_outliers or "latents" in self.strategy.needs

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
        missing = (self.needs_outliers and outliers is None) or (self.needs_model and latents is outliers is None)
        if missing:
            return []
        candidates = self._window(block, latents, outliers)
        verdict = self.strategy.verdict(candidates)
        if verdict is None:
            return []
        if verdict.memory is not None:
            self._memory = json.loads(json.dumps(verdict.memory))  # as a resumed run has it
        if isinstance(verdict, Choice):
            return self._carried_out(verdict, candidates, newest, may_restart)
        current = walker_scores(verdict.score, newest)
        walkers = [w for w in worse_walkers(current, self.settings.restart_fraction) if may_restart[w]]
        distance = self._distance(outliers)
        chosen: list[Restart] = []
        for index in best_first(verdict, candidates.usable):
            score, topology = verdict.score[index], int(block["topology"][index])
            if not walkers or score >= current[walkers[0]]:
                break
            walker = next((w for w in walkers if score < current[w] and self.census.allows(w, topology)), None)
            if walker is not None and self._admissible(block, index, latents, [r.index for r in chosen], distance):
                walkers.remove(walker)
                self.census.move(walker, topology)
                chosen.append(self._restart(block, index, walker, newest[walker], score, current[walker]))
        return chosen

    def _window(self, block: FrameBlock, latents: np.ndarray | None, outliers: Outliers | None) -> Candidates:
        """What the strategy is given: its code may do anything, but the window and the memory stay as they are."""
        block = read_only(block)
        n, column = len(block), self._contacts
        usable = block["slot_generation"] > 0
        if latents is not None:
            usable &= np.isfinite(latents).all(axis=1)
        return Candidates(
            block=block,
            coordinate=goal_distance(block, self._coordinate, self.settings.coordinate_goal),
            usable=usable,
            n_walkers=self.n_walkers,
            generator=self._generator,
            outliers=outliers or Outliers.none(n),
            latents=latents,
            contacts=np.full(n, np.nan) if column is None else block["order_parameters"][:, column],
            options=self.strategy.options,
            memory=copy.deepcopy(self._memory),
        )

    def _carried_out(
        self, choice: Choice, candidates: Candidates, newest: np.ndarray, may_restart: np.ndarray
    ) -> list[Restart]:
        """The restarts that a strategy has chosen outright, as far as walkers and frames can take part."""
        block, score = candidates.block, candidates.coordinate
        current = walker_scores(score, newest)
        chosen = []
        for walker in np.flatnonzero(may_restart & (newest >= 0) & (choice.frames >= 0)):
            index = int(choice.frames[walker])
            topology = int(block["topology"][index])
            if candidates.usable[index] and self.census.allows(walker, topology):
                self.census.move(walker, topology)
                chosen.append(self._restart(block, index, walker, newest[walker], score[index], current[walker]))
        return chosen

    def give_back(self, frames: Iterable[tuple[int, int]]) -> None:
        """Let frames, (walker, frame), be chosen again: nobody has started from them."""
        self._used -= set(frames)

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
        copied = self._generator.random() < self.settings.copy_velocities_probability
        seed = COPY_VELOCITIES if copied else int(self._generator.integers(1, 2**31 - 1))
        rmsd, walker_rmsd = (float(block["rmsd"][i]) for i in (index, newest))
        return Restart(int(walker), int(index), float(score), float(walker_score), rmsd, seed, walker_rmsd)

    def _distance(self, outliers: Outliers | None) -> float:
        """Least distance of two frames chosen together, in the unit of the latents; 0 for no such rule."""
        if self.settings.min_latent_distance != "auto":
            return self.settings.min_latent_distance
        radius = np.empty(0) if outliers is None else outliers.noise_radius
        radius = radius[np.isfinite(radius) & (radius > 0)]  # 0 if a map comes again and again
        return AUTO_DISTANCE * float(np.median(radius)) if len(radius) else 0.0


def read_only(block: FrameBlock) -> FrameBlock:
    """The block by views that cannot be written to."""
    columns = {name: column.view() for name, column in block.columns.items()}
    for column in columns.values():
        column.flags.writeable = False
    return FrameBlock(columns)


def goal_distance(block: FrameBlock, coordinate: int | None, goal: float | str) -> np.ndarray:
    """What strategies rank by, lower is better, shape (n,): the RMSD, angstrom, or an order parameter by its goal."""
    if coordinate is None:
        return block["rmsd"]
    values = block["order_parameters"][:, coordinate].astype(np.float64)
    if isinstance(goal, str):
        return values if goal == "down" else -values
    return np.abs(values - goal)


def best_first(ranking: Ranking, usable: np.ndarray) -> np.ndarray:
    """Frames that may be restart points and whose coordinates are kept, best first."""
    usable = usable & ranking.eligible & np.isfinite(ranking.score)
    order = np.argsort(ranking.score, kind="stable")
    return order[usable[order]]


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
