"""A study of real runs that is killed after its first trial, and run again."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1200)]

STUDY = """
systems = ["bba-go-markov"]
arms = ["none", "greedy"]
seeds = 2
aggregate_ns = 1.44
ranks = 2

[settings]
run.mode = "file"
training.model = "none"
simulation.walkers_per_rank = 6
"""
NAMES = [f"bba-go-markov, arm {arm}, seed {seed}" for seed in (1, 2) for arm in ("none", "greedy")]


def finished(output):
    """Inodes of the summaries of the trials that have completed."""
    found = {path: path.read_text() for path in output.glob("trials/*/*/*/run/summary.json")}
    return {path: path.stat().st_ino for path, text in found.items() if '"completed": true' in text}


def test_a_killed_study_repeats_no_finished_trial(tmp_path):
    file, output = tmp_path / "small.toml", tmp_path / "out"
    file.write_text(STUDY)
    command = [sys.executable, "-m", "ddmd_mpi", "study", str(file), "--output", str(output)]
    with (tmp_path / "printed").open("w") as printed:
        first = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 400
        while not finished(output):
            assert first.poll() is None, (tmp_path / "printed").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    before = finished(output)
    assert 1 <= len(before) < 4

    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=700)
    assert again.returncode == 0, again.stdout + again.stderr
    after = finished(output)
    assert len(after) == 4
    assert before.items() <= after.items()
    begun = [name for name in NAMES if f"{name}: " in again.stdout]
    assert NAMES[0] not in begun
    with (output / "trials.csv").open() as rows:
        trials = list(csv.DictReader(rows))
    assert [(t["arm"], t["seed"]) for t in trials] == [("none", "1"), ("none", "2"), ("greedy", "1"), ("greedy", "2")]
    assert {t["steps"] for t in trials} == {"72000"}
    assert {t["walkers"] for t in trials} == {"12"}
    assert all(0 < float(t["coverage_half"]) < float(t["coverage"]) < 1 for t in trials)
    assert all(int(t["restarts"]) > 0 for t in trials if t["arm"] == "greedy")
    assert (output / "study.html").read_text().count("data:image/png;base64,") == 3

    third = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert third.returncode == 0
    assert "4  finished" in third.stdout
    assert finished(output) == after


def test_a_misspelt_arm_is_one_sentence_before_any_trial(tmp_path):
    file, output = tmp_path / "small.toml", tmp_path / "out"
    file.write_text(STUDY.replace('"greedy"', '"gredy"'))
    command = [sys.executable, "-m", "ddmd_mpi", "study", str(file), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"ddmd-mpi: {file}: arm gredy is not a strategy and has no table [arm.gredy]: did you mean greedy?"
    ]
    assert not output.exists()
