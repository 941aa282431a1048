"""The strategy `auto`: turns of novelty and of the target, and each as much as it has earned."""

import json

import numpy as np
import pytest

from ddmd_mpi.config.strategies import BUILT_IN
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.steering.auto import SELDOM, auto
from ddmd_mpi.steering.candidates import Candidates
from ddmd_mpi.steering.outliers import Outliers

N_WALKERS = 4


def window(*rows) -> FrameBlock:
    """Frames of (walker, frame, decision, length of a step of the straight chain, angstrom)."""
    walker, frame, decision, length = np.array(rows, float).T
    steps = np.arange(8)[:, None] * np.array([1.0, 0, 0])
    return FrameBlock(
        {
            "walker": walker.astype(np.int32),
            "frame": frame.astype(np.int64),
            "decision": decision.astype(np.int64),
            "ca_positions": np.rint(100 * length[:, None, None] * steps).astype(np.int16),
        }
    )


def judge(block, coordinate=None, memory=None, **options):
    n = len(block)
    verdict = auto(
        Candidates(
            block=block,
            coordinate=np.full(n, np.nan) if coordinate is None else np.array(coordinate, float),
            usable=np.ones(n, bool),
            n_walkers=N_WALKERS,
            generator=np.random.default_rng(1),
            outliers=Outliers.none(n),
            contacts=np.full(n, np.nan),
            options={**BUILT_IN["auto"].options, **options},
            memory=memory or {},
        )
    )
    return verdict, json.loads(json.dumps(verdict.memory))


#: Three frames of one state and one of another.
FOUR = window((0, 0, -1, 2.0), (1, 0, -1, 2.0), (2, 0, -1, 2.0), (3, 0, -1, 5.0))


def test_a_turn_of_novelty_prefers_the_rarest_state_by_its_newest_frame():
    verdict, _ = judge(FOUR)
    assert verdict.score.tolist() == [3, 3, 3, 1]
    assert verdict.eligible.tolist() == [False, False, True, True]


def test_states_are_counted_over_the_whole_run_and_each_frame_once():
    _, memory = judge(FOUR)
    later = window((3, 0, -1, 5.0), (0, 1, -1, 5.0), (1, 1, -1, 5.0), (2, 1, -1, 2.0))
    verdict, _ = judge(later, memory=memory, period=10)
    assert verdict.score.tolist() == [3, 3, 3, 4]


def test_the_target_has_its_turn():
    coordinate = [4.0, 3.0, 2.0, 1.0]
    verdict, memory = judge(FOUR, coordinate, period=2)
    assert verdict.score.tolist() == [3, 3, 3, 1]
    verdict, _ = judge(FOUR, coordinate, memory, period=2)
    assert verdict.score.tolist() == coordinate
    assert verdict.eligible.all()


def test_without_a_target_every_turn_is_one_of_novelty():
    memory = {}
    for _ in range(4):
        verdict, memory = judge(FOUR, memory=memory, period=1)
        assert verdict.score.tolist() == [3, 3, 3, 1]


def turns(coordinates, **options):
    """Whether each round was one of the target, for the best coordinate of each round."""
    memory, found = {}, []
    for best in coordinates:
        coordinate = [9.0, 8.0, 7.0, best]
        verdict, memory = judge(FOUR, coordinate, memory, period=1, **options)
        found.append(verdict.score.tolist() == coordinate)
    return found


def test_on_a_plateau_the_target_has_few_turns_until_it_is_better_again():
    found = turns([3.0] * 30 + [2.0] * 2, patience=4)
    assert found[:4] == [True] * 4
    seldom = [i + 1 for i, was in enumerate(found[4:30], 4) if was]
    assert seldom == [SELDOM, 2 * SELDOM, 3 * SELDOM]
    assert found[30:] == [True, True]


@pytest.mark.parametrize(("length", "share"), [((7.0, 5.0), 0.5), ((5.0, 7.0), 0.32)])
def test_more_walkers_restart_if_restarted_segments_find_more_than_those_that_continue(length, share):
    _, memory = judge(FOUR)
    memory["share"] = 0.4
    restarted, continued = length
    block = window((0, 1, 0, restarted), (1, 1, -1, continued))
    assert judge(block, memory=memory, least=0.1)[1]["share"] == pytest.approx(share)
    assert judge(block, memory=memory, least=0.35)[1]["share"] == pytest.approx(max(share, 0.35))


def test_a_share_of_the_walkers_may_restart_in_a_turn_of_novelty():
    states = window(*((w, 0, -1, 2.0 + 3 * w) for w in range(4)))
    memory = {"share": 0.5}
    assert judge(states)[0].eligible.sum() == 4
    assert judge(states, memory=memory)[0].eligible.sum() == 2


def test_a_frame_that_no_walker_can_take_is_left_out():
    n = len(FOUR)
    candidates = Candidates(
        block=FOUR,
        coordinate=np.full(n, np.nan),
        usable=np.array([True, True, False, False]),
        n_walkers=N_WALKERS,
        generator=np.random.default_rng(1),
        outliers=Outliers.none(n),
        contacts=np.full(n, np.nan),
        options=BUILT_IN["auto"].options,
    )
    assert auto(candidates).eligible.tolist() == [False, True, False, False]
