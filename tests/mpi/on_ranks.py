"""Test functions that run on ranks: one mpiexec runs all those of a module, and each passes or fails by its name."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from jobs import RANKS, kill_session

RUNNER = Path(__file__).with_name("run_functions.py")
#: For mpiexec, for imports, and for the end of ranks that have said where they hang.
START_SECONDS = 60
#: What the runner gives to a function.
GIVEN = ("comm", "directory")


def on_ranks(*sizes: int, seconds: float = 120, **environment: str) -> Callable[[Callable[..., None]], Any]:
    """Let a test function run on ranks, once for each number of them.

    Parameters
    ----------
    sizes
        Numbers of ranks; none if the test has a parameter `n` of its own.
    seconds
        A rank that takes longer says where it is, and ends all.
    environment
        Variables of the ranks. Functions with the same ones share a job.

    Notes
    -----
    The function is given `comm`, the communicator of its ranks; `directory`, a new one that all see, if it has such a
    parameter; and what ``pytest.mark.parametrize`` adds, which must be JSON.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        def test(request: pytest.FixtureRequest, jobs: Jobs, **parameters: Any) -> None:
            jobs.result(request.node)

        own = [name for name in inspect.signature(function).parameters if name not in (*GIVEN, "n")]
        test.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("request", "jobs", "n", *own)]
        )
        test.__name__, test.__doc__, test.__module__ = function.__name__, function.__doc__, function.__module__
        test.function, test.sizes = function, sizes  # type: ignore[attr-defined]
        test.seconds, test.environment = seconds, environment  # type: ignore[attr-defined]
        return pytest.mark.mpi(pytest.mark.timeout(seconds + 2 * START_SECONDS)(test))

    return decorate


def call_of(item: pytest.Function) -> dict[str, Any]:
    """What the runner must know of a test."""
    parameters = dict(item.callspec.params)
    del parameters["n"]
    seconds = item.function.seconds
    return {"name": item.name, "function": item.originalname, "parameters": parameters, "seconds": seconds}


def kind(item: pytest.Function) -> tuple[str, dict[str, str], int] | None:
    """What tests of one job have in common: module, environment, number of ranks; None for a test without ranks."""
    if not hasattr(item.function, "sizes"):
        return None
    return str(item.path), item.function.environment, item.callspec.params["n"]


class Jobs:
    """The jobs of a module, each with the tests of one kind.

    Parameters
    ----------
    directory
        A new one.
    items
        The tests that are to run, in order.
    """

    def __init__(self, directory: Path, items: Sequence[pytest.Function]) -> None:
        self.directory, self.items = directory, items
        self.job: Job | None = None
        self.n_jobs = 0

    def result(self, item: pytest.Function) -> None:
        """Wait for the end of a test on its ranks; a failure is one here."""
        if self.job is None or not self.job.is_to_run(item.name):
            self.free()
            alike = [i for i in self.items[self.items.index(item) :] if kind(i) == kind(item)]
            self.n_jobs += 1
            self.job = Job(self.directory / str(self.n_jobs), item.path, alike)
        self.job.wait(item.name, item.function.seconds + START_SECONDS)

    def free(self) -> None:
        """End what still runs."""
        if self.job is not None:
            self.job.free()


class Job:
    """One mpiexec with some tests, which run in order until one fails.

    Parameters
    ----------
    directory
        A new one.
    module
        The file of the tests.
    items
        The tests.
    """

    def __init__(self, directory: Path, module: Path, items: Sequence[pytest.Function]) -> None:
        directory.mkdir()
        calls = [call_of(item) for item in items]
        (directory / "calls.json").write_text(json.dumps(calls))
        self.directory, self.names = directory, [item.name for item in items]
        command = [RANKS, items[0].callspec.params["n"], sys.executable, "-m", "mpi4py", RUNNER, module, directory]
        variables = {"DDMD_MPI_BIN": str(Path(sys.executable).parent), **items[0].function.environment}
        with (directory / "printed").open("w") as printed:
            self.process = subprocess.Popen(
                list(map(str, command)),
                env={**os.environ, **variables},
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def passed(self) -> list[str]:
        """Names of the tests that have passed."""
        path = self.directory / "passed"
        return path.read_text().splitlines() if path.exists() else []

    def is_to_run(self, name: str) -> bool:
        """Whether a test has passed, or runs, or will, or was the one that ended the job."""
        return name in self.names[: len(self.passed()) + 1] or (self.process.poll() is None and name in self.names)

    def wait(self, name: str, seconds: float) -> None:
        """Wait until a test has passed; after the last one, until the ranks have ended well, too."""
        deadline, last = time.monotonic() + seconds, name == self.names[-1]
        while (self.process.poll() is None) and (last or name not in self.passed()):
            if time.monotonic() > deadline:
                self.free()
                pytest.fail(f"{name} still ran after {seconds} s\n{self.printed()}")
            time.sleep(0.05)
        if name not in self.passed() or (last and self.process.returncode != 0):
            pytest.fail(f"{name}: the ranks ended with exit code {self.process.wait()}\n{self.printed()}")

    def printed(self) -> str:
        """What the ranks have said."""
        return (self.directory / "printed").read_text(errors="replace")

    def free(self) -> None:
        """End what still runs."""
        kill_session(self.process.pid)
        self.process.wait()
