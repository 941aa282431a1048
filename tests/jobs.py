"""Jobs of several ranks: how they are started, and how they are made an end of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


def until(process: subprocess.Popen[str], reached: Callable[[], bool], seconds: float = 90) -> None:
    """Wait for what a run writes."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        if time.monotonic() > deadline:
            kill_session(process.pid)
            raise AssertionError(process.communicate()[0])
        time.sleep(0.1)


def ended(process: subprocess.Popen[str], seconds: float = 90) -> str:
    """What a run has printed; its exit code is in the process."""
    try:
        return process.communicate(timeout=seconds)[0]
    finally:
        kill_session(process.pid)


def summary(directory: Path) -> dict[str, Any]:
    """The summary of a run."""
    return json.loads((directory / "summary.json").read_text())


def ranks(directory: Path, role: str) -> list[int]:
    """Process ids of the ranks of a role."""
    return [r["pid"] for r in json.loads((directory / "environment.json").read_text())["ranks"] if r["role"] == role]
