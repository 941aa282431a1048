"""Jobs of several ranks: how they are started, and how they are made an end of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RANKS = Path(__file__).parent.parent / "jobscripts" / "ranks.sh"


def kill_session(session: int) -> None:
    """Kill every process of a session: mpiexec gives its ranks process groups of their own."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.getsid(int(entry.name)) == session:
                os.kill(int(entry.name), signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def start(n_ranks: int, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """The program on this many ranks, in a session of its own."""
    command = [str(RANKS), str(n_ranks), sys.executable, "-m", "ddmd_mpi", *map(str, arguments)]
    variables = {**os.environ, "DDMD_MPI_BIN": str(Path(sys.executable).parent), **environment}
    return subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def until(process: subprocess.Popen[str], reached: Callable[[], object], seconds: float = 200) -> None:
    """Wait for what a run writes."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        if time.monotonic() > deadline:
            kill_session(process.pid)
            raise AssertionError(process.communicate()[0])
        time.sleep(0.1)


def ended(process: subprocess.Popen[str], seconds: float = 200) -> str:
    """What a run has printed; its exit code is in the process."""
    try:
        return process.communicate(timeout=seconds)[0]
    finally:
        kill_session(process.pid)


def stopped(
    n_ranks: int,
    directory: Path,
    *arguments: object,
    enough: Callable[[], object],
    sets: Sequence[str] = (),
    seconds: float = 200,
) -> str:
    """Run the program until it has done enough, then tell it to stop; what it printed. A good end is asserted."""
    given = (f"--set={s}" for s in sets)
    process = start(n_ranks, *arguments, "--duration", "20min", "--output", directory, *given)
    until(process, lambda: (directory / "environment.json").exists() and enough(), seconds)
    os.kill(ranks(directory, "inference")[0], signal.SIGTERM)
    printed = ended(process)
    assert process.returncode == 0, printed
    assert (summary(directory)["completed"], summary(directory)["stop_reason"]) == (True, "SIGTERM"), printed
    return printed


def versions(directory: Path) -> int:
    """How many versions of its model a run has published."""
    return len(list((directory / "models").glob("v*/metadata.json")))


def restarts(directory: Path) -> int:
    """How many restarts a run has applied."""
    path = directory / "decisions.jsonl"
    whole = path.read_text().split("\n")[:-1] if path.exists() else []
    return sum(json.loads(line)["outcome"] == "applied" for line in whole)


def summary(directory: Path) -> dict[str, Any]:
    """The summary of a run."""
    return json.loads((directory / "summary.json").read_text())


def ranks(directory: Path, role: str) -> list[int]:
    """Process ids of the ranks of a role."""
    return [r["pid"] for r in json.loads((directory / "environment.json").read_text())["ranks"] if r["role"] == role]
