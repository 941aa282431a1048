"""A steered run that is watched: by its rank's port, with velocities, and by a process that follows its files."""

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import MDAnalysis
import numpy as np
import pytest
from checker import lines, written
from imdclient.IMDClient import IMDClient
from jobs import ended, start, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

WALKERS = 4
SETTINGS = (
    "simulation.engine=emulated",
    "emulation.report_seconds=0.2",
    "simulation.report_interval_ps=4",
    "simulation.segment_ps=400",
    "simulation.walkers_per_rank=4",
    "steering.round_reports=5",
    "training.model=pca",
    "run.drain=200",
    "output.progress_interval=0.3",
)
FRAMES = 12


def free_ports(n):
    """The first of so many ports that are free now, one after the other."""
    for port in range(21_000, 32_000, n):
        try:
            for i in range(n):
                socket.create_server(("127.0.0.1", port + i)).close()
        except OSError:
            continue
        return port
    raise AssertionError("no ports are free")


@pytest.fixture
def handlers():
    """imdclient sets handlers of signals."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_each_walker_is_watched_across_its_restarts(tmp_path, handlers):
    directory, port = tmp_path / "run", free_ports(WALKERS)
    options = ("--usecase", "bba-go", "--duration", "20min", "--output", directory)
    run = start(4, *options, *(f"--set={s}" for s in (*SETTINGS, f"output.imd_port={port}")))
    decisions = directory / "decisions.jsonl"
    until(run, lambda: (directory / "status.json").exists())
    until(run, lambda: len(written(directory)) == WALKERS)
    n_atoms = len(MDAnalysis.Universe(directory / "topology" / "bba-go.pdb").atoms)
    served = [IMDClient("127.0.0.1", port + walker, n_atoms) for walker in range(WALKERS)]
    command = [sys.executable, "-m", "ddmd_mpi", "watch", str(directory), "--walker", "1", "--port", "0"]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    address = follower.stdout.readline().split()[-1]
    assert address.startswith("imd://127.0.0.1:")
    universe = MDAnalysis.Universe(directory / "topology" / "bba-go.pdb", address)
    followed = {}

    def follow():
        for step in universe.trajectory:
            followed[round(step.time, 3)] = step.positions.copy()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    # Every walker goes on to be seen after one of them has been restarted.
    until(run, lambda: any(d["outcome"] == "applied" for d in lines(decisions)))
    seen = [[client.next() for _ in range(FRAMES)] for client in map(Copies, served)]
    until(run, lambda: len(followed) >= FRAMES, 200)
    run.send_signal(signal.SIGTERM)
    printed = ended(run, 200)
    assert run.returncode == 0, printed
    thread.join(60)
    assert "The run has ended." in follower.communicate(timeout=60)[0]
    for walker in range(WALKERS):
        check(directory, walker, {round(time, 3): x for time, x in seen[walker]}, FRAMES)
    check(directory, 1, followed, FRAMES)


class Copies:
    """imdclient uses its arrays again."""

    def __init__(self, client):
        self.client = client

    def next(self):
        found = self.client.get_imdframe()
        assert np.isfinite(found.velocities).all()
        return found.time, found.positions.copy()


def check(directory: Path, walker, found, at_least):
    """Every frame that was seen is one of the trajectory, at its time, and they follow each other."""
    # The frame that a restarted segment starts from has the time of the frame before it; `watch` alone sends it.
    index = {}
    for frame, _, time, _ in written(directory)[walker]:
        index.setdefault(round(time, 3), []).append(int(frame))
    trajectory = MDAnalysis.Universe(
        directory / "topology" / "bba-go.pdb", directory / "trajectories" / f"sim-{walker:04d}.dcd"
    ).trajectory
    assert len(found) >= at_least
    for time, positions in found.items():
        assert min(np.abs(positions - trajectory[i].positions).max() for i in index[time]) < 2e-3
