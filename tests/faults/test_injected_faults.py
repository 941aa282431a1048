"""Real jobs whose molecular dynamics breaks, whose readers crawl, whose clocks jump, whose checkpoints are damaged."""

import json
import os
import random
import signal

import numpy as np
import pytest
from checker import problems
from hurt_jobs import (
    MORE,
    REAL_DYNAMICS,
    end,
    hurt,
    left_by,
    nobody_is_left,
    pid_of,
    resume,
    run_to_its_end,
    running,
    start,
    wait,
)
from jobs import kill_session

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(400)]
LONGER = ("--duration", "30s")


@pytest.mark.parametrize("seed", [21, *MORE])
def test_a_signal_at_a_random_moment_ends_the_run_in_order_and_it_goes_on(tmp_path, seed):
    generator = random.Random(seed)
    role = generator.choice(["simulation", "aggregation", "training", "inference"])
    number = generator.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
    _, ended = hurt(tmp_path / "run", role, number, seed, options=("--duration", "60s"))
    assert ended.code == 0, ended.err
    assert ended.summary["completed"] is True
    assert ended.summary["stop_reason"] in (signal.Signals(number).name, "duration")  # it may come as the run ends
    assert problems(ended.directory) == []
    again = resume(ended.directory)
    assert again.code == 0, again.err
    assert problems(ended.directory) == []
    assert again.summary["simulation"]["frames"] > ended.lines("rounds.jsonl")[0]["frames"]


def test_walkers_without_finite_positions_go_back_and_the_run_goes_on(tmp_path):
    sets = (*REAL_DYNAMICS, "simulation.failures_per_walker=10000")
    directory = tmp_path / "run"
    with start(directory, sets, ("--duration", "100s"), fault="nan") as job:
        try:
            wait(lambda: len(list((directory / "failures").glob("sim-*.npz"))) >= 3 or job.poll() is not None)
            os.kill(pid_of(directory, "inference", random.Random(1))[1], signal.SIGTERM)
            ended = left_by(job, directory)
        finally:
            end(job, directory)
    assert ended.code == 0, ended.err
    assert ended.summary["completed"] is True
    assert ended.summary["simulation"]["failures"] >= 3
    assert problems(ended.directory) == []
    remains = sorted((ended.directory / "failures").glob("sim-*.npz"))
    assert len(remains) == ended.summary["simulation"]["failures"]
    reasons = [
        span["reason"]
        for path in (ended.directory / "events").glob("simulation-*.jsonl")
        for span in map(json.loads, path.read_text().splitlines())
        if span["name"] == "segment"
    ]
    assert reasons.count("failure") == len(remains)


def test_readers_ten_times_too_slow_cost_no_simulation_its_time(tmp_path):
    sets = (*REAL_DYNAMICS, "streams.queue_blocks=6", "streams.block_delay=0.1s")
    ended = run_to_its_end(tmp_path / "run", sets, LONGER, fault="slow")
    assert ended.code == 0, ended.err
    summary = ended.summary
    assert summary["completed"] is True
    assert summary["streams"]["dropped_blocks"] > 0
    assert summary["streams"]["max_queue"] <= 6
    assert summary["simulation"]["frames"] == summary["aggregation"]["frames_archived"] > 0
    assert summary["streams"]["io_fraction"]["simulation"] < 0.25  # it would be nearly all of it if they waited
    assert problems(ended.directory) == []


def test_clocks_that_jump_move_nothing_but_the_times_in_the_records(tmp_path):
    ended = run_to_its_end(tmp_path / "run", options=LONGER, fault="clock")
    assert ended.code == 0, ended.err
    assert (ended.summary["completed"], ended.summary["stop_reason"]) == (True, "duration")
    decided = np.diff([line["decided"] for line in ended.lines("checkpoints/sent.jsonl")])
    assert decided.max() > 3000, "the clock of inference has not jumped"
    assert ended.summary["steering"]["delivered"] > 0
    assert ended.summary["wall_s"] < 300
    assert problems(ended.directory) == []
    again = resume(ended.directory)
    assert again.code == 0, again.err
    assert problems(ended.directory) == []


def test_after_a_kill_a_cut_checkpoint_is_passed_over_and_stale_contacts_confuse_nobody(tmp_path):
    directory, contacts = tmp_path / "run", tmp_path / "tmp"
    contacts.mkdir()
    sets = ("run.checkpoint_interval=1", "output.progress_interval=0.3")
    with start(directory, sets, ("--duration", "100s"), TMPDIR=str(contacts)) as job:
        wait(lambda: len(list((directory / "checkpoints").glob("manifest-*"))) >= 2 or job.poll() is not None)
        assert running(directory)
        kill_session(job.pid)
    nobody_is_left(directory)
    assert list(contacts.rglob("*.sst")), "the killed run has left no contact files"
    manifest = max((directory / "checkpoints").glob("manifest-*"))
    part = directory / "checkpoints" / json.loads(manifest.read_text())["parts"][0]["file"]
    part.write_bytes(part.read_bytes()[:-100])
    assert problems(directory, ended=False) == []
    again = resume(directory, TMPDIR=str(contacts))
    assert again.code == 0, again.err
    assert f"{part} has" in again.err
    assert again.summary["sessions"] == 2
    assert problems(directory) == []
