"""Numbers with their 95 % intervals, from the samples of a bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

#: Standard deviations on each side of a value.
WIDTH = 1.96
_Map = Callable[[np.ndarray], np.ndarray]


class Interval(NamedTuple):
    """A number with its 95 % interval; `lost` is the share of the samples in which it has no value."""

    value: float
    low: float
    high: float
    lost: float = 0.0

    def hull(self, other: Interval) -> Interval:
        """The values of both intervals, and the value of this one."""
        low, high = np.fmin(self.low, other.low), np.fmax(self.high, other.high)
        return Interval(self.value, float(low), float(high), max(self.lost, other.lost))

    def meets(self, other: Interval) -> bool:
        """Whether the intervals overlap."""
        return self.low <= other.high and other.low <= self.high


def width_of(n: int) -> float:
    """How many standard deviations of a bootstrap over `n` samples are on each side of a value: Student's t.

    A bootstrap draws from the samples that there are, whose variance is (n - 1) / n of what they were drawn from.
    """
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 0.975) * np.sqrt(n / (n - 1))) if n > 1 else np.nan


def interval(values: np.ndarray, scale: _Map, unscale: _Map, width: float = WIDTH) -> Interval:
    """The first value, and `width` standard deviations of the others on each side, on a scale without bounds.

    Parameters
    ----------
    values
        The estimate from the data, then those of the samples; the ones that are not finite are lost.
    scale, unscale
        To the scale on which the samples are about normal, and back.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = scale(values)
    finite = scaled[1:][np.isfinite(scaled[1:])]
    lost = 1.0 - len(finite) / max(1, len(values) - 1)
    if len(finite) < 2 or not np.isfinite(scaled[0]):
        return Interval(float(values[0]), np.nan, np.nan, lost)
    half = width * finite.std(ddof=1)
    low, high = unscale(np.array([scaled[0] - half, scaled[0] + half]))
    return Interval(float(values[0]), float(low), float(high), lost)


def logit(population: np.ndarray) -> np.ndarray:
    """The logarithm of the odds of populations."""
    return np.log(population) - np.log1p(-np.minimum(population, 1.0))


def expit(log_odds: np.ndarray) -> np.ndarray:
    """Populations from the logarithm of their odds."""
    return 1.0 / (1.0 + np.exp(-log_odds))
