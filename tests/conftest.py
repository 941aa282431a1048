"""What all tests share: ranks under the MPI of this environment."""

from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from deal import Deal
from jobs import RANKS, kill_session

# Whatever is started in the background of a shell ignores SIGINT, and so would the jobs of these tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Deal | None:
    """What ``--dist loadscope`` means here."""
    return Deal(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Leave the program's log to the next test as it was."""
    log = logging.getLogger("ddmd_mpi")
    handlers, level, propagate = list(log.handlers), log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = handlers, level, propagate


@pytest.fixture(scope="session")
def mpiexec() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``mpiexec(n, program, *args, timeout=120, check=True, **environment)`` runs a Python program on n ranks.

    `program` is a script (a rank that raises ends them all) or "-m", of a module that sees to that itself. It returns
    the CompletedProcess; with `check` (the default) an exit code other than 0 fails the test and shows what the ranks
    said. At the timeout every process it started is killed.
    """
    return start_ranks


@pytest.fixture
def limited() -> Callable[[int], AbstractContextManager[None]]:
    """``with limited(n_bytes):`` no file of this process can grow above a size, as on a disk that is full."""

    @contextmanager
    def limit(n_bytes: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


def start_ranks(
    n: int, program: Path | str, *args: object, timeout: float = 120.0, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    runner = [] if program == "-m" else ["-m", "mpi4py"]
    command = [str(RANKS), str(n), sys.executable, *runner, str(program), *map(str, args)]
    variables = {**os.environ, "DDMD_MPI_BIN": str(Path(sys.executable).parent), **environment}
    process = subprocess.Popen(
        command,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_session(process.pid)
        out, err = process.communicate()
        pytest.fail(f"{program} on {n} ranks was still running after {timeout} s\n{out}\n{err}")
    finally:
        kill_session(process.pid)
    if check and process.returncode != 0:
        pytest.fail(f"{program} on {n} ranks ended with exit code {process.returncode}\n{out}\n{err}")
    return subprocess.CompletedProcess(command, process.returncode, out, err)
