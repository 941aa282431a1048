"""Sizes of window memory."""

import pytest

from ddmd_mpi.config.schema import RanksSection
from ddmd_mpi.errors import LayoutError
from ddmd_mpi.layout.memory import model_threads, padded, slot_nbytes, slots_per_walker
from ddmd_mpi.layout.plan import plan


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


@pytest.mark.parametrize(("cores", "n_training", "threads"), [
    (4, 1, 1), (6, 1, 1), (8, 1, 2), (9, 1, 2), (20, 1, 8), (20, 2, 5), (20, 3, 4), (2, 3, 1),
])  # fmt: skip
def test_the_models_share_the_cores_that_no_rank_needs(cores, n_training, threads):
    """Six ranks in all where one trains, seven where two do."""
    n_ranks = 5 + n_training
    layout = plan([0] * n_ranks, [0], RanksSection(training=n_training), "auto")
    for rank in (*layout.ranks("training"), *layout.ranks("inference")):
        assert model_threads(layout, rank, cores) == threads


def test_a_node_without_other_models_gives_all_its_cores_to_the_one_it_has():
    layout = plan([0, 0, 0, 1, 1, 1], [1, 0], RanksSection(), "auto")
    (training,), (inference,) = layout.ranks("training"), layout.ranks("inference")
    assert (layout.nodes[training], layout.nodes[inference]) == (0, 1)
    assert [model_threads(layout, rank, 12) for rank in (training, inference)] == [10, 10]
