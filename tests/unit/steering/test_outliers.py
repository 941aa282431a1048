"""Outliers: the same sets and factors as scikit-learn's, the wanted count, and what happens when there is none."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.cluster import DBSCAN
from sklearn.neighbors import LocalOutlierFactor

from ddmd_mpi.config.schema import SteeringSection
from ddmd_mpi.steering.outliers import (
    eps_for_count,
    find_outliers,
    local_outlier_factor,
    nearest_neighbours,
    noise_radius,
)

DEFAULTS = SteeringSection()


def clusters(n: int, dimensions: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.normal(scale=4, size=(5, dimensions))
    return centres[generator.integers(5, size=n)] + generator.normal(size=(n, dimensions))


def dbscan_noise(points: np.ndarray, eps: float, min_samples: int) -> np.ndarray:
    return DBSCAN(eps=eps, min_samples=min_samples).fit(points).labels_ == -1


def assert_noise_sets_agree(points: np.ndarray, min_samples: int) -> None:
    """Compare with scikit-learn at every eps that separates two radii, at the radii's ends, and between ties."""
    graph = nearest_neighbours(points, min(len(points), max(min_samples, 3)))
    radius = noise_radius(graph, min_samples)
    levels = np.unique(np.concatenate([[0.0], radius[np.isfinite(radius)]]))
    for eps in [*(levels[1:] + levels[:-1]) / 2, levels[-1] + 1]:
        assert np.array_equal(radius > eps, dbscan_noise(points, eps, min_samples)), eps


LATTICE = arrays(np.int64, st.tuples(st.integers(2, 40), st.integers(1, 3)), elements=st.integers(0, 4))


@settings(max_examples=60, deadline=None)
@given(LATTICE, st.integers(2, 8))
def test_noise_is_that_of_dbscan_at_every_eps_with_ties_and_duplicates(points, min_samples):
    assert_noise_sets_agree(points.astype(float), min_samples)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(20, 80), st.integers(2, 12))
def test_noise_is_that_of_dbscan_at_every_eps_in_clusters(seed, n, min_samples):
    assert_noise_sets_agree(clusters(n, 4, seed), min_samples)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(30, 200), st.integers(2, 25))
def test_factor_is_that_of_scikit_learn(seed, n, n_neighbours):
    points = clusters(n, 5, seed)
    expected = -LocalOutlierFactor(n_neighbors=n_neighbours).fit(points).negative_outlier_factor_
    ours = local_outlier_factor(nearest_neighbours(points, n_neighbours + 1), n_neighbours)
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:Duplicate values")
@pytest.mark.parametrize("copies", [2, 10, 40])
def test_factor_is_that_of_scikit_learn_with_duplicates(copies):
    points = clusters(300, 3, seed=copies)
    points[:copies] = points[0]
    expected = -LocalOutlierFactor(n_neighbors=20).fit(points).negative_outlier_factor_
    np.testing.assert_allclose(local_outlier_factor(nearest_neighbours(points, 21), 20), expected, rtol=1e-9)


@pytest.mark.parametrize("n", [200, 500, 2001])
@pytest.mark.parametrize("fractions", [(0.05, 0.25), (0.02, 0.1)])
def test_count_is_the_one_nearest_to_the_middle_of_the_range(n, fractions):
    wanted = SteeringSection(outlier_fraction_min=fractions[0], outlier_fraction_max=fractions[1])
    points = clusters(n, 6, seed=n).astype(np.float32)
    found = find_outliers(points, wanted)
    assert found.method == "dbscan"
    assert np.array_equal(found.mask, dbscan_noise(points.astype(float), found.eps, wanted.min_samples))
    lowest, highest = np.ceil(fractions[0] * n), int(fractions[1] * n)
    possible = [(found.noise_radius > eps).sum() for eps in found.noise_radius]
    possible = np.array([count for count in possible if lowest <= count <= highest])
    middle = (lowest + highest) / 2
    assert lowest <= found.mask.sum() <= highest
    assert abs(found.mask.sum() - middle) == np.abs(possible - middle).min()


