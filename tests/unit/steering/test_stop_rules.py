"""When it is enough: one test per rule."""

import json

import numpy as np
import pytest

from ddmd_mpi import config as configuration
from ddmd_mpi.config.schema import RunSection
from ddmd_mpi.errors import ConfigError
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.steering.stop_rules import StopRules


def frames(*rows, length=2.0) -> FrameBlock:
    """Frames of (walker, segment, decision, RMSD), of straight chains with steps of this length."""
    walker, segment, decision, rmsd = np.array(rows, float).T
    steps = np.arange(8)[:, None] * np.array([100 * length, 0, 0])
    return FrameBlock(
        {
            "walker": walker.astype(np.int32),
            "segment": segment.astype(np.int32),
            "decision": decision.astype(np.int64),
            "rmsd": rmsd.astype(np.float32),
            "ca_positions": np.rint(np.tile(steps, (len(rows), 1, 1))).astype(np.int16),
        }
    )


def rules(report_interval_ps=1000.0, **settings) -> StopRules:
    return StopRules(RunSection(usecase="bba-go", **settings), report_interval_ps)


def test_nothing_stops_a_run_that_asks_for_nothing():
    nothing = rules()
    nothing.add(frames((0, 0, -1, 0.1)))
    assert (nothing.active, nothing.reason()) == (False, "")


def test_one_arrival_at_the_target():
    target = rules(target_rmsd_angstrom=1.0)
    target.add(frames((0, 0, -1, 1.1), (1, 0, -1, np.nan)))
    assert target.reason() == ""
    target.add(frames((0, 0, -1, 1.0)))
    assert (target.active, target.reason()) == (True, "target_rmsd")


def test_arrivals_count_once_for_each_walker_that_their_chains_began_with():
    several = rules(target_rmsd_angstrom=1.0, target_arrivals=2)
    several.add(frames((0, 0, -1, 0.9), (0, 1, -1, 0.8)))
    several.lineages.decided(5, 0, 1)
    several.add(frames((1, 0, -1, 3.0), (1, 1, 5, 0.9), (1, 2, -1, 0.9)))
    several.lineages.decided(6, 1, 2)
    several.add(frames((2, 1, 6, 0.9)))
    assert several.arrived == {0}
    several.lineages.decided(7, 3, 0)
    several.add(frames((0, 2, 7, 0.9)))
    assert (several.arrived, several.reason()) == ({0, 3}, "arrivals")


def test_a_frame_from_before_a_restart_keeps_its_lineage():
    several = rules(target_rmsd_angstrom=1.0, target_arrivals=2)
    several.lineages.decided(0, 4, 0)
    several.add(frames((1, 3, 0, 2.0)))
    several.add(frames((1, 2, -1, 0.5)))
    assert several.arrived == {1}
    several.add(frames((1, 4, -1, 0.5)))
    assert several.arrived == {1, 4}


def test_the_lineages_of_earlier_sessions_are_in_their_decisions():
    lines = [
        {"decision": 0, "outcome": "applied", "walker": 1, "segment": 1, "source": {"walker": 0, "segment": 0}},
        {"decision": 1, "outcome": "stale", "walker": 2, "segment": None, "source": {"walker": 0, "segment": 0}},
        {"decision": 2, "outcome": "applied", "walker": 2, "segment": 4, "source": {"walker": 1, "segment": 1}},
    ]
    several = rules(target_rmsd_angstrom=1.0, target_arrivals=2)
    several.recall(lines)
    assert [several.lineages.first(*at) for at in ((1, 0), (1, 1), (2, 3), (2, 9))] == [1, 0, 2, 0]


def test_no_better_rmsd_for_so_long():
    plateau = rules(rmsd_plateau_ns=3.0)
    plateau.add(frames((0, 0, -1, 5.0), (1, 0, -1, 4.0)))
    plateau.add(frames((0, 0, -1, 3.0), (1, 0, -1, 6.0)))
    plateau.add(frames((0, 0, -1, 2.99), (1, 0, -1, 6.0)))
    assert plateau.reason() == ""
    plateau.add(frames((0, 0, -1, 7.0)))
    assert plateau.reason() == "rmsd_plateau"


def test_nothing_new_for_so_long():
    plateau = rules(coverage_plateau_ns=3.0)
    for length in (2.0, 4.0, 6.0, 8.0, 8.0, 8.0):
        assert plateau.reason() == ""
        plateau.add(frames((0, 0, -1, np.nan), length=length))
    plateau.add(frames((0, 0, -1, np.nan), length=8.0))
    assert plateau.reason() == "coverage_plateau"


@pytest.mark.parametrize(("n_states", "reason"), [(150, ""), (250, "coverage_plateau")])
def test_one_new_state_among_a_hundred_is_no_growth(n_states, reason):
    plateau = rules(coverage_plateau_ns=2.0, coverage_resolution_angstrom=0.01)
    for length in np.linspace(2, 6, n_states):
        plateau.add(frames((0, 0, -1, np.nan), length=length))
    assert plateau.reason() == reason


@pytest.mark.parametrize("rule", ["rmsd_plateau_ns", "coverage_plateau_ns"])
def test_a_resumed_run_goes_on_counting(rule):
    whole, first, second = (rules(**{rule: 4.0}) for _ in range(3))
    for half, parts in ((first, (0, 1, 2)), (second, (3, 4, 5))):
        if half is second:
            second.restore(json.loads(json.dumps(first.state())))
        for _ in parts:
            for target in (whole, half):
                target.add(frames((0, 0, -1, 3.0)))
            assert half.reason() == whole.reason()
    assert whole.reason() == rule.removesuffix("_ns")


def test_arrivals_at_another_target_do_not_count_when_a_run_is_resumed():
    first = rules(target_rmsd_angstrom=1.0, target_arrivals=2)
    first.add(frames((0, 0, -1, 0.9)))
    state = json.loads(json.dumps(first.state()))
    same, other = (rules(target_rmsd_angstrom=target, target_arrivals=2) for target in (1.0, 0.5))
    same.restore(state)
    other.restore(state)
    assert (same.arrived, other.arrived) == ({0}, set())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["run.target_arrivals=2"], "set target_rmsd_angstrom"),
        (["run.rmsd_plateau_ns=0"], "rmsd_plateau_ns"),
    ],
)
def test_rules_that_cannot_be(settings, said):
    with pytest.raises(ConfigError, match=said):
        configuration.load("bba-go", assignments=settings)
