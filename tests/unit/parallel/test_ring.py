"""What the ring of an aggregator copies when it keeps a block."""

import numpy as np
import pytest
from mpi4py import MPI

from ddmd_mpi.layout.memory import slot_nbytes
from ddmd_mpi.parallel.ring import CoordinateRing

ATOMS, SLOTS = 5, 4


@pytest.fixture
def ring():
    made = CoordinateRing(MPI.COMM_SELF, [0], [[0, 1]], ATOMS, 2 * SLOTS * slot_nbytes(ATOMS))
    yield made
    made.free()


def block(*walkers):
    """The walkers of the frames of a block, and its positions, velocities and boxes."""
    shape = len(walkers), ATOMS, 3
    arrays = (np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + k for k in range(2))
    return np.array(walkers), *arrays, np.arange(9 * len(walkers), dtype=np.float32).reshape(-1, 3, 3)


@pytest.mark.parametrize(("walkers", "n_kept"), [((0, 1, 0, 1), 4), ((0, 1, 0, 0, 0, 0), 5)])
def test_a_block_is_copied_into_its_slots_alone(ring, monkeypatch, walkers, n_kept):
    frames, write, written = block(*walkers), ring._write, []
    monkeypatch.setattr(ring, "_write", lambda *arrays: (written.extend(arrays), write(*arrays)))
    slots, generations = ring.store_all(*frames)
    assert [len(array) for array in written] == 5 * [n_kept]
    all_kept = n_kept == len(walkers)
    pairs = zip(written[2:], frames[1:], strict=True)
    assert [np.shares_memory(array, given) for array, given in pairs] == 3 * [all_kept]
    for i, (slot, generation) in enumerate(zip(slots.tolist(), generations.tolist(), strict=True)):
        fetched = ring.fetch(0, slot, generation)
        if i >= len(walkers) - n_kept:
            assert all(np.array_equal(part, array[i]) for part, array in zip(fetched, frames[1:], strict=True))
        else:
            assert fetched is None
