"""The nearest neighbours of every point: one query that all of the outlier detection is made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

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
    tree = cKDTree(points, leafsize=LEAF_SIZE)
    distances, indices = tree.query(points, k=np.arange(1, k + 1), workers=threads)
    return NeighbourGraph(distances, indices)


def cuml_neighbours() -> type | None:
    """cuML's ``NearestNeighbors`` where cuML is installed and sees a GPU, else None."""
    try:
        import cupy
        from cuml.neighbors import NearestNeighbors

        cupy.cuda.runtime.getDeviceCount()
    except (ImportError, RuntimeError):  # the latter is CuPy's for a missing driver or device
        return None
    return NearestNeighbors


def _query_gpu(neighbours_class: type, points: np.ndarray, k: int) -> NeighbourGraph:
    """cuML names the neighbours; their distances are taken again, because its float32 ones cancel near zero."""
    query = neighbours_class(n_neighbors=k, algorithm="brute", output_type="numpy")
    single = points.astype(np.float32)
    indices = np.asarray(query.fit(single).kneighbors(single, return_distance=False), np.int64)
    distances = np.sqrt(np.square(points[indices] - points[:, None]).sum(axis=2))
    order = np.argsort(distances, axis=1, kind="stable")
    return NeighbourGraph(np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1))
