"""The lag of the transitions: the first one from which on the slowest implied timescale does not change.

An implied timescale grows with the lag until states that are no Markov chain look like one. Lags are compared within
each sample of the bootstrap: what all lags have in common, such as how many passages there are, cancels out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .estimators import MarkovModel
from .intervals import Interval, interval
from .transitions import Stretches, counts_of_blocks, transitions

#: Candidates for the lag, in frames.
LAGS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200)
#: A lag is tried if this share of all frames, and this many stretches, start a transition.
MIN_SHARE, MIN_LONG = 0.25, 10
#: Samples of the bootstrap without a timescale, at most.
MAX_LOST = 0.05
#: The longest lag in timescales: beyond it the second eigenvalue is lost among the noise of the others.
MOST_LAG = 1.0
#: Changes of the timescale: one that is no change even if it is certain, one that is too large even if it is not, and
#: one that must be excluded at twice the lag.
SAME, LARGE, MOST_GROWTH = 1.03, 1.2, 1.5
#: A change that is no change where frames have forgotten the restarts: it bends the timescale, and no population.
SAME_LATE = 1.1


class Scan(NamedTuple):
    """The slowest implied timescale at a lag.

    Parameters
    ----------
    lag, lag_ps
        The lag in frames and in ps.
    timescale_ps
        With its interval.
    samples
        The timescale in each sample of the bootstrap, the first one being the data, ps.
    """

    lag: int
    lag_ps: float
    timescale_ps: Interval
    samples: np.ndarray


def scan_lags(
    data: Stretches, states: np.ndarray, blocks: np.ndarray, samples: np.ndarray, report_ps: float, skip: int = 0
) -> list[Scan]:
    """The slowest implied timescale at each lag that enough stretches are longer than.

    Parameters
    ----------
    blocks
        Lineage of each stretch.
    samples
        How often each lineage is in each sample, shape (n_samples, n_blocks).
    skip
        Frames at the begin of each stretch that start no transition.
    """
    scan: list[Scan] = []
    n_states = int(states.max()) + 1
    for lag in LAGS:
        pairs = transitions(data, lag, states, skip)
        few = len(pairs.start) < MIN_SHARE * len(data) or int((data.lengths > lag).sum()) < MIN_LONG
        beyond = scan and lag * report_ps > MOST_LAG * np.nanmax([1e-300, *(p.timescale_ps.value for p in scan)])
        if scan and (few or beyond):
            break
        count = np.tensordot(samples, counts_of_blocks(pairs, states, n_states, blocks), axes=1)
        near = MarkovModel(count[0])
        slowest = lag * report_ps * np.array([near.timescale(), *(MarkovModel(c, near).timescale() for c in count[1:])])
        timescale = interval(slowest, np.log, np.exp)
        if scan and timescale.lost > MAX_LOST:
            break
        scan.append(Scan(lag, lag * report_ps, timescale, slowest))
    return scan


def chosen_lag(scan: list[Scan], same: float = SAME) -> int:
    """The first lag from which on the timescale is flat; else changes little; else does not change for certain.

    If it changes for certain from every lag on, the longest one.

    Parameters
    ----------
    same
        A change by this factor is none, even if it is certain.
    """
    for agrees in (_is_flat, _unchanged, _uncertain):
        for i in range(len(scan) - 1):
            if agrees(scan[i:], same):
                return scan[i].lag
    return scan[-1].lag


def is_flat(scan: list[Scan], same: float = SAME) -> bool:
    """Whether the timescale agrees with those at longer lags somewhere; see :func:`chosen_lag`."""
    return any(_is_flat(scan[i:], same) for i in range(len(scan)))


def _is_flat(scan: list[Scan], same: float) -> bool:
    """Whether no change is seen from the first lag on, and one at twice the lag would be."""
    twice = next((point for point in scan if point.lag >= 2 * scan[0].lag), None)
    if twice is None or not _unchanged(scan, same):
        return False
    growth = _growth(scan[0], twice)
    return growth.low > 1 / MOST_GROWTH and growth.high < MOST_GROWTH


def _unchanged(scan: list[Scan], same: float) -> bool:
    """Whether no change of the first timescale is certain, and none is large."""
    ratios = [_growth(scan[0], point).value for point in scan[1:]]
    return _uncertain(scan, same) and all(1 / LARGE < ratio < LARGE for ratio in ratios)


def _uncertain(scan: list[Scan], same: float) -> bool:
    """Whether the intervals of all ratios to the first timescale include about 1."""
    ratios = [_growth(scan[0], point) for point in scan[1:]]
    return all(ratio.low < same and ratio.high > 1 / same for ratio in ratios)


def _growth(first: Scan, second: Scan) -> Interval:
    return interval(second.samples / first.samples, np.log, np.exp)
