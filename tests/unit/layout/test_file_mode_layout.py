"""In file mode every rank simulates, whatever their number, and the first ones train and infer as well."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmd_mpi.config.schema import RanksSection
from ddmd_mpi.errors import LayoutError
from ddmd_mpi.layout.describe import describe
from ddmd_mpi.layout.file_mode import PLANS, plan
from ddmd_mpi.layout.memory import model_threads
from ddmd_mpi.layout.roles import ROLES


@given(st.integers(1, 20), st.integers(1, 20), st.one_of(st.just("auto"), st.integers(1, 4)))
def test_every_rank_has_its_walkers_and_every_record_its_seat(n_ranks, n_training, walkers):
    n_training = min(n_ranks, n_training)
    layout = plan([0] * n_ranks, [0], RanksSection(training=n_training), walkers)
    everyone = tuple(range(n_ranks))
    assert [layout.ranks(role) for role in ROLES] == [everyone, (0,), everyone[:n_training], (0,)]
    assert [w for rank in everyone for w in layout.walkers(rank)] == list(range(layout.n_walkers))
    assert layout.walkers_per_rank == (walkers if walkers != "auto" else 4 if n_ranks < 4 else 1)
    assert {layout.role_class(rank) for rank in everyone} == {"file_mode.loop:Iteration"}
    taken = [layout.slot(rank, role) for role in ROLES for rank in layout.ranks(role)]
    assert taken == list(range(len(layout.status_slots)))
    assert [layout.status_slots[slot] for slot in taken] == [role for role in ROLES for _ in layout.ranks(role)]


def test_stream_mode_has_a_seat_per_rank():
    layout = PLANS["stream"]([0] * 4, [0], RanksSection(), "auto")
    assert layout.status_slots == layout.roles
    assert [layout.slot(rank, layout.roles[rank]) for rank in range(4)] == [0, 1, 2, 3]
    assert layout.role_class(0) == "roles.simulation:Simulation"
    assert [layout.role_class(rank) for rank in range(4)] == [f"roles.{r}:{r.capitalize()}" for r in layout.roles]


def test_more_trainers_than_ranks_are_refused():
    with pytest.raises(LayoutError, match="start 3 or ask for fewer"):
        plan([0, 0], [0], RanksSection(training=3), "auto")


def test_counts_of_stream_mode_are_named_as_unused():
    layout = plan([0] * 6, [0], RanksSection(simulation=3, aggregation=2), "auto")
    assert [w.split(" is not")[0] for w in layout.warnings] == ["ranks.simulation = 3", "ranks.aggregation = 2"]
    assert plan([0], [0], RanksSection(aggregation=1, simulation=1), "auto").warnings == ()


def test_gpus_go_round():
    layout = plan([0, 0, 0, 1], [2, 1], RanksSection(), "auto")
    assert layout.gpu == (0, 1, 0, 0)
    assert layout.warnings == ("up to 2 ranks share a GPU: start fewer ranks per node for one each",)


def test_trainers_share_the_cores_that_wait_for_them():
    layout = plan([0, 0, 0, 0, 1, 1], [0, 0], RanksSection(training=5), "auto")
    assert model_threads(layout, 0, 16) == 4
    assert model_threads(layout, 4, 16) == 16
    assert model_threads(layout, 0, 2) == 1


def test_the_plan_in_words_has_neither_rings_nor_queues():
    text = describe(plan([0] * 3, [0], RanksSection(training=2), "auto"), ring_nbytes=10**8, queue_nbytes=10**8)
    assert "simulation        3 ranks: 0-2" in text
    assert "training          2 ranks: 0-1" in text
    assert "MB" not in text
