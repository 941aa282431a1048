"""Whether populations and rates can be trusted, and what is missing if not."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Protocol

import numpy as np

from .estimators import connected
from .intervals import Interval
from .lag import Scan, is_flat
from .transitions import Stretches, Transitions, counts

#: What "converged" demands: families that cross each dividing surface, and frames outside the connected set.
MIN_CROSSINGS, MAX_OUTSIDE = 10, 0.05
#: Dividing surfaces, by the chance to reach the target first.
SURFACES = np.linspace(0.05, 0.95, 19)
#: The widest interval of a population, as a ratio of odds: 1 kT of free energy.
MAX_ODDS = float(np.exp(1.0))
#: The widest interval of a passage time, as a ratio of its ends: a factor 1.6 on both sides.
MAX_TIMES = 2.5
#: Samples of the bootstrap without a finite answer, at most.
MAX_LOST = 0.05


class Regions(Protocol):
    """The answer of a method, as far as the verdict needs it."""

    @property
    def target(self) -> Interval:
        """Population of the target."""

    @property
    def there(self) -> Interval:
        """Mean first passage time to the target."""


def missing(
    pairs: Transitions,
    states: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    scan: list[Scan],
    same: float,
    crossings: tuple[int, int],
    answers: Mapping[str, Regions],
) -> list[str]:
    """Sentences on what is missing to trust the answers."""
    return [
        *_regions(source, target),
        *_connection(pairs, states, target),
        *_crossings(crossings),
        *_timescales(scan, same),
        *_intervals(answers),
        *_agreement(answers),
    ]


def _regions(source: np.ndarray, target: np.ndarray) -> list[str]:
    empty = [name for name, region in (("source", source), ("target", target)) if not region.any()]
    return [f"no frame is in the {name} region" for name in empty]


def _connection(pairs: Transitions, states: np.ndarray, target: np.ndarray) -> list[str]:
    count = counts(pairs, states, int(states.max()) + 1, pairs.weight)
    active = np.isin(states, connected(count))
    found = []
    outside = 1.0 - active.mean()
    if outside > MAX_OUTSIDE:
        found.append(f"the states are disconnected: {100 * outside:.0f} % of the frames lie outside the largest set")
    if target.any() and not active[target].any():
        found.append("the target is not connected with the rest: nothing both enters and leaves it")
    return found


def fewest_crossings(data: Stretches, blocks: np.ndarray, committor: np.ndarray) -> tuple[int, int]:
    """How many families cross the dividing surface that fewest cross, towards the target and away from it.

    Parameters
    ----------
    blocks
        Lineage of each stretch.
    committor
        Chance of each frame to reach the target before the source, NaN if unknown, shape (n_frames,).
    """
    same = data.stretch[1:] == data.stretch[:-1]
    before, after = committor[:-1][same], committor[1:][same]
    lineage = blocks[data.stretch[1:][same]]
    fewest = []
    for low, high in ((before, after), (after, before)):
        moves = low < high
        low, high, own = low[moves], high[moves], lineage[moves]
        fewest.append(min(len(np.unique(own[(low < surface) & (surface <= high)])) for surface in SURFACES))
    return fewest[0], fewest[1]


def _crossings(crossings: tuple[int, int]) -> list[str]:
    return [
        f"too few arrivals: {n} families pass {way} the bottleneck between source and target, and {MIN_CROSSINGS} are "
        "needed"
        for n, way in zip(crossings, ("to the target through", "back through"), strict=True)
        if n < MIN_CROSSINGS
    ]


def _timescales(scan: list[Scan], same: float) -> list[str]:
    if len(scan) < 3:
        return [f"stretches are too short for a lag scan: they allow {len(scan)} lags, and 3 are needed"]
    if is_flat(scan, same):
        return []
    first, last = scan[0], scan[-1]
    return [
        f"the implied timescale is not known to be flat: {first.timescale_ps.value:.3g} ps at a lag of "
        f"{first.lag_ps:g} ps and {last.timescale_ps.value:.3g} ps at {last.lag_ps:g} ps: longer stretches are needed"
    ]


def _intervals(answers: Mapping[str, Regions]) -> list[str]:
    found = []
    for name, answer in answers.items():
        lost = max(answer.target.lost, answer.there.lost)
        if lost > MAX_LOST or not np.isfinite([answer.target.low, answer.there.low]).all():
            found.append(f"{name} has no answer in {100 * lost:.0f} % of the bootstrap samples")
            continue
        if odds(answer.target.high) > MAX_ODDS * odds(answer.target.low):
            low, high = answer.target.low, answer.target.high
            found.append(
                f"the interval of {name} is wider than 1 kT: the target's population is {low:.2g} to {high:.2g}"
            )
        if answer.there.high > MAX_TIMES * answer.there.low:
            low, high = answer.there.low, answer.there.high
            found.append(
                f"the interval of {name} is too wide: the passage to the target takes {low:.3g} to {high:.3g} ps"
            )
    return found


def _agreement(answers: Mapping[str, Regions]) -> list[str]:
    found = []
    for what, of in (("the target's population", "target"), ("the passage to the target", "there")):
        for (a, first), (b, second) in combinations(answers.items(), 2):
            if not getattr(first, of).meets(getattr(second, of)):
                found.append(f"{a} and {b} contradict each other on {what}")
    return found


def odds(population: float) -> float:
    """A population as odds."""
    return population / max(1.0 - population, 1e-12)
