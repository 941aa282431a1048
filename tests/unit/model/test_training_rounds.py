"""Rounds of training, the parts without TensorFlow: splits, batches, architecture, maps, the guard, lean imports."""

import subprocess
import sys

import numpy as np
import pytest

from ddmd_mpi import model
from ddmd_mpi.analysis import features
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.environ import without
from ddmd_mpi.errors import ModelError
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.model.architecture import architecture
from ddmd_mpi.model.maps import ContactMaps
from ddmd_mpi.model.rounds import batches, hash_frames, split

DEFAULTS = TrainingSection()


def maps_block(n_frames: int, n_residues: int, seed: int = 0) -> FrameBlock:
    generator = np.random.default_rng(seed)
    chains = np.cumsum(generator.normal(scale=0.3, size=(n_frames, n_residues, 3)), axis=1)
    return features(chains, 8.0)


def named(n_frames: int, first: int = 0) -> FrameBlock:
    """Frames with names alone."""
    return FrameBlock({"walker": np.full(n_frames, 2, np.int32), "frame": first + np.arange(n_frames)})


def test_importing_the_model_does_not_import_tensorflow():
    code = "import sys, ddmd_mpi.model; sys.exit(sum(m in sys.modules for m in ('tensorflow', 'keras', 'sklearn')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_horovod_that_is_wanted_by_name_and_not_installed_is_refused_at_the_start(monkeypatch):
    found = model.find_spec
    monkeypatch.setattr(model, "find_spec", lambda name: None if name == "horovod" else found(name))
    by_name = TrainingSection(data_parallel="horovod")
    with pytest.raises(ModelError, match="not installed: run make horovod"):
        model.check(by_name, 10, n_ranks=2)
    model.check(by_name, 10, n_ranks=1)
    model.check(DEFAULTS, 10, n_ranks=2)


def test_hidden_modules_are_hidden_inside_only():
    with without("numpy", "turtle"):
        assert "numpy" in sys.modules
        assert np is sys.modules["numpy"]
        with pytest.raises(ImportError):
            __import__("turtle")
    assert "turtle" not in sys.modules


@pytest.mark.parametrize(
    ("n_residues", "filters", "kernels", "strides", "size"),
    [
        (28, 64, (3, 3, 3, 3), (1, 2, 1, 1), 28), (10, 64, (3, 3, 3, 3), (1, 2, 1, 1), 10),
        (7, 64, (3, 3, 3, 3), (1, 2, 1, 1), 8), (309, 32, (5, 3, 3, 3), (2, 2, 2, 2), 320),
        (3375, 64, (9, 5, 5, 5), (8, 4, 4, 4), 3584), (65, 32, (5, 3, 3, 3), (2, 2, 2, 2), 80),
    ],
)  # fmt: skip
def test_the_layers_of_the_paper(n_residues, filters, kernels, strides, size):
    shape = architecture(DEFAULTS, n_residues)
    assert (shape.filters, shape.kernels, shape.strides, shape.size) == (filters, kernels, strides, size)
    assert (shape.dense_units, shape.dropout, shape.latent_dimensions) == (128, 0.4, 10)
    assert architecture(TrainingSection(filters=8), n_residues).filters == 8


@pytest.mark.parametrize(("fraction", "n_validation"), [(0.2, 20), (0.0, 0), (0.5, 50)])
def test_a_split_is_a_partition_by_lot(fraction, n_validation):
    training, validation = split(named(100), fraction, seed=1)
    assert len(validation) == n_validation
    assert sorted([*training, *validation]) == list(range(100))
    assert list(training) != sorted(training)
    other, _ = split(named(100), fraction, seed=2)
    assert not np.array_equal(training, other)


def test_frames_stay_on_their_side_while_the_window_moves_on():
    """But for those at the border, whose hash_frames lie between two of 200."""
    before, after = named(1000, first=0), named(1000, first=300)
    learnt, (_, held_out) = set(split(before, 0.2, 1)[0]), split(after, 0.2, 1)
    shared = [i + 300 for i in held_out if i + 300 < 1000]
    assert len(shared) > 100
    assert sum(i in learnt for i in shared) < 0.1 * len(shared)


def test_lots_are_even_and_walkers_draw_their_own():
    drawn = hash_frames(np.repeat([0, 1], 20_000), np.tile(np.arange(20_000), 2), seed=3)
    assert len(set(drawn.tolist())) == 40_000
    counts = np.bincount((drawn >> np.uint64(60)).astype(int), minlength=16)
    assert abs(counts - 2500).max() < 5 * 2500**0.5


def test_a_frame_is_left_for_training():
    assert [len(part) for part in split(named(1), 0.5, seed=0)] == [1, 0]


@pytest.mark.parametrize("n", [1, 7, 8, 9, 20])
def test_batches_have_one_size_and_count_each_frame_once(n):
    frames, weights = zip(*batches(np.arange(n), 8), strict=True)
    assert {(f.shape, w.shape) for f, w in zip(frames, weights, strict=True)} == {((8,), (8,))}
    counted = np.concatenate(frames)[np.concatenate(weights) == 1]
    assert np.array_equal(counted, np.arange(n))


def test_batches_beyond_the_last_frame_weigh_nothing():
    weights = [w.tolist() for _, w in batches(np.arange(5), 4, steps=4)]
    assert weights == [[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_maps_are_the_same_whether_the_window_is_dense_or_not():
    block, indices = maps_block(20, 11), np.array([3, 3, 0, 19])
    dense, sparse = ContactMaps(block, 12), ContactMaps(block, 12, dense_bytes=0)
    assert np.array_equal(dense.batch(indices), sparse.batch(indices))
    maps = dense.batch(indices)
    assert maps.shape == (4, 12, 12)
    assert maps.dtype == np.uint8
    assert not maps[:, 11].any()
    assert not maps[:, :, 11].any()
    assert (maps[:, range(11), range(11)] == 1).all()
