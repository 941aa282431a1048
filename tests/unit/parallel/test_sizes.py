"""Sizes of window memory."""

import pytest

from ddmd_mpi.errors import LayoutError
from ddmd_mpi.parallel.sizes import padded, slot_nbytes, slots_per_walker


def test_padded():
    assert [padded(n) for n in (0, 1, 64, 65)] == [0, 64, 64, 128]


def test_a_slot_holds_a_generation_and_a_frame():
    assert slot_nbytes(504) >= 8 + 504 * 3 * 4 * 2 + 36
    assert slot_nbytes(504) % 64 == 0


def test_slots_share_the_budget():
    assert slots_per_walker(10 * slot_nbytes(504), 3, 504) == 3
    with pytest.raises(LayoutError, match=r"holds 1 frames of 504 atoms for each of 4 walkers") as error:
        slots_per_walker(7 * slot_nbytes(504), 4, 504)
    needed = float(str(error.value).rsplit(" ", 1)[1])
    assert slots_per_walker(int(needed * 1e6), 4, 504) == 2
