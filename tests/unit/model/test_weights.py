"""Weights: whole through a buffer and through the disk, and refused when damaged."""

import json

import numpy as np
import pytest

from ddmd_mpi.errors import ModelError
from ddmd_mpi.model import ModelWeights

ARRAYS = [
    np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.array(2.5, np.float32), np.zeros((0, 3), np.float64),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
]  # fmt: skip
WEIGHTS = ModelWeights(12, ARRAYS, {"samples": 100, "losses": [1.5, 0.5], "architecture": {"size": 28}})


def assert_same(left: ModelWeights, right: ModelWeights) -> None:
    assert (left.version, left.metadata) == (right.version, right.metadata)
    for a, b in zip(left.arrays, right.arrays, strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
        assert a.shape == b.shape


def test_through_a_buffer():
    buffer = WEIGHTS.pack()
    assert buffer.dtype == np.uint8
    assert_same(ModelWeights.unpack(buffer), WEIGHTS)
    assert_same(ModelWeights.unpack(ModelWeights(1, []).pack()), ModelWeights(1, []))


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-1], lambda b: b[1:], lambda b: b[:10], lambda b: b[:0], lambda b: np.append(b, b[:8]), np.zeros_like,
     lambda b: np.where(np.arange(len(b)) == 20, 0, b).astype(np.uint8)],
)  # fmt: skip
def test_a_damaged_buffer_is_refused(damage):
    with pytest.raises(ModelError):
        ModelWeights.unpack(damage(WEIGHTS.pack()))


def test_through_the_disk(tmp_path):
    path = WEIGHTS.save(tmp_path / "models")
    assert path == tmp_path / "models" / "v000012"
    assert sorted(p.name for p in path.iterdir()) == ["metadata.json", "weights.npz"]
    assert_same(ModelWeights.read(path), WEIGHTS)
    assert json.loads((path / "metadata.json").read_text()) == {"version": 12, **WEIGHTS.metadata}


def test_a_version_is_written_once_and_nothing_is_left_behind(tmp_path):
    WEIGHTS.save(tmp_path)
    with pytest.raises(ModelError, match="version 12"):
        ModelWeights(12, [np.ones(3)]).save(tmp_path)
    assert_same(ModelWeights.read(tmp_path / "v000012"), WEIGHTS)
    assert [p.name for p in tmp_path.iterdir()] == ["v000012"]


def test_a_version_that_is_not_finished_is_not_seen(tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(ModelError, match="No space left"):
        WEIGHTS.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_pickle_is_read(tmp_path):
    path = WEIGHTS.save(tmp_path)
    np.savez(path / "weights.npz", np.array([{"evil": 1}], dtype=object))
    with pytest.raises(ModelError, match="cannot read"):
        ModelWeights.read(path)


def test_a_missing_version_is_one_sentence(tmp_path):
    with pytest.raises(ModelError, match="v000003"):
        ModelWeights.read(tmp_path / "v000003")
