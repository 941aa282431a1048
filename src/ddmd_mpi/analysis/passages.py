"""Mean first passage times at the resolution of the frames, whatever the lag of the transitions.

A Markov model sees the states at both ends of a lag. Visits to a region in between are shorter than the lag, and the
later a model's lag, the more of them it misses. So a transition counts as arrived if any of its frames is in the
region, and takes as long as it took until the first of them.
"""

from __future__ import annotations

import numpy as np

from .transitions import Transitions


class Passage:
    """First passages to a region.

    Parameters
    ----------
    pairs
        Transitions.
    lag
        Their lag, frames.
    labels
        State of each frame; no state is on both sides of the region's border.
    source, target
        Whether each frame is in the region that passages start from and end in.
    """

    def __init__(self, pairs: Transitions, lag: int, labels: np.ndarray, source: np.ndarray, target: np.ndarray):
        n_frames, self._n_labels = len(labels), int(labels.max()) + 1
        inside = np.append(np.where(target, np.arange(n_frames), n_frames + lag), n_frames + lag)
        first = np.minimum.accumulate(inside[::-1])[::-1]
        wait = first[pairs.start + 1] - pairs.start
        self._arrives = wait <= lag
        self._wait = np.minimum(wait, lag)
        self._begin, self._end = labels[pairs.start], labels[pairs.end]
        self._source, self._target = np.unique(labels[source]), np.unique(labels[target])

    def mean(self, weight: np.ndarray, mass: np.ndarray, active: np.ndarray) -> float:
        """Mean first passage time from the stationary distribution in the source, frames.

        NaN if a region is not connected.

        Parameters
        ----------
        weight
            Of each transition.
        mass
            Stationary probability of each state.
        active
            The connected states.
        """
        source, free = np.intersect1d(self._source, active), np.setdiff1d(active, self._target)
        if not len(source) or len(free) == len(active) or not mass[source].sum() > 0:
            return np.nan
        known = np.isin(np.arange(self._n_labels), active)
        weight = np.where(self._arrives | known[self._end], weight, 0.0)
        n = self._n_labels
        on_the_way = np.where(self._arrives, 0.0, weight)
        stay = np.bincount(self._begin * n + self._end, on_the_way, n * n).reshape(n, n)[np.ix_(free, free)]
        leave = np.bincount(self._begin, weight, n)[free]
        time = np.bincount(self._begin, weight * self._wait, n)[free]
        times = np.zeros(n)
        try:
            times[free] = np.linalg.solve(np.diag(leave) - stay, time)
        except np.linalg.LinAlgError:
            return np.nan
        return float(mass[source] @ times[source] / mass[source].sum())
