"""The rare frames of a window: DBSCAN's noise points for a wanted count, and the local outlier factor.

One nearest-neighbour query answers both. With c_i the distance of point i to its min_samples-th neighbour (itself
counted), i is a core point at eps iff c_i <= eps, and it belongs to a cluster iff it is within eps of a core point. So
it is noise iff its *noise radius* r_i = min(c_i, min_j max(d_ij, c_j)) > eps, and a j beyond the first min_samples
neighbours cannot lower the minimum, because its d_ij >= c_i. The noise set for every eps lies in one sorted array.

DBSCAN: Ester, Kriegel, Sander and Xu, KDD 1996, 226. Local outlier factor: Breunig, Kriegel, Ng and Sander,
doi:10.1145/335191.335388.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ..config.schema import SteeringSection

#: Two radii closer than this, relatively, are a tie: an eps between them would depend on rounding.
TIE = 1e-9
#: Keeps the density of coinciding points finite.
SMALLEST_REACH = 1e-10

#: Fastest of 8 .. 64 for 20,000 points in 10 dimensions.
LEAF_SIZE = 32


class NeighbourGraph(NamedTuple):
    """The k nearest points of every point, nearest first; a point is its own neighbour at distance 0."""

    distances: np.ndarray  # (n, k) float64
    indices: np.ndarray  # (n, k) int64


def nearest_neighbours(points: np.ndarray, k: int, threads: int = 1) -> NeighbourGraph:
    """The `k` nearest neighbours in Euclidean distance, on the GPU where cuML can be used, else on the CPU.

    Parameters
    ----------
    points
        Finite, shape (n, d).
    k
        Neighbours of a point, the point itself counted; 1 .. n.
    threads
        Threads of the CPU query.
    """
    points = np.ascontiguousarray(points, np.float64)
    on_gpu = cuml_neighbours()
    if on_gpu is not None:
        return _query_gpu(on_gpu, points, k)
    from scipy.spatial import cKDTree

    tree = cKDTree(points, leafsize=LEAF_SIZE)
    distances, indices = tree.query(points, k=np.arange(1, k + 1), workers=threads)
    return NeighbourGraph(distances, indices)


def cuml_neighbours() -> type | None:
    """The ``NearestNeighbors`` of cuML where that is installed and sees a GPU, else None."""
    try:
        import cupy
        from cuml.neighbors import NearestNeighbors

        cupy.cuda.runtime.getDeviceCount()
    except (ImportError, RuntimeError):  # the latter is CuPy's for a missing driver or device
        return None
    return NearestNeighbors


def _query_gpu(neighbours_class: type, points: np.ndarray, k: int) -> NeighbourGraph:
    """Neighbours by cuML; their distances are taken again, because its float32 ones cancel near zero."""
    query = neighbours_class(n_neighbors=k, algorithm="brute", output_type="numpy")
    single = points.astype(np.float32)
    indices = np.asarray(query.fit(single).kneighbors(single, return_distance=False), np.int64)
    distances = np.sqrt(np.square(points[indices] - points[:, None]).sum(axis=2))
    order = np.argsort(distances, axis=1, kind="stable")
    return NeighbourGraph(np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1))


@dataclass(frozen=True)
class Outliers:
    """The outliers of a window of n frames. Frames with non-finite latents are not outliers; their values are NaN."""

    mask: np.ndarray  # (n,) bool
    eps: float  # DBSCAN's eps, in the unit of the latents; NaN if method is "lof"
    noise_radius: np.ndarray  # (n,) noise for every eps below it; inf if there are fewer than min_samples points
    lof: np.ndarray  # (n,) local outlier factor, about 1 inside a cluster
    method: Literal["dbscan", "lof"]

    @property
    def score(self) -> np.ndarray:
        """How rare each frame is, in the measure that made the mask; higher is rarer, shape (n,)."""
        return self.noise_radius if self.method == "dbscan" else self.lof

    @staticmethod
    def none(n: int) -> Outliers:
        """No outliers among `n` frames."""
        unknown = np.full(n, np.nan)
        return Outliers(np.zeros(n, bool), np.nan, unknown, unknown, "lof")


def find_outliers(latents: np.ndarray, settings: SteeringSection) -> Outliers:
    """DBSCAN's noise points, at an eps that gives a count in the middle of the wanted range.

    The count is the one nearest to the middle of [outlier_fraction_min, outlier_fraction_max] that some eps gives
    exactly. The middle keeps most distance from both bounds, and is the same fraction in every round; the widest gap of
    the sorted radii, the other natural choice, lies in the tail and so nearly always picks the fewest outliers allowed.
    Where ties (duplicates) leave no count in the range, the largest local outlier factors are taken instead.

    Parameters
    ----------
    latents
        Shape (n, d).
    settings
        Fractions, ``min_samples`` (itself counted, as in scikit-learn), ``lof_neighbours`` and ``threads``.
    """
    finite = np.flatnonzero(np.isfinite(latents).all(axis=1))
    n = len(finite)
    if n < 2:
        return Outliers.none(len(latents))
    k = min(n, max(settings.min_samples, settings.lof_neighbours + 1))
    graph = nearest_neighbours(latents[finite], k, settings.threads)
    radius, lof = noise_radius(graph, settings.min_samples), local_outlier_factor(graph, settings.lof_neighbours)
    lowest = int(np.ceil(settings.outlier_fraction_min * n))
    highest = max(lowest, int(settings.outlier_fraction_max * n))
    eps = eps_for_count(radius, lowest, highest)
    if np.isfinite(eps):
        picked = radius > eps
    else:
        picked = np.zeros(n, bool)
        picked[np.argsort(-lof, kind="stable")[: (lowest + highest) // 2]] = True
    mask = np.zeros(len(latents), bool)
    mask[finite[picked]] = True
    method: Literal["dbscan", "lof"] = "dbscan" if np.isfinite(eps) else "lof"
    return Outliers(mask, eps, _scatter(radius, finite, len(latents)), _scatter(lof, finite, len(latents)), method)


def noise_radius(graph: NeighbourGraph, min_samples: int) -> np.ndarray:
    """The radius r_i below which each point is DBSCAN noise, shape (n,); inf if there are too few points."""
    if graph.distances.shape[1] < min_samples:
        return np.full(len(graph.distances), np.inf)
    distances, indices = graph.distances[:, :min_samples], graph.indices[:, :min_samples]
    core = distances[:, -1]
    return np.minimum(core, np.maximum(distances, core[indices]).min(axis=1))


def eps_for_count(radius: np.ndarray, lowest: int, highest: int) -> float:
    """An eps with `lowest` .. `highest` noise points, as near to the middle as ties allow; NaN if there is none."""
    ordered = np.sort(radius)[::-1]
    counts = np.arange(max(lowest, 1), min(highest, len(radius) - 1) + 1)
    rarer, denser = ordered[counts - 1], ordered[counts]
    gaps = denser < rarer * (1 - TIE)
    if not gaps.any():
        return np.nan
    best = np.flatnonzero(gaps)[np.abs(counts[gaps] - (lowest + highest) / 2).argmin()]
    return float((rarer[best] + denser[best]) / 2)


def local_outlier_factor(graph: NeighbourGraph, n_neighbours: int) -> np.ndarray:
    """Local outlier factor from the `n_neighbours` nearest others of each point, shape (n,)."""
    distances, indices = without_self(graph, n_neighbours)
    reach = np.maximum(distances, distances[indices, -1])
    density = 1 / (reach.mean(axis=1) + SMALLEST_REACH)
    return density[indices].mean(axis=1) / density


def without_self(graph: NeighbourGraph, n_neighbours: int) -> NeighbourGraph:
    """The nearest `n_neighbours` others; a point pushed out of its own list by duplicates loses the first of them."""
    n, k = graph.indices.shape
    n_neighbours = min(n_neighbours, k - 1)
    others = graph.indices[:, : n_neighbours + 1] != np.arange(n)[:, None]
    others[others.all(axis=1), 0] = False
    return NeighbourGraph(*(column[:, : n_neighbours + 1][others].reshape(n, n_neighbours) for column in graph))


def _scatter(values: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    """`values` at their places among n, NaN elsewhere."""
    result = np.full(n, np.nan)
    result[at] = values
    return result
