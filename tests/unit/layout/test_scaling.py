"""What a layout is predicted to cost."""

import pytest

from ddmd_mpi.config.schema import RanksSection
from ddmd_mpi.layout.plan import machine, plan
from ddmd_mpi.layout.scaling import BUNDLES_PER_S, OWN_PER_S, predict, remarks
from ddmd_mpi.parallel.tree import BUNDLE_SECONDS


def layout(n, per_node=None):
    return plan(*machine(n, ranks_per_node=per_node), RanksSection(), 1)


def test_bundles_are_those_of_the_tree():
    assert pytest.approx(1 / BUNDLE_SECONDS) == BUNDLES_PER_S


def test_what_reaches_the_leader_grows_with_the_nodes_and_not_with_their_ranks():
    few, many = predict(layout(64, 8)), predict(layout(96, 12))
    assert few.messages_to_leader == many.messages_to_leader == BUNDLES_PER_S * 7 + OWN_PER_S
    assert predict(layout(64)).messages_to_leader == 0  # one node: shared memory


@pytest.mark.parametrize(("ranks", "measured_s"), [(16, 3.2), (32, 4.9), (64, 14.7), (128, 38.2), (256, 146.1)])
def test_starts_on_two_cores_are_as_measured(ranks, measured_s):
    """Fitted to 16 to 128 ranks, and confirmed by 256."""
    assert predict(layout(ranks, 8), ranks_per_core=ranks / 2).start_s == pytest.approx(measured_s, rel=0.2)


def test_inference_is_the_first_to_be_overrun():
    summit = layout(7140, 7)
    predicted = predict(summit, block_delay=0.1)
    assert predicted.inference_streams == 1020
    assert predicted.inference_load > 1
    assert any("inference would read 1020 streams" in line for line in remarks(summit, predicted))
    (files,) = remarks(summit, predict(summit, block_delay=1.0))
    assert "hold 2040 files open" in files


def test_a_node_without_an_aggregator_is_named():
    lonely = layout(9, 4)  # one rank on the last node, which infers; seven on two nodes
    assert not list(remarks(lonely, predict(lonely)))
    single = layout(10, 1)
    assert any("without an aggregator" in line for line in remarks(single, predict(single)))
