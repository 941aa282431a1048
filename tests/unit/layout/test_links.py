"""Which streams a layout needs."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from ddmd_mpi.config.schema import RanksSection
from ddmd_mpi.layout.links import SIMULATION, TO_INFERENCE, TO_TRAINING, WEIGHTS, homes, links, shares
from ddmd_mpi.layout.plan import plan

ROLE_SIZES = st.integers(1, 40)


@settings(max_examples=500, deadline=None)
@given(ROLE_SIZES, ROLE_SIZES)
def test_every_aggregator_and_every_trainer_has_a_stream_and_the_shares_are_even(n_aggregators, n_trainers):
    aggregators, trainers = tuple(range(n_aggregators)), tuple(range(100, 100 + n_trainers))
    dealt = shares(aggregators, trainers)
    assert len(dealt) == len(set(dealt)) == max(n_aggregators, n_trainers)
    written, read = Counter(a for a, _ in dealt), Counter(t for _, t in dealt)
    assert set(written) == set(aggregators)
    assert set(read) == set(trainers)
    for of_one in (written, read):
        assert max(of_one.values()) - min(of_one.values()) <= 1
    assert 1 in (max(written.values()), max(read.values())), "a trainer would take a part of several aggregators"


def test_shares_by_hand():
    assert shares((5,), (6,)) == [(5, 6)]
    assert shares((1, 2, 3, 4), (7, 8)) == [(1, 7), (2, 7), (3, 8), (4, 8)]
    assert shares((5,), (6, 7, 8)) == [(5, 6), (5, 7), (5, 8)]
    assert shares((4, 5), (6, 7, 8)) == [(4, 6), (4, 7), (5, 8)]


def test_the_links_of_two_aggregators_and_three_training_ranks():
    layout = plan([0] * 10, [0], RanksSection(aggregation=2, training=3), "auto")
    planned = links(layout)
    assert [link.index for link in planned] == list(range(len(planned)))
    ends = {
        kind: [(link.writer, link.reader, link.host) for link in planned if link.kind == kind]
        for kind in (SIMULATION, TO_TRAINING, TO_INFERENCE, WEIGHTS)
    }
    assert ends[SIMULATION] == [(0, 4, 4), (1, 4, 4), (2, 5, 5), (3, 5, 5)]
    assert ends[TO_TRAINING] == [(4, 6, 4), (4, 7, 4), (5, 8, 5)]
    assert ends[TO_INFERENCE] == [(4, 9, 4), (5, 9, 5)]
    assert ends[WEIGHTS] == [(6, 9, 4)]


def test_every_rank_speaks_to_an_aggregator_that_hears_of_the_leader():
    """Ranks alone on a node never have a home on the leader's node but the leader: only the leader sends from there."""
    cases = (([0] * 8 + [1] + [2] * 3, 2), ([0] * 3 + [1] * 3, 1), ([0] * 4 + [1] * 4, 2), ([0] * 6, 2))
    for nodes, n_aggregators in cases:
        layout = plan(nodes, [0] * (max(nodes) + 1), RanksSection(aggregation=n_aggregators), 1)
        home, aggregators = homes(layout), layout.ranks("aggregation")
        leader = aggregators[0]
        for rank, of in enumerate(home):
            assert of in aggregators
            assert of in (rank, leader) or nodes[of] != nodes[leader]
            assert nodes[rank] != nodes[leader] or of in (leader, rank)
            assert of == rank or not (nodes[of] != nodes[rank] and any(nodes[a] == nodes[rank] for a in aggregators))
