"""A Slurm of a test's own, in a temporary directory: two nodes on this machine, or the hosts of a box."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

DAEMONS = ("slurmctld", "slurmd")
# All other states (PENDING, RUNNING, SIGNALING, COMPLETING ...) are left again.
FINAL_STATES = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "TIMEOUT",
)
CONF = """ClusterName=test
SlurmctldHost={controller}
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=5
InactiveLimit=0
MinJobAge=600
OverTimeLimit=0
SchedulerParameters=sched_interval=1,sched_min_interval=0
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/%n.log
{nodes}
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def install() -> None:
    """Install Slurm where that can be done, else skip the test with the reason."""
    if os.getuid() != 0:
        pytest.skip("Slurm's daemons are started by root only")
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    if all(map(shutil.which, (*DAEMONS, "sbatch"))):
        return
    if shutil.which("apt-get") is None:
        pytest.skip("there is no Slurm, and no apt-get to install it with")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (("update",), ("install", "-y", "--no-install-recommends", "slurm-wlm")):
        done = subprocess.run(["apt-get", "-q", *command], env=quiet, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"Slurm cannot be installed: {done.stderr[-300:]}")


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on, so that the daemons of a test that was killed do not disturb."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass(frozen=True)
class Node:
    """A node of eight CPUs, whatever its machine has.

    Parameters
    ----------
    name
        Its name in Slurm.
    host, address, port
        The machine that it is on, and where its daemon listens.
    enter
        What runs a command there: words before it.
    """

    name: str
    host: str
    address: str
    port: int
    enter: Callable[..., Sequence[str]] = lambda *command: command


class Cluster:
    """Nodes and a controller on the first one's machine."""

    def __init__(self, directory: Path, nodes: Sequence[Node], port: int):
        self.directory = directory
        self.nodes = tuple(nodes)
        self.port = port
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "SLURM_CONF": str(directory / "slurm.conf")}

    def start(self) -> None:
        """Start the daemons and wait until all nodes are idle."""
        first = self.nodes[0]
        lines = [
            f"NodeName={n.name} NodeHostname={n.host} NodeAddr={n.address} Port={n.port} CPUs=8 State=UNKNOWN"
            for n in self.nodes
        ]
        for name in ("state", *(node.name for node in self.nodes)):
            (self.directory / name).mkdir()
        (self.directory / "slurm.conf").write_text(
            CONF.format(
                controller=f"{first.host}({first.address})",
                port=self.port,
                directory=self.directory,
                nodes="\n".join(lines),
            )
        )
        self._daemon(first, "slurmctld", "-D")
        for node in self.nodes:
            self._daemon(node, "slurmd", "-D", "-N", node.name)
        deadline = time.monotonic() + 60
        while self("sinfo", "-h", "-o", "%T %D", check=False).split() != ["idle", str(len(self.nodes))]:
            if time.monotonic() > deadline:
                raise TimeoutError((self.directory / "daemons.log").read_text()[-3000:])
            time.sleep(0.2)

    def _daemon(self, node: Node, *command: str) -> None:
        with open(self.directory / "daemons.log", "ab") as log:
            self.daemons.append(
                subprocess.Popen(
                    node.enter(*command),
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )

    def stop(self) -> None:
        """Cancel the jobs and end the daemons, and whoever else has this cluster's configuration in its environment."""
        if self.daemons:
            self("scancel", "--signal=KILL", "--full", "--user=root", check=False)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        mark = f"SLURM_CONF={self.directory}/slurm.conf".encode()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int(path.name) != os.getpid() and mark in (path / "environ").read_bytes().split(b"\0"):
                    os.kill(int(path.name), signal.SIGKILL)

    def __call__(self, *command: object, check: bool = True, **environment: str) -> str:
        """What one of Slurm's commands prints."""
        words = self.nodes[0].enter(*map(str, command))
        variables = {**self.environment, **environment}
        done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stderr}")
        return done.stdout

    def state(self, job: str) -> dict[str, str]:
        """What the controller knows of a job: ``JobState``, ``ExitCode``, ``EndTime`` ..."""
        words = self("scontrol", "show", "-o", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def has_ended(self, job: str) -> bool:
        """Whether the job's state is final."""
        return self.state(job)["JobState"] in FINAL_STATES

    def ended(self, job: str, seconds: float = 150.0) -> dict[str, str]:
        """The job's state once it has ended."""
        deadline = time.monotonic() + seconds
        while (state := self.state(job))["JobState"] not in FINAL_STATES:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{state}")
            time.sleep(0.3)
        return state


@contextlib.contextmanager
def slurm(directory: Path, nodes: Sequence[Node] = ()) -> Iterator[Cluster]:
    """A cluster that is ended whatever happens: of these nodes, else of two on this machine."""
    install()
    host, (port, *ports) = socket.gethostname().split(".")[0], free_ports(3)
    here = [Node(f"node{i + 1}", host, "127.0.0.1", number) for i, number in enumerate(ports)]
    cluster = Cluster(directory, nodes or here, port)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
