"""The states of a window: k-means clusters of its frames, fast enough to be made anew in every round."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Frames that the centres are fitted to, and passes over them, at most: bounds the time for large windows.
FIT_FRAMES, PASSES = 2000, 5
#: Points whose distances are in memory together: they stay in the cache.
AT_ONCE = 1000
UNKNOWN = -1


class Clusters(NamedTuple):
    """k clusters of n frames; none is empty."""

    labels: np.ndarray  # (n,) int, UNKNOWN for points that are not finite
    centres: np.ndarray  # (k, d) mean of the members
    counts: np.ndarray  # (k,) members
    nearest: np.ndarray  # (k,) index of the usable member nearest to the centre, UNKNOWN for none

    def spread(self, values: np.ndarray, missing: float = np.nan) -> np.ndarray:
        """Values of the clusters as values of their frames, shape (n,)."""
        return np.where(self.labels == UNKNOWN, missing, values[self.labels])

    @property
    def representatives(self) -> np.ndarray:
        """Which frames stand for their cluster, shape (n,) bool."""
        mask = np.zeros(len(self.labels), bool)
        mask[self.nearest[self.nearest != UNKNOWN]] = True
        return mask

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean of finite values over the members, shape (k,); NaN for clusters without one."""
        finite = np.isfinite(values) & (self.labels != UNKNOWN)
        n, labels = len(self.centres), self.labels[finite]
        members = np.bincount(labels, minlength=n)
        return np.where(members, np.bincount(labels, values[finite], n) / np.maximum(members, 1), np.nan)


def cluster(
    points: np.ndarray, n_clusters: int | str, generator: np.random.Generator, usable: np.ndarray | None = None
) -> Clusters:
    """Clusters by k-means: centres by Lloyd's algorithm from k-means++ seeds, then one pass over all points.

    S. Lloyd, doi:10.1109/TIT.1982.1056489; D. Arthur and S. Vassilvitskii, SODA 2007, 1027.

    Parameters
    ----------
    points
        Shape (n, d).
    n_clusters
        At most; "auto" is the square root of n.
    generator
        Draws the seeds.
    usable
        Which points may stand for their cluster, shape (n,) bool; all by default.
    """
    finite = np.flatnonzero(np.isfinite(points).all(axis=1))
    x = points[finite].astype(np.float64)
    if not len(x):
        nothing = np.zeros(0, np.int64)
        return Clusters(np.full(len(points), UNKNOWN), np.zeros((0, points.shape[1])), nothing, nothing)
    n_clusters = round(len(x) ** 0.5) if n_clusters == "auto" else int(n_clusters)
    fitted = x[np.unique(np.linspace(0, len(x) - 1, FIT_FRAMES).astype(int))]
    centres = seeds(fitted, n_clusters, generator)
    for _ in range(PASSES):
        centres = means(fitted, closest(fitted, centres))
    label = closest(x, centres)
    label = np.unique(label, return_inverse=True)[1]
    centres = means(x, label)
    labels = np.full(len(points), UNKNOWN)
    labels[finite] = label
    away = np.square(x - centres[label]).sum(axis=1)
    return Clusters(labels, centres, np.bincount(label), _nearest(finite, label, away, usable, len(centres)))


def _nearest(
    finite: np.ndarray, label: np.ndarray, away: np.ndarray, usable: np.ndarray | None, n_clusters: int
) -> np.ndarray:
    """Index of the usable point nearest to its centre, by cluster, shape (n_clusters,)."""
    allowed = np.arange(len(finite)) if usable is None else np.flatnonzero(usable[finite])
    nearest = np.full(n_clusters, UNKNOWN)
    farthest_first = allowed[np.lexsort((-allowed, -away[allowed]))]  # the last one written stays
    nearest[label[farthest_first]] = finite[farthest_first]
    return nearest


def seeds(points: np.ndarray, n_clusters: int, generator: np.random.Generator) -> np.ndarray:
    """Distinct points, each drawn with a probability that grows with its squared distance to those before it."""
    chosen = [points[generator.integers(len(points))]]
    away = np.square(points - chosen[0]).sum(axis=1)
    while len(chosen) < n_clusters and (total := away.sum()) > 0:
        drawn = np.searchsorted(np.cumsum(away), generator.random() * total, side="right").clip(max=len(points) - 1)
        chosen.append(points[drawn])
        away = np.minimum(away, np.square(points - chosen[-1]).sum(axis=1))
    return np.array(chosen)


def closest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the centre nearest to each point, in single precision, shape (n,)."""
    origin = centres.mean(axis=0)
    points, centres = (points - origin).astype(np.float32), (centres - origin).astype(np.float32)
    squares, twice = np.square(centres).sum(axis=1), -2 * centres.T
    parts = [points[i : i + AT_ONCE] for i in range(0, len(points), AT_ONCE)]
    return np.concatenate([(part @ twice + squares).argmin(axis=1) for part in parts])


def means(points: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Mean of the points of each label that occurs, shape (k, d)."""
    label = np.unique(label, return_inverse=True)[1]
    counts = np.bincount(label)
    return np.stack([np.bincount(label, column) for column in points.T], axis=1) / counts[:, None]
