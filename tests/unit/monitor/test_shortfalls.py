"""What a run says of what it dropped or has not come to."""

import numpy as np
import pytest

from ddmd_mpi.monitor.shortfalls import shortfalls
from ddmd_mpi.monitor.status import STATUS_DTYPE

ROLES = ("simulation", "simulation", "aggregation", "training", "inference")
SIMULATION, AGGREGATION, TRAINING, INFERENCE = slice(0, 2), 2, 3, 4
FACTS = {
    "mode": "stream",
    "strategy": "ml_rmsd",
    "needs_model": True,
    "model": "cvae",
    "first_frames": 256,
    "round_frames": 60,
    "archive": "full",
    "walkers": 8,
    "instant_model": True,
}


@pytest.fixture
def records():
    """Those of a run that has left nothing undone."""
    records = np.zeros(len(ROLES), STATUS_DTYPE)
    records["wall_s"] = 100
    records["frames"][SIMULATION], records["archived"][AGGREGATION] = 200, 400
    records["window"][TRAINING], records["rounds"][TRAINING], records["version"][TRAINING] = 400, 2, 2
    records["window"][INFERENCE], records["rounds"][INFERENCE] = 300, 5
    return records


def test_nothing_is_said_of_a_run_that_came_to_it_all(records):
    assert shortfalls(records, ROLES, FACTS) == []
    records["hop_dropped"][TRAINING] = 0, 0, 0, 7
    assert shortfalls(records, ROLES, FACTS) == [], "weights that newer ones replaced are no loss"


def test_dropped_blocks_are_counted_with_the_frames_that_the_archive_lacks(records):
    records["hop_dropped"][0], records["hop_dropped"][AGGREGATION] = [12, 0, 0, 0], [0, 3, 0, 0]
    records["archived"][AGGREGATION] = 304
    (said,) = shortfalls(records, ROLES, FACTS)
    assert said.startswith("15 blocks of frames were dropped")
    assert "SimulationOutput 12, AggregatorToTraining 3" in said
    assert "the archive has 304 of 400 frames" in said
    (said,) = shortfalls(records, ROLES, {**FACTS, "archive": "none"})
    assert "archive" not in said


def test_a_run_without_a_report_says_how_long_one_takes(records):
    records["frames"][SIMULATION], records["report_s"][0] = 0, 45
    (said,) = shortfalls(records, ROLES, FACTS)
    assert "no walker made a report, which takes 45s here: --duration 5min" in said  # 100 + 4 x 45
    records["report_s"], records["preparing"][0] = 0, 3
    (said,) = shortfalls(records, ROLES, FACTS)
    assert "3 of 8 walkers were still being prepared after 100s" in said


def test_a_run_without_a_model_says_what_would_have_been_enough(records):
    records["version"], records["rounds"][TRAINING], records["window"][TRAINING] = 0, 0, 64
    (said,) = shortfalls(records, ROLES, FACTS)
    assert "first round starts at 256 frames and 64 had arrived" in said
    assert "--duration 7min" in said
    records["window"][TRAINING] = 256
    (said,) = shortfalls(records, ROLES, FACTS)
    assert "the first round of training had not finished" in said
    records["rounds"][TRAINING] = 3
    (said,) = shortfalls(records, ROLES, FACTS)
    assert "no round of training was finished and accepted" in said
    for other in ({"needs_model": False}, {"mode": "file"}, {"model": "none"}):
        assert shortfalls(records, ROLES, {**FACTS, **other}) == []


def test_a_run_without_a_round_says_what_would_have_been_enough(records):
    records["rounds"][INFERENCE], records["window"][INFERENCE] = 0, 30
    (said,) = shortfalls(records, ROLES, FACTS)
    assert "a round of inference needs 60 new frames and 30 had arrived" in said
    assert "--duration 4min" in said
    assert shortfalls(records, ROLES, {**FACTS, "strategy": "none"}) == []
