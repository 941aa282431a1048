"""A Slurm of this test's own: a controller and two nodes, all on this machine, in a temporary directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

DAEMONS = ("slurmctld", "slurmd")
CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
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
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 State=UNKNOWN
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 State=UNKNOWN
PartitionName=test Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
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


class Cluster:
    """Two nodes of eight CPUs each, whatever the machine has."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "SLURM_CONF": str(directory / "slurm.conf")}

    def start(self) -> None:
        """Start the daemons and wait until both nodes are idle."""
        host = socket.gethostname().split(".")[0]
        for name in ("state", "node1", "node2"):
            (self.directory / name).mkdir()
        conf = CONF.format(host=host, ports=free_ports(3), directory=self.directory)
        (self.directory / "slurm.conf").write_text(conf)
        for command in (("slurmctld", "-D"), ("slurmd", "-D", "-N", "node1"), ("slurmd", "-D", "-N", "node2")):
            with open(self.directory / "daemons.log", "ab") as log:
                self.daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log,
                                                     stdin=subprocess.DEVNULL, start_new_session=True))
        deadline = time.monotonic() + 30
        while self("sinfo", "-h", "-o", "%T %D", check=False).split() != ["idle", "2"]:
            if time.monotonic() > deadline:
                raise TimeoutError((self.directory / "daemons.log").read_text()[-3000:])
            time.sleep(0.2)

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
        done = subprocess.run([str(c) for c in command], env={**self.environment, **environment}, capture_output=True,
                              text=True, timeout=60, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stderr}")
        return done.stdout

    def state(self, job: str) -> dict[str, str]:
        """What the controller knows of a job: ``JobState``, ``ExitCode``, ``EndTime`` ..."""
        words = self("scontrol", "show", "-o", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def ended(self, job: str, seconds: float = 150.0) -> dict[str, str]:
        """The job's state once it has ended."""
        deadline = time.monotonic() + seconds
        while (state := self.state(job))["JobState"] in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{state}")
            time.sleep(0.3)
        return state


@contextlib.contextmanager
def slurm(directory: Path):
    """A cluster that is ended whatever happens."""
    install()
    cluster = Cluster(directory)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
