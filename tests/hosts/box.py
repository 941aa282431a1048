"""A cluster in a box, from Python: hosts made of namespaces (``box.sh``), and jobs of ranks over them."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import pytest
from jobs import kill_session

SCRIPT = Path(__file__).with_name("box.sh")
TOOLS = ("ip", "tc", "nsenter", "unshare")
#: Even an idle job's launcher sends more than this to each of its hosts.
FEW_BYTES = 10_000


def require() -> None:
    """Skip the test with the reason where no hosts can be made; install what is missing where that can be done."""
    if os.getuid() != 0:
        pytest.skip("only root can make hosts of namespaces")
    if not all(map(shutil.which, TOOLS)):
        if shutil.which("apt-get") is None:
            pytest.skip(f"hosts are made by {', '.join(TOOLS)}, and there is no apt-get to install them with")
        for command in (("update",), ("install", "-y", "--no-install-recommends", "iproute2", "util-linux")):
            subprocess.run(
                ["apt-get", "-q", *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                check=False,
            )
    command = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--mount-proc", "ip", "link", "show"]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        pytest.skip(f"hosts of namespaces cannot be made: {error}")
    if tried.returncode:
        pytest.skip(f"hosts of namespaces cannot be made: {tried.stderr.strip()}")


@cache
def open_mpi() -> bool:
    """Whether this environment's MPI is Open MPI; else it is MPICH."""
    found = subprocess.run(["mpiexec", "--version"], env=variables(), capture_output=True, text=True, check=True)
    return "Open MPI" in found.stdout


def variables(**environment: str) -> dict[str, str]:
    """The environment of a job: the programs of this Python come first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environment}


@dataclass(frozen=True)
class Done:
    """What a job has left behind.

    Parameters
    ----------
    code
        Exit code of its launcher.
    out, err
        What was printed.
    n_bytes
        Bytes that each of its hosts has sent and received meanwhile.
    """

    code: int
    out: str
    err: str
    n_bytes: dict[str, int]


class Box:
    """Hosts host1, host2 ..., which end with this object, or with this process.

    Parameters
    ----------
    n_hosts
        Number of hosts.
    """

    def __init__(self, n_hosts: int) -> None:
        self.hosts = tuple(f"host{i + 1}" for i in range(n_hosts))
        self._process = subprocess.Popen(
            [SCRIPT, str(n_hosts)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.directory = Path(_output(self._process).readline().strip())
        assert self.directory.is_absolute(), "the box could not be made"
        unshare = _child(self._process.pid)
        self.first_process = _child(unshare)
        self._jobs: list[subprocess.Popen[str]] = []

    def close(self) -> None:
        """End all processes of all hosts and remove the hosts."""
        self._process.communicate()

    def __enter__(self) -> Box:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def clear(self) -> None:
        """End all jobs, mend all links, lift all limits."""
        for host in self.hosts:
            self.kill(host)
            self.mend(host)
            self.rate(host, None)
        for job in self._jobs:
            kill_session(job.pid)
            job.communicate()
        self._jobs.clear()

    def command(self, host: str, *command: object) -> list[str]:
        """What runs a command on a host."""
        return [*self._enter(), f"{self.directory}/ssh", host, shlex.join(map(str, command))]

    def start(self, host: str, *command: object, **environment: str) -> subprocess.Popen[str]:
        """Start a command on a host, in this directory."""
        job = subprocess.Popen(
            self.command(host, *command),
            env=variables(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._jobs.append(job)
        return job

    def launch(
        self,
        hosts: tuple[str, ...],
        ranks_per_host: int,
        *program: object,
        launch_from: str | None = None,
        **environment: str,
    ) -> subprocess.Popen[str]:
        """Start a program on so many ranks of each of `hosts`, with this environment's MPI, from the first of them."""
        return self.start(launch_from or hosts[0], *launcher(hosts, ranks_per_host), *program, **environment)

    def wait(self, job: subprocess.Popen[str], hosts: tuple[str, ...], timeout: float = 120) -> Done:
        """Wait for the end of a job over hosts; they count their bytes since they were made or cleared."""
        try:
            out, err = job.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            kill_session(job.pid)
            out, err = job.communicate()
            pytest.fail(f"the job was still running after {timeout} s\n{out}\n{err}")
        return Done(job.returncode, out, err, {host: self.bytes(host) for host in hosts})

    def run(
        self,
        hosts: tuple[str, ...],
        ranks_per_host: int,
        *program: object,
        timeout: float = 120,
        check: bool = True,
        **environment: str,
    ) -> Done:
        """Run a program over hosts to its end; unless `check` is off an exit code other than 0 fails the test."""
        before = {host: self.bytes(host) for host in hosts}
        done = self.wait(self.launch(hosts, ranks_per_host, *program, **environment), hosts, timeout)
        n_bytes = {host: done.n_bytes[host] - before[host] for host in hosts}
        assert done.code == 0 or not check, f"exit code {done.code}\n{done.out}\n{done.err}"
        assert len(hosts) == 1 or min(n_bytes.values()) > FEW_BYTES, "the job was not on all of its hosts"
        return Done(done.code, done.out, done.err, n_bytes)

    def bytes(self, host: str) -> int:
        """Bytes that a host has sent and received over its link."""
        return sum(map(int, self._tell("bytes", host).split()))

    def rate(self, host: str, rate: str | None) -> None:
        """Limit a host's link in both directions (``"100mbit"``), or no longer."""
        self._tell("rate", host, rate or "none")

    def cut(self, host: str) -> None:
        """Pull a host's cable out."""
        self._tell("cut", host)

    def mend(self, host: str) -> None:
        """Plug a host's cable in."""
        self._tell("mend", host)

    def kill(self, host: str) -> None:
        """Kill every process of a host."""
        self._tell("kill", host)

    def processes(self, host: str) -> list[int]:
        """The processes of a host, as the hosts number them."""
        return [int(word) for word in self._tell("processes", host).split()]

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self.first_process), "--pid", "--mount", f"--wd={os.getcwd()}"]

    def _tell(self, *words: str) -> str:
        done = subprocess.run(
            [*self._enter(), SCRIPT, *words],
            env={**os.environ, "DDMD_BOX": str(self.directory)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def launcher(hosts: tuple[str, ...], ranks_per_host: int) -> tuple[str, ...]:
    """The command that starts so many ranks on each of `hosts`."""
    n_ranks = str(ranks_per_host * len(hosts))
    if open_mpi():
        places = ",".join(f"{host}:{ranks_per_host}" for host in hosts)
        mapping = ("--map-by", f"ppr:{ranks_per_host}:node:oversubscribe", "--bind-to", "none")
        return ("mpiexec", "--with-ft", "ulfm", "--host", places, *mapping, "-n", n_ranks)
    return ("mpiexec", "-hosts", ",".join(hosts), "-ppn", str(ranks_per_host), "-n", n_ranks)


def _output(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def _child(pid: int) -> int:
    """The only child of a process."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def until(happened, seconds: float = 60) -> None:
    """Wait for what comes to pass."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


@contextlib.contextmanager
def box_of(n_hosts: int) -> Iterator[Box]:
    """A box, or a test that is skipped with the reason."""
    require()
    with Box(n_hosts) as box:
        yield box
