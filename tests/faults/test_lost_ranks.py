"""A rank of a real job is killed, or stops, at a random moment: what is promised of each role."""

import signal

import pytest
from checker import problems
from hurt_jobs import MORE, REAL_DYNAMICS, has_checkpoint, has_gone_on, hurt, nobody_is_left, resume

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(400)]


@pytest.mark.parametrize(
    ("number", "sets", "seed"),
    [
        (signal.SIGKILL, REAL_DYNAMICS, 1),
        (signal.SIGKILL, ("streams.first_hop=mpi",), 2),
        (signal.SIGSTOP, (), 3),
        *((signal.SIGKILL, (), seed) for seed in MORE),
    ],
)
def test_the_run_goes_on_without_a_lost_simulation(tmp_path, number, sets, seed):
    long = ("--duration", "200s")
    rank, ended = hurt(tmp_path / "run", "simulation", number, seed, sets=sets, options=long, enough=has_gone_on)
    assert ended.code == 0, ended.err
    summary = ended.summary
    assert summary["completed"] is True
    assert summary["simulation"]["lost_ranks"] == [rank]
    assert summary["simulation"]["lost_walkers"] == [2 * rank, 2 * rank + 1]
    assert f"rank {rank} (simulation" in ended.err
    others = [line for line in ended.lines("decisions.jsonl") if line["outcome"] == "applied"]
    assert others
    undelivered = [line for line in ended.lines("decisions.jsonl") if line["outcome"] == "undelivered"]
    lost = set(summary["simulation"]["lost_walkers"])
    assert len([line for line in undelivered if line["walker"] in lost]) <= 2
    assert problems(ended.directory, lost=lost) == []
    nobody_is_left(ended.directory)


@pytest.mark.parametrize(
    ("role", "number", "seed"),
    [
        ("aggregation", signal.SIGKILL, 4),
        ("training", signal.SIGKILL, 5),
        ("inference", signal.SIGKILL, 6),
        ("training", signal.SIGSTOP, 7),
        *(("inference", signal.SIGKILL, seed) for seed in MORE),
        *(("training", signal.SIGKILL, seed) for seed in MORE),
        *(("aggregation", signal.SIGKILL, seed) for seed in MORE),
    ],
)
def test_the_run_ends_with_one_reason_where_it_cannot_go_on(tmp_path, role, number, seed):
    rank, ended = hurt(
        tmp_path / "run",
        role,
        number,
        seed,
        sets=("run.checkpoint_interval=1",),
        options=("--duration", "60s"),
        after=has_checkpoint,
    )
    assert ended.code == 1, ended.out
    assert ended.seconds_after < 60
    reasons = [line for line in ended.err.splitlines() if "the run ends:" in line]
    assert len(reasons) == 1, ended.err
    assert f"rank {rank} ({role}" in reasons[0]
    nobody_is_left(ended.directory)
    assert f"ddmd-mpi --resume {ended.directory} resumes" in reasons[0]
    assert problems(ended.directory, ended=False) == []
    before = [line["decision"] for line in ended.lines("decisions.jsonl")]
    again = resume(ended.directory)
    assert again.code == 0, again.err
    assert again.summary["completed"] is True
    assert [line["decision"] for line in again.lines("decisions.jsonl")][: len(before)] == before
    assert problems(ended.directory) == []


def test_in_file_mode_every_rank_is_needed(tmp_path):
    rank, ended = hurt(
        tmp_path / "run", "simulation", signal.SIGKILL, 8, options=("--mode", "file", "--duration", "60s")
    )
    assert ended.code == 1, ended.out
    assert f"rank {rank} (simulation" in ended.err
    nobody_is_left(ended.directory)
