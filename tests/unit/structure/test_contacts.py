"""Contact maps: the kernels agree with a direct count, and rows rebuild the dense map."""

import numpy as np
import pytest

from ddmd_mpi.structure.contacts import STRIPS_FROM, TREE_FROM, contact_csr, dense, round_positions


def compact_chain(n: int, seed: int = 0) -> np.ndarray:
    """A random walk of steps of 0.38 nm, pulled together; nm, shape (n, 3)."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(n, 3))
    walk = np.cumsum(0.38 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
    return (walk - walk.mean(axis=0)) * min(1.0, 3.0 / n ** (1 / 6))


def direct_map(rounded: np.ndarray, cutoff_angstrom: float) -> np.ndarray:
    """The dense map by integer arithmetic."""
    x = rounded.astype(np.int64)
    squares = np.square(x[:, None] - x[None]).sum(axis=-1)
    return ((squares < (100 * cutoff_angstrom) ** 2) | np.eye(len(x), dtype=bool)).astype(np.uint8)


@pytest.mark.parametrize("n", [1, 2, 10, 28, STRIPS_FROM - 1, STRIPS_FROM, 309, TREE_FROM - 1, TREE_FROM, 800])
def test_rows_rebuild_the_map_of_a_direct_count(n):
    rounded = round_positions(compact_chain(n))
    counts, columns = contact_csr(rounded, 8.0)
    assert counts.dtype == columns.dtype == np.uint16
    assert counts.shape == (n,)
    np.testing.assert_array_equal(dense(counts[None], columns)[0], direct_map(rounded, 8.0))


@pytest.mark.parametrize("n", [40, STRIPS_FROM, TREE_FROM])
def test_columns_ascend_within_rows_beyond_the_diagonal(n):
    counts, columns = contact_csr(round_positions(compact_chain(n)), 8.0)
    rows = np.repeat(np.arange(n), counts)
    assert (columns > rows).all()
    assert (np.diff(rows * n + columns.astype(int)) > 0).all()


@pytest.mark.parametrize("n", [3, STRIPS_FROM, TREE_FROM])
def test_a_pair_at_the_cutoff_is_no_contact(n):
    rounded = np.zeros((n, 3), np.int16)
    rounded[:, 1] = 1000 * (np.arange(n) % 30)  # far apart, but for the first two
    rounded[:, 2] = 1000 * (np.arange(n) // 30)
    rounded[:2] = (-20000, 0, 0), (-20000 + 800, 0, 0)
    assert contact_csr(rounded, 8.0)[0][0] == 0
    assert contact_csr(rounded, 8.01)[0][0] == 1


def test_rounding_centres_and_keeps_a_hundredth_of_an_angstrom():
    x = compact_chain(50)
    rounded = round_positions(x + [10.0, -20.0, 5.0])
    assert rounded.dtype == np.int16
    assert np.abs(rounded / 1000.0 - (x - x.mean(axis=0))).max() <= 0.000501


@pytest.mark.parametrize("bad", [40.0, -40.0, np.nan, np.inf])
def test_positions_beyond_the_range_are_refused(bad):
    x = np.zeros((3, 3))
    x[0, 1] = 1.6 * bad
    with pytest.raises(ValueError, match="327 angstrom"):
        round_positions(x)


@pytest.mark.parametrize("size", [12, 16])
def test_many_frames_are_padded_to_size(size):
    frames = [round_positions(compact_chain(12, seed)) for seed in range(5)]
    rows = [contact_csr(f, 8.0) for f in frames]
    maps = dense(np.stack([c for c, _ in rows]), np.concatenate([c for _, c in rows]), size=size, dtype=np.float32)
    expected = np.zeros((5, size, size), np.float32)
    expected[:, :12, :12] = [direct_map(f, 8.0) for f in frames]
    np.testing.assert_array_equal(maps, expected)
    assert maps.dtype == np.float32


def test_an_array_of_the_caller_is_filled():
    counts, columns = contact_csr(round_positions(compact_chain(12)), 8.0)
    out = np.full((1, 12, 12), 7, np.uint8)
    assert dense(counts[None], columns, out=out) is out
    assert set(np.unique(out)) == {0, 1}
