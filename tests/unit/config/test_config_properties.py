"""Whatever a config says, and however many ranks there are: a sentence that refuses it, or a valid layout."""

import copy
import tomllib
from collections import Counter
from dataclasses import fields, is_dataclass
from typing import get_type_hints

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddmd_mpi import config
from ddmd_mpi.config.schema import Config, RanksSection
from ddmd_mpi.errors import ConfigError, DDMDError, LayoutError
from ddmd_mpi.layout.file_mode import PLANS
from ddmd_mpi.layout.plan import machine
from ddmd_mpi.layout.roles import ROLES

FAST = settings(
    max_examples=1200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
SECTIONS = {name: kind for name, kind in get_type_hints(Config).items() if is_dataclass(kind)}
GIVEN = config.read_toml(config.inputs() / "bba-go.toml")
KEYS = sorted(f"{name}.{key.name}" for name, kind in SECTIONS.items() for key in fields(kind))
VALUES = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.booleans(),
    st.text(max_size=20),
    st.none(),
    st.sampled_from(["auto", "3min", "-1s", "1e400", "none", "../../etc/passwd", "'", "[", "{a = 1}", "0x"]),
    st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
COUNT = st.one_of(st.just("auto"), st.integers(1, 40))
RANKS = st.builds(
    RanksSection,
    simulation=COUNT,
    aggregation=COUNT,
    training=COUNT,
    inference=st.sampled_from(["auto", 1]),
    simulations_per_aggregator=st.integers(1, 40),
)


def unless_refused(function, kind):
    """What `function` gives; None where it refuses with a sentence."""
    try:
        return function()
    except kind as error:
        sentence = str(error)
    assert sentence
    return None


@FAST
@given(st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=12)), VALUES, min_size=1, max_size=3))
def test_settings_are_valid_or_refused_in_one_sentence(assigned):
    given_settings = copy.deepcopy(GIVEN)
    for name, value in assigned.items():
        section, _, key = name.partition(".")
        config.overlay(given_settings, {section: {key: value} if key else value})
    accepted = unless_refused(lambda: config.validate(given_settings), ConfigError)
    if accepted is None:
        return
    again = config.validate(tomllib.loads(config.to_toml(accepted)))
    assert again == accepted, "what a run writes down is what it was given"


@FAST
@given(st.text(max_size=40))
def test_assignments_are_valid_or_refused(text):
    unless_refused(lambda: config.load("bba-go", assignments=(text,)), DDMDError)


@FAST
@given(
    st.integers(1, 300),
    st.integers(1, 40),
    st.integers(0, 8),
    RANKS,
    st.one_of(st.just("auto"), st.integers(1, 12)),
    st.sampled_from(sorted(PLANS)),
)
def test_ranks_have_a_valid_layout_or_are_refused(n_ranks, ranks_per_node, gpus_per_node, ranks, walkers, mode):
    nodes, gpus = machine(n_ranks, ranks_per_node=ranks_per_node, gpus_per_node=gpus_per_node)
    planned = unless_refused(lambda: PLANS[mode](nodes, gpus, ranks, walkers), LayoutError)
    if planned is None:
        return
    assert len(planned.roles) == n_ranks
    simulations = planned.ranks("simulation")
    assert sorted(w for rank in simulations for w in planned.walkers(rank)) == list(range(planned.n_walkers))
    assert all(planned.simulation_rank_of(w) == rank for rank in simulations for w in planned.walkers(rank))
    for rank, gpu in enumerate(planned.gpu):
        assert gpu is None or 0 <= gpu < gpus[nodes[rank]]
    if mode == "stream":
        assert min(Counter(planned.roles)[role] for role in ROLES) >= 1
        served = sorted(s for a in planned.ranks("aggregation") for s in planned.simulations_of(a))
        assert served == sorted(simulations)
        assert all(planned.simulations_of(a) for a in planned.ranks("aggregation"))
