"""Arms compared with the reference: rank tests, effect sizes, and intervals by bootstrap over seeds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import mannwhitneyu, wilcoxon

from ..analysis.intervals import Interval

N_SAMPLES = 10_000
#: Percentiles of an interval of 95 %.
ENDS = (2.5, 97.5)


class Comparison(NamedTuple):
    """An arm against the reference in one quantity.

    Parameters
    ----------
    difference
        Mean of the arm less mean of the reference, with its interval; NaN if a trial has no finite value.
    effect
        Cliff's delta: how much more often a value of the arm is above one of the reference than below, -1 to 1.
    p_rank
        Two-sided Mann-Whitney U test.
    paired
        Mean of the differences of trials with the same seed, with its interval.
    p_paired
        Two-sided Wilcoxon signed-rank test of these differences.
    """

    n: int
    n_reference: int
    difference: Interval
    effect: Interval
    p_rank: float
    n_pairs: int
    paired: Interval
    p_paired: float


def compare(arm: dict[int, float], reference: dict[int, float], seed: int = 1) -> Comparison:
    """Compare the values of two arms, which are given by seed; infinite: not reached in the trial.

    H. B. Mann and D. R. Whitney, Ann. Math. Stat. 18, 50 (1947), doi:10.1214/aoms/1177730491; F. Wilcoxon, Biometrics
    Bull. 1, 80 (1945), doi:10.2307/3001968; N. Cliff, Psychol. Bull. 114, 494 (1993), doi:10.1037/0033-2909.114.3.494.
    """
    generator = np.random.default_rng(seed)
    x, y = np.array(list(arm.values())), np.array(list(reference.values()))
    both = [s for s in arm if s in reference]
    pairs = _differences(np.array([arm[s] for s in both]), np.array([reference[s] for s in both]))
    return Comparison(
        n=len(x),
        n_reference=len(y),
        difference=_difference_of_means(x, y, generator),
        effect=cliffs_delta(x, y, generator),
        p_rank=float(mannwhitneyu(x, y).pvalue) if len(x) and len(y) else np.nan,
        n_pairs=len(pairs),
        paired=mean_interval(pairs, generator),
        p_paired=_signed_rank(pairs),
    )


def mean_interval(values: np.ndarray, generator: np.random.Generator) -> Interval:
    """Mean with its interval by bootstrap; NaN if a value is not finite, or there is none."""
    if not len(values) or not np.isfinite(values).all():
        return Interval(np.nan, np.nan, np.nan)
    sampled = values[_resample(len(values), generator)].mean(axis=1)
    return _percentiles(float(values.mean()), sampled, len(values))


def cliffs_delta(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Interval:
    """Share of pairs with x > y less share of those with x < y, with its interval by bootstrap."""
    if not len(x) or not len(y):
        return Interval(np.nan, np.nan, np.nan)
    above = (x[:, None] > y).astype(np.int8) - (x[:, None] < y).astype(np.int8)
    rows, columns = _resample(len(x), generator), _resample(len(y), generator)
    sampled = np.array([above[np.ix_(r, c)].mean() for r, c in zip(rows, columns, strict=True)])
    return _percentiles(float(above.mean()), sampled, min(len(x), len(y)))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values of a family of tests, corrected so that the chance of any false one is kept; NaN stays.

    S. Holm, Scand. J. Stat. 6, 65 (1979).
    """
    corrected = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    raised = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return corrected


def _resample(n: int, generator: np.random.Generator) -> np.ndarray:
    return generator.integers(n, size=(N_SAMPLES, n))


def _percentiles(value: float, sampled: np.ndarray, n: int) -> Interval:
    """The interval of an estimate; NaN if it is from a single value."""
    low, high = np.percentile(sampled, ENDS) if n > 1 else (np.nan, np.nan)
    return Interval(value, float(low), float(high))


def _difference_of_means(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> Interval:
    if not (len(x) and len(y) and np.isfinite(x).all() and np.isfinite(y).all()):
        return Interval(np.nan, np.nan, np.nan)
    sampled = x[_resample(len(x), generator)].mean(axis=1) - y[_resample(len(y), generator)].mean(axis=1)
    return _percentiles(float(x.mean() - y.mean()), sampled, min(len(x), len(y)))


def _differences(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """X - y; 0 where both are infinite."""
    with np.errstate(invalid="ignore"):
        return np.where(x == y, 0.0, x - y)


def _signed_rank(differences: np.ndarray) -> float:
    """The p-value of Wilcoxon's test; 1 if all pairs are equal, NaN without pairs."""
    if not len(differences):
        return np.nan
    if not differences.any():
        return 1.0
    largest = np.abs(differences[np.isfinite(differences)]).max(initial=1.0)
    return float(wilcoxon(np.clip(differences, -2 * largest, 2 * largest)).pvalue)
