"""Any machine and any [ranks] give a valid layout, or one sentence that says why not."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddmd_mpi.config.schema import RanksSection
from ddmd_mpi.errors import LayoutError
from ddmd_mpi.layout.plan import machine, plan
from ddmd_mpi.layout.roles import ROLES, Layout

AUTO = RanksSection()


@st.composite
def machines(draw, min_ranks=0):
    """Node of each rank (in blocks or dealt out) and GPUs of each node."""
    per_node = draw(st.lists(st.integers(1, 9), min_size=1, max_size=7).filter(lambda n: sum(n) >= min_ranks))
    nodes = [node for node, n in enumerate(per_node) for _ in range(n)]
    if draw(st.booleans()):
        nodes = draw(st.permutations(nodes))
    return nodes, draw(st.lists(st.integers(0, 8), min_size=len(per_node), max_size=len(per_node)))


counts = st.one_of(st.just("auto"), st.integers(1, 40))
rank_sections = st.builds(
    RanksSection, simulation=counts, aggregation=counts, training=st.sampled_from(["auto", 1, 2, 3]),
    simulations_per_aggregator=st.integers(1, 14),
)  # fmt: skip
walkers = st.one_of(st.just("auto"), st.integers(1, 5))


def check(layout: Layout, nodes, gpus_per_node):
    """What every layout promises."""
    assert sorted(r for role in ROLES for r in layout.ranks(role)) == list(range(len(nodes)))
    assert all(layout.ranks(role) for role in ROLES)

    simulations, aggregators = layout.ranks("simulation"), layout.ranks("aggregation")
    assert tuple(layout.aggregator_of) == simulations
    assert sorted(s for a in aggregators for s in layout.simulations_of(a)) == list(simulations)
    assert all(layout.simulations_of(a) for a in aggregators)

    assert [w for r in simulations for w in layout.walkers(r)] == list(range(layout.n_walkers))
    assert all(w in layout.walkers(layout.simulation_rank_of(w)) for w in range(layout.n_walkers))
    assert all(layout.hosts[w] == a for a in aggregators for w in layout.walkers_of(a))
    assert [layout.aggregator_index(a) for a in aggregators] == list(range(len(aggregators)))

    for node, n_gpus in enumerate(gpus_per_node):
        here = [r for r in range(len(nodes)) if nodes[r] == node]
        users = [r for r in here if layout.roles[r] in ("simulation", "training")]
        load = Counter(layout.gpu[r] for r in users)
        assert set(load) <= (set(range(n_gpus)) if n_gpus else {None})
        assert not n_gpus or len(load) == min(n_gpus, len(users))
        assert max(load.values(), default=0) - min(load.values(), default=0) <= 1 or not n_gpus
        assert all(layout.gpu[r] is None for r in here if layout.roles[r] == "aggregation")
        for r in here:
            if layout.roles[r] == "inference" and layout.gpu[r] is not None:
                assert layout.gpu[r] not in load


@settings(max_examples=1000, deadline=None)
@given(machines(), rank_sections, walkers)
def test_a_layout_is_valid_or_refused_in_one_sentence(hardware, ranks, walkers_per_rank):
    layout, sentence = None, ""
    try:
        layout = plan(*hardware, ranks, walkers_per_rank)
    except LayoutError as error:
        sentence = str(error)
    if layout is None:
        assert 20 < len(sentence) < 300
        assert "\n" not in sentence
        return
    check(layout, *hardware)
    for role in ROLES:
        asked = getattr(ranks, role)
        assert asked in ("auto", len(layout.ranks(role)))


@settings(max_examples=800, deadline=None)
@given(machines(min_ranks=4), st.integers(1, 14))
def test_four_ranks_or_more_always_have_an_automatic_layout_of_short_ways(hardware, per_aggregator):
    nodes, gpus_per_node = hardware
    layout = plan(nodes, gpus_per_node, RanksSection(simulations_per_aggregator=per_aggregator), "auto")
    check(layout, nodes, gpus_per_node)
    served = {nodes[a] for a in layout.ranks("aggregation")}
    at_home = Counter(nodes[s] for s in layout.ranks("simulation"))
    for simulation, aggregator in layout.aggregator_of.items():
        alone = not at_home[nodes[aggregator]]
        assert nodes[simulation] == nodes[aggregator] or nodes[simulation] not in served or alone
    assert all(n == 1 for node, n in at_home.items() if node not in served)
    largest = max(len(layout.simulations_of(a)) for a in layout.ranks("aggregation"))
    assert largest <= per_aggregator + 2


@settings(max_examples=400, deadline=None)
@given(machines(min_ranks=6), st.sampled_from([2, 3]))
def test_several_training_ranks_go_together_where_gpus_are(hardware, n_training):
    nodes, gpus_per_node = hardware
    layout = plan(nodes, gpus_per_node, RanksSection(training=n_training), "auto")
    check(layout, nodes, gpus_per_node)
    trainers = layout.ranks("training")
    assert len(trainers) == n_training
    free_with_gpu = [r for r in range(len(nodes)) if gpus_per_node[nodes[r]] and layout.roles[r] != "inference"]
    assert sum(layout.gpu[r] is not None for r in trainers) == min(n_training, len(free_with_gpu))
    places = {(nodes[r], layout.gpu[r]) for r in trainers if layout.gpu[r] is not None}
    with_gpu = sum(layout.gpu[r] is not None for r in trainers)
    assert any("training ranks share a GPU" in w for w in layout.warnings) == (len(places) < with_gpu)
    assert any("hold the others up" in w for w in layout.warnings) == (0 < with_gpu < n_training)


@settings(max_examples=300, deadline=None)
@given(st.integers(4, 60), st.integers(1, 12), st.integers(1, 14))
def test_even_shares(n_ranks, n_aggregators, per_aggregator):
    ranks = RanksSection(aggregation=n_aggregators, simulations_per_aggregator=per_aggregator)
    try:
        layout = plan([0] * n_ranks, [0], ranks, "auto")
    except LayoutError:
        assert n_aggregators > (n_ranks - 2) // 2
        return
    shares = [len(layout.simulations_of(a)) for a in layout.ranks("aggregation")]
    assert max(shares) - min(shares) <= 1
    assert any("an aggregator would serve" in w for w in layout.warnings) == (max(shares) > per_aggregator)


def test_four_ranks_take_one_role_each():
    layout = plan([0] * 4, [0], AUTO, "auto")
    assert layout.roles == ("simulation", "aggregation", "training", "inference")
    assert (layout.walkers_per_rank, layout.n_walkers) == (4, 4)
    assert plan([0] * 7, [0], AUTO, "auto").walkers_per_rank == 1
    assert plan([0] * 7, [0], AUTO, 3).n_walkers == 12


@pytest.mark.parametrize("n", [0, 1, 3])
def test_fewer_than_four_ranks_are_too_few(n):
    cure = "at least 4 ranks, for example mpiexec -n 4, or use --mode file"
    with pytest.raises(LayoutError, match=f"^{n} rank.* too few: .*{cure}$"):
        plan([0] * n, [0], AUTO, "auto")


@pytest.mark.parametrize(
    ("n", "asked", "message"),
    [
        (9, {"simulation": 6, "aggregation": 2}, "6 simulation .* 2 aggregation .* needs 10 ranks, but 9 were started"),
        (9, {"simulation": 4, "aggregation": 2}, "needs 8 ranks, but 9 were started"),
        (6, {"simulation": 4}, "4 simulation .* needs 7 ranks, but 6 were started"),
        (6, {"aggregation": 4}, "needs 7 ranks, but 6 were started"),
        (9, {"aggregation": 4}, "4 aggregators for 3 simulations"),
        (5, {"training": 3}, "3 training of 5 ranks, which leaves 1 for simulation and aggregation: start at least 6"),
        (6, {"training": 3, "aggregation": 2}, "2 aggregation \\+ 3 training .* needs 7 ranks, but 6 were started"),
    ],
)
def test_counts_that_do_not_add_up_are_refused_with_expected_and_got(n, asked, message):
    with pytest.raises(LayoutError, match=message):
        plan([0] * n, [0], RanksSection(**asked), "auto")


def test_summit():
    """Seven ranks on each node of six GPUs: the aggregator takes the rank without one, and no GPU is shared."""
    nodes, gpus = machine(1190, ranks_per_node=7, gpus_per_node=6)
    layout = plan(nodes, gpus, AUTO, "auto")
    assert [len(layout.ranks(role)) for role in ROLES] == [1018, 170, 1, 1]
    assert {nodes[a] for a in layout.ranks("aggregation")} == set(range(170))
    assert all(nodes[s] == nodes[a] for s, a in layout.aggregator_of.items())
    assert len({(nodes[r], g) for r, g in enumerate(layout.gpu) if g is not None}) == 1020
    assert layout.warnings == ()


def test_one_rank_per_node():
    layout = plan(list(range(20)), [1] * 20, RanksSection(simulations_per_aggregator=5), "auto")
    assert [len(layout.ranks(role)) for role in ROLES] == [15, 3, 1, 1]
    assert all(abs(s - a) <= 3 for s, a in layout.aggregator_of.items())
    assert any("another node" in w for w in layout.warnings)


def test_training_goes_where_gpus_are():
    layout = plan([0] * 5 + [1] * 3, [4, 0], AUTO, "auto")
    assert layout.nodes[layout.ranks("training")[0]] == 0
    assert layout.gpu[layout.ranks("training")[0]] is not None


def test_training_ranks_share_gpus_and_the_rest_by_the_same_rule():
    layout = plan([0] * 11, [2], RanksSection(training=3), "auto")
    assert layout.ranks("training") == (7, 8, 9)
    assert any("up to 2 of 3 training ranks share a GPU" in w and "at most 2" in w for w in layout.warnings)
    split = plan([0] * 4 + [1] * 6, [1, 0], RanksSection(training=5), "auto")
    assert any(w.startswith("1 of 5 training ranks would run without a GPU") for w in split.warnings)


def test_warnings_about_gpus():
    assert any("GPUs would be unused" in w for w in plan([0] * 4, [8], AUTO, "auto").warnings)
    assert any("up to 9 ranks share a GPU" in w for w in plan([0] * 11, [1], AUTO, "auto").warnings)
    assert any("inference would run without" in w for w in plan([0] * 11, [1], AUTO, "auto").warnings)
    assert any("some nodes have none" in w for w in plan([0] * 4 + [1] * 4, [4, 0], AUTO, "auto").warnings)
    assert plan([0] * 9, [8], AUTO, "auto").warnings == ()


def test_machine_fills_its_nodes():
    assert machine(5, ranks_per_node=2, gpus_per_node=3) == ((0, 0, 1, 1, 2), (3, 3, 3))
    assert machine(5, n_nodes=2) == ((0, 0, 0, 1, 1), (0, 0))
    assert machine(4) == ((0, 0, 0, 0), (0,))
    with pytest.raises(LayoutError, match="fill 3 nodes, but 2 were given"):
        machine(5, n_nodes=2, ranks_per_node=2)


@settings(max_examples=300, deadline=None)
@given(machines(min_ranks=4), st.integers(1, 80))
def test_walkers_that_are_there_are_shared_evenly_or_refused(hardware, n_walkers):
    n_simulations = len(plan(*hardware, AUTO, "auto").ranks("simulation"))
    if n_walkers < n_simulations:
        with pytest.raises(LayoutError, match="cannot be shared"):
            plan(*hardware, AUTO, 3, n_walkers)
        return
    layout = plan(*hardware, AUTO, 3, n_walkers)
    check(layout, *hardware)
    shares = [len(layout.walkers(r)) for r in layout.ranks("simulation")]
    assert sum(shares) == layout.n_walkers == n_walkers >= n_simulations
    assert max(shares) - min(shares) <= 1
    assert max(shares) == layout.walkers_per_rank
