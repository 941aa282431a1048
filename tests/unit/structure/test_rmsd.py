"""Superposed RMSD."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ddmd_mpi.structure.rmsd import superposed, superposed_rmsd


def cloud(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3))


@given(n=st.integers(4, 40), seed=st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_rotation_and_translation_do_not_count(n, seed):
    x, other = cloud(n, seed), cloud(n, seed + 1)
    moved = Rotation.random(random_state=seed).apply(x) + [3.0, -2.0, 1.0]
    assert superposed_rmsd(moved, x) < 1e-6
    assert superposed_rmsd(moved, other) == pytest.approx(superposed_rmsd(x, other), abs=1e-9)


def test_agrees_with_scipy():
    x, y = cloud(20, 1), cloud(20, 2)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    _, root_sum = Rotation.align_vectors(y, x)
    assert superposed_rmsd(x, y) == pytest.approx(root_sum / np.sqrt(20))


def test_a_mirror_image_differs():
    x = cloud(10, 3)
    assert superposed_rmsd(x * [1, 1, -1], x) > 0.1


def test_many_frames_at_once_give_the_same_as_one_by_one():
    reference, frames = cloud(10, 4), np.stack([cloud(10, s) for s in range(6)])
    np.testing.assert_allclose(superposed_rmsd(frames, reference), [superposed_rmsd(f, reference) for f in frames])


def test_known_displacement():
    x = np.array([[0.0, 0, 0], [2, 0, 0]])
    assert superposed_rmsd(x * 2, x) == pytest.approx(1.0)


def test_superposed_structures_lie_as_near_as_they_can_and_are_not_mirrored():
    generator = np.random.default_rng(5)
    reference = generator.normal(size=(12, 3))
    frames = reference + 0.3 * generator.normal(size=(6, 12, 3))
    frames[3] *= [-1, 1, 1]
    reference -= reference.mean(axis=0)
    frames -= frames.mean(axis=1, keepdims=True)
    turned = superposed(frames, reference)
    np.testing.assert_allclose(
        np.sqrt(((turned - reference) ** 2).sum(axis=(1, 2)) / 12), superposed_rmsd(frames, reference)
    )
    np.testing.assert_allclose(np.linalg.det(np.linalg.lstsq(frames[3], turned[3], rcond=None)[0]), 1)