def test_count_gives_way_to_ties_inside_the_range():
    radius = np.array([9.0, 8, 8, 8, 8, 8, 2, 1, 1, 1])
    assert (radius > eps_for_count(radius, 1, 5)).sum() == 1
    assert (radius > eps_for_count(radius, 4, 7)).sum() == 6
    assert np.isnan(eps_for_count(radius, 2, 5))


def test_duplicates_that_no_eps_separates_leave_the_largest_factors():
    points = np.repeat(clusters(30, 3, seed=1), 20, axis=0)
    assert find_outliers(points, DEFAULTS).method == "lof"
    generator = np.random.default_rng(2)
    points[::20] += generator.normal(scale=1e-3, size=(30, 3))
    few = SteeringSection(outlier_fraction_min=0.1, outlier_fraction_max=0.2)
    found = find_outliers(points, few)
    assert found.method == "lof"
    assert np.isnan(found.eps)
    assert found.mask.sum() == (60 + 120) // 2
    assert found.lof[found.mask].min() >= found.lof[~found.mask].max()
    assert np.array_equal(found.score, found.lof)


def test_frames_that_are_not_finite_are_dropped():
    points = clusters(400, 4, seed=3)
    spoiled = np.insert(points, [10, 200], [[np.nan] * 4, [np.inf] * 4], axis=0)
    clean, found = find_outliers(points, DEFAULTS), find_outliers(spoiled, DEFAULTS)
    lost = ~np.isfinite(spoiled).all(axis=1)
    assert not found.mask[lost].any()
    assert np.isnan(found.noise_radius[lost]).all()
    assert np.array_equal(found.mask[~lost], clean.mask)
    assert np.array_equal(found.lof[~lost], clean.lof)
    assert found.eps == clean.eps


@pytest.mark.parametrize("n", [0, 1, 2, 5, 9])
def test_fewer_frames_than_dbscan_needs(n):
    found = find_outliers(clusters(n, 4, seed=4), DEFAULTS)
    assert found.method == "lof"
    assert found.mask.shape == found.lof.shape == found.noise_radius.shape == (n,)
    assert found.mask.sum() == (n > 1)


class FakeNearestNeighbors:
    """cuML's interface over a brute-force search."""

    used = 0

    def __init__(self, n_neighbors, algorithm, output_type):
        self.k = n_neighbors
        assert (algorithm, output_type) == ("brute", "numpy")

    def fit(self, points):
        self.points = points
        return self

    def kneighbors(self, points, return_distance):
        assert not return_distance
        FakeNearestNeighbors.used += 1
        squared = np.square(points[:, None] - self.points).sum(axis=2)
        return np.argsort(squared, axis=1)[:, : self.k][:, ::-1]


def pretend_cuml(monkeypatch, device_count) -> None:
    runtime = SimpleNamespace(getDeviceCount=device_count)
    for name, attributes in {
        "cupy": {"cuda": SimpleNamespace(runtime=runtime)},
        "cuml": {},
        "cuml.neighbors": {"NearestNeighbors": FakeNearestNeighbors},
    }.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)


def test_cuml_is_used_where_it_sees_a_gpu(monkeypatch):
    points = clusters(200, 4, seed=5)
    on_cpu = find_outliers(points, DEFAULTS)
    pretend_cuml(monkeypatch, lambda: 1)
    used = FakeNearestNeighbors.used
    on_gpu = find_outliers(points, DEFAULTS)
    assert FakeNearestNeighbors.used == used + 1
    assert np.array_equal(on_gpu.mask, on_cpu.mask)
    np.testing.assert_allclose(on_gpu.lof, on_cpu.lof, rtol=1e-9)


def test_cuml_without_a_gpu_is_not_used(monkeypatch):
    def no_driver():
        raise RuntimeError("cudaErrorInsufficientDriver")

    pretend_cuml(monkeypatch, no_driver)
    used = FakeNearestNeighbors.used
    find_outliers(clusters(50, 3, seed=6), DEFAULTS)
    assert FakeNearestNeighbors.used == used
