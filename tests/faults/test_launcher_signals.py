"""Signals to the script that has started a run, and Ctrl-C, which goes to its whole process group."""

import os
import signal
import subprocess
import time

import pytest
from hurt_jobs import end, left_by, nobody_is_left, running, start, wait
from jobs import RANKS

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(400)]


def tell(directory, number, to):
    """What a job has left behind that was sent a signal."""
    with start(directory, options=("--duration", "100s")) as process:
        try:
            wait(lambda: running(directory) or process.poll() is not None)
            to(process.pid, number)
            return left_by(process, directory)
        finally:
            end(process, directory)


@pytest.mark.parametrize(
    ("number", "to"),
    [
        (signal.SIGTERM, os.kill),
        (signal.SIGINT, os.kill),
        (signal.SIGTERM, os.killpg),
        (signal.SIGINT, os.killpg),
        (signal.SIGUSR1, os.kill),
    ],
)
def test_a_run_stops_in_order_by_a_signal_to_its_launcher(tmp_path, number, to):
    ended = tell(tmp_path / "run", number, to)
    assert ended.code == 0, ended.err
    assert ended.summary["completed"] is True
    assert ended.summary["stop_reason"] == number.name
    assert "lost" not in ended.err
    nobody_is_left(ended.directory)


def test_a_second_signal_ends_it_at_once(tmp_path):
    directory = tmp_path / "run"
    with start(
        directory,
        (
            "training.model=pca",
            "training.first_frames=64",
            "run.drain=60",
            "run.margin=60",
            "emulation.training_seconds=100",
        ),
        ("--duration", "100s"),
    ) as process:
        try:
            wait(lambda: running(directory) or process.poll() is not None)
            os.kill(process.pid, signal.SIGTERM)
            time.sleep(1.5)  # sooner it would be taken for an echo
            os.kill(process.pid, signal.SIGTERM)
            ended = left_by(process, directory)
        finally:
            end(process, directory)
    assert ended.code != 0
    assert ended.seconds_after < 30
    nobody_is_left(directory)


def test_files_of_a_launch_are_apart_from_those_of_others_and_go_with_it(tmp_path):
    """What a killed mpiexec of Open MPI leaves behind stops a later one with the same process id from starting."""
    shown = subprocess.run(
        [RANKS, "1", "sh", "-c", "echo $PMIX_SERVER_TMPDIR"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ).stdout.strip()
    if not shown:
        pytest.skip("this MPI keeps no files of a launch")
    assert shown.startswith(f"{tmp_path}/ddmd-mpi-")
    assert list(tmp_path.iterdir()) == []
