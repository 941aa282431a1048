"""Ranks that are lost before there is anything to lose, and simulations that are lost all together."""

import os
import signal

import pytest
from checker import problems
from hurt_jobs import begun, end, hurt, left_by, nobody_is_left, ranks_by_process, resume, running, start, wait

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(400)]


def the_reason(ended):
    """The one line that says why the run has ended."""
    assert ended.code == 1, ended.out
    assert ended.seconds_after < 60
    reasons = [line for line in ended.err.splitlines() if "the run ends:" in line]
    assert len(reasons) == 1, ended.err
    assert "failed:" not in ended.err
    nobody_is_left(ended.directory)
    return reasons[0]


@pytest.mark.parametrize(("role", "seed"), [("simulation", 31), ("aggregation", 32), ("inference", 33)])
def test_a_rank_is_lost_before_its_streams_are_open(tmp_path, role, seed):
    rank, ended = hurt(tmp_path / "run", role, signal.SIGKILL, seed, after=begun, within=0.1)
    assert f"rank {rank} " in the_reason(ended)
    assert list((ended.directory / "checkpoints").glob("manifest-*")) == []


@pytest.mark.parametrize("rank", [1, 4])
def test_a_rank_is_lost_before_it_has_its_role(tmp_path, rank):
    directory = tmp_path / "run"
    with start(directory) as process:
        try:
            wait(lambda: (directory / "config.toml").exists() or process.poll() is not None, pause=0.002)
            os.kill(ranks_by_process(directory)[rank], signal.SIGKILL)
            ended = left_by(process, directory)
        finally:
            end(process, directory)
    assert ended.code == 1, ended.err
    reasons = [line for line in ended.err.splitlines() if "the run ends:" in line]
    assert len(reasons) == 1, ended.err
    assert f"rank {rank} " in reasons[0]
    wait(lambda: not ranks_by_process(directory), 15.0)


def test_all_simulations_are_lost(tmp_path):
    directory = tmp_path / "run"
    with start(directory, ("output.progress_interval=0.3",), ("--duration", "60s")) as process:
        try:
            wait(
                lambda: (
                    (running(directory) and any((directory / "checkpoints").glob("manifest-*")))
                    or process.poll() is not None
                )
            )
            for rank in range(3):
                os.kill(ranks_by_process(directory)[rank], signal.SIGKILL)
            ended = left_by(process, directory)
        finally:
            end(process, directory)
    assert "all simulation ranks are lost; ddmd-mpi --resume" in the_reason(ended)
    assert ended.summary["completed"] is False
    assert ended.summary["simulation"]["lost_ranks"] == [0, 1, 2]
    again = resume(directory)
    assert again.code == 0, again.err
    assert problems(directory) == []
