"""A steered run on 4 ranks whose walkers a program moves: a child ends on purpose, then the run, and it is resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from checker import lines, problems
from jobs import ended, kill_session, ranks, start, summary, until
from programs import ROOT

SETTINGS = (
    "simulation.walkers_per_rank=2",
    "simulation.minimize_iterations=50",
    "simulation.report_interval_ps=0.08",
    "simulation.segment_ps=0.8",
    "training.model=pca",
    "training.first_frames=16",
    "run.checkpoint_interval=3",
    "output.progress_interval=0.3",
)
#: A wait that a busy machine does not end.
PATIENCE_SECONDS = 300
FAILURE_SECONDS = 20


class Sessions(NamedTuple):
    """The run directory; which children outlived a killed run; exit code and words of the resumed one."""

    directory: Path
    survivors: list[int]
    code: int
    printed: str


def children(rank: int, program: str) -> list[int]:
    """The processes of a program that a rank has started and that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, fields = stat.read_text().rsplit(")", 1)
        except OSError:
            continue
        if int(fields.split()[1]) == rank and name.endswith(f"({program}") and fields.split()[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def signalled(rank: int, program: str, how: signal.Signals) -> bool:
    """Send a signal to a child, if there is one at the moment."""
    for child in children(rank, program)[:1]:
        with suppress(ProcessLookupError):
            os.kill(child, how)
            return True
    return False


def failed(directory: Path) -> bool:
    """Whether a walker fails within a while; a child that a restart was about to end anyway does not count."""
    deadline = time.monotonic() + FAILURE_SECONDS
    while not (found := list((directory / "failures").glob("*.npz"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(found)


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def newest(checkpoints: Path) -> int:
    """The number of the newest complete checkpoint, 0 if there is none."""
    return max((int(path.stem.split("-")[1]) for path in checkpoints.glob("manifest-*")), default=0)


def initialised(directory: Path, engine: str, topology: Path, coordinates: Path, *options: object) -> Path:
    """The config that ``ddmd-mpi init`` writes for CLN025 in files of an engine."""
    files = ("--topology", topology, "--coordinates", coordinates, "--target", ROOT / "inputs" / "cln025-target.pdb")
    command = [sys.executable, "-m", "ddmd_mpi", "init", directory, "--engine", engine, *files, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return directory / "config.toml"


def ended_and_resumed(config: Path, program: str, how: signal.Signals, *settings: str) -> Sessions:
    """Run `config`, end a child of the name `program` with a signal, kill the run, and resume it."""
    directory = config.parent / "run"
    decisions, manifests = directory / "decisions.jsonl", directory / "checkpoints"
    options = ("--config", config, "--duration", "20min", "--output", directory)
    first = start(4, *options, *(f"--set={s}" for s in (*SETTINGS, *settings)))
    until(first, lambda: any(d["outcome"] == "applied" for d in lines(decisions)), PATIENCE_SECONDS)
    (rank,) = ranks(directory, "simulation")
    until(first, lambda: signalled(rank, program, how) and failed(directory), PATIENCE_SECONDS)
    # The next checkpoint may have begun before the failure; the one after it has not.
    later = newest(manifests) + 2
    until(first, lambda: newest(manifests) >= later, PATIENCE_SECONDS)
    left: list[int] = []
    until(first, lambda: left.extend(children(rank, program)) or left, PATIENCE_SECONDS)
    kill_session(first.pid)
    ended(first, PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (survivors := [pid for pid in left if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    second = start(4, "--resume", directory, "--duration", "15s", "--set=run.drain=200s")
    printed = ended(second, PATIENCE_SECONDS)
    return Sessions(directory, survivors, second.returncode, printed)


def check_one_failure(sessions: Sessions, said: str) -> None:
    """One walker has failed, the log says why, and the walker has continued."""
    directory = sessions.directory
    assert said in "".join(path.read_text() for path in (directory / "logs").iterdir())
    failures = [e for e in events(directory) if e.get("reason") == "failure"]
    assert len(failures) == 1
    later = [e for e in events(directory) if e["name"] == "segment" and e["walker"] == failures[0]["walker"]]
    assert max(e["segment"] for e in later) > failures[0]["segment"]


def events(directory: Path) -> list[dict]:
    """Spans of the simulation ranks."""
    return [
        json.loads(x) for p in (directory / "events").glob("simulation-*.jsonl") for x in p.read_text().splitlines()
    ]


def check_resumed(sessions: Sessions) -> None:
    """The resumed run has completed, and nothing is lost or left."""
    directory = sessions.directory
    assert sessions.code == 0, sessions.printed
    assert problems(directory) == []
    found = summary(directory)
    assert (found["completed"], found["sessions"], found["simulation"]["walkers"]) == (True, 2, 2)
    assert found["simulation"]["failures"] >= 1
    assert found["steering"]["delivered"] >= 1
    assert found["steering"]["latency_ms"]["p50"] > 0
    assert not list((directory / "scratch").iterdir())
