"""Whether populations and rates can be trusted, and what is missing if not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from .estimators import connected
from .transitions import Stretches, Transitions, counts

#: What "converged" demands: stretches that enter and leave the target, and frames outside the connected set.
MIN_CROSSINGS, MAX_OUTSIDE = 10, 0.05
#: The widest interval of a population, as a ratio of odds: 1 kT of free energy.
MAX_ODDS = float(np.exp(1.0))
#: Samples of the bootstrap without a finite answer, at most.
MAX_LOST = 0.05


class Interval(NamedTuple):
    """A number with its 95 % interval; `lost` is the share of the samples in which it has no value."""

    value: float
    low: float
    high: float
    lost: float = 0.0

    def hull(self, other: Interval) -> Interval:
        """The values of both intervals, and the value of this one."""
        return Interval(self.value, min(self.low, other.low), max(self.high, other.high), max(self.lost, other.lost))


class Scan(NamedTuple):
    """The slowest implied timescale at a lag."""

    lag: int  # frames
    lag_ps: float
    timescale_ps: Interval


class Regions(Protocol):
    """The answer of a method, as far as the verdict needs it."""

    @property
    def target(self) -> Interval:
        """Population of the target."""

    @property
    def there(self) -> Interval:
        """Mean first passage time to the target."""


def interval(values: np.ndarray) -> Interval:
    """The first value, with the 2.5 and 97.5 percentiles of the others that are finite."""
    samples = values[1:]
    finite = samples[np.isfinite(samples)]
    low, high = np.percentile(finite, (2.5, 97.5)) if len(finite) else (np.nan, np.nan)
    lost = 1.0 - len(finite) / len(samples) if len(samples) else 1.0
    return Interval(float(values[0]), float(low), float(high), float(lost))


def chosen_lag(scan: list[Scan]) -> int:
    """The shortest lag from which on the implied timescale is flat; the longest one if it is flat nowhere."""
    for i, point in enumerate(scan[:-1]):
        if is_flat(scan[i:]):
            return point.lag
    return scan[-1].lag


def is_flat(scan: list[Scan]) -> bool:
    """Whether the interval of the first timescale meets those of all that follow."""
    first = scan[0].timescale_ps
    return len(scan) > 1 and all(
        p.timescale_ps.low <= first.high and first.low <= p.timescale_ps.high for p in scan[1:]
    )


def missing(
    data: Stretches,
    pairs: Transitions,
    states: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    scan: list[Scan],
    answers: Mapping[str, Regions],
) -> list[str]:
    """Sentences on what is missing to trust the answers."""
    return [
        *_regions(source, target),
        *_connection(pairs, states, target),
        *_crossings(data, target),
        *_timescales(scan),
        *_intervals(answers),
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


def _crossings(data: Stretches, target: np.ndarray) -> list[str]:
    same = data.stretch[1:] == data.stretch[:-1]
    enters = np.unique(data.stretch[1:][same & ~target[:-1] & target[1:]]).size
    leaves = np.unique(data.stretch[1:][same & target[:-1] & ~target[1:]]).size
    return [
        f"too few arrivals: {n} stretches {verb} the target, and {MIN_CROSSINGS} are needed"
        for n, verb in ((enters, "enter"), (leaves, "leave"))
        if n < MIN_CROSSINGS
    ]


def _timescales(scan: list[Scan]) -> list[str]:
    if len(scan) < 3:
        return [f"stretches are too short for a lag scan: they allow {len(scan)} lags, and 3 are needed"]
    if any(is_flat(scan[i:]) for i in range(len(scan) - 1)):
        return []
    first, last = scan[0], scan[-1]
    return [
        f"the implied timescale is not flat: {first.timescale_ps.value:.3g} ps at a lag of {first.lag_ps:g} ps and "
        f"{last.timescale_ps.value:.3g} ps at {last.lag_ps:g} ps, so that longer stretches are needed"
    ]


def _intervals(answers: Mapping[str, Regions]) -> list[str]:
    found = []
    for name, answer in answers.items():
        lost = max(answer.target.lost, answer.there.lost)
        if lost > MAX_LOST or not np.isfinite(answer.target.low):
            found.append(f"{name} has no answer in {100 * lost:.0f} % of the bootstrap samples")
        elif odds(answer.target.high) > MAX_ODDS * odds(answer.target.low):
            low, high = answer.target.low, answer.target.high
            found.append(
                f"the interval of {name} is wider than 1 kT: the target's population is {low:.2g} to {high:.2g}"
            )
    first, *others = answers.values()
    if any(other.target.low > first.target.high or first.target.low > other.target.high for other in others):
        found.append(f"{' and '.join(answers)} contradict each other on the target's population")
    return found


def odds(population: float) -> float:
    """A population as odds."""
    return population / max(1.0 - population, 1e-12)
