"""Runs of ddmd-mpi over the hosts of a box, each of which must have been on all of its hosts and on the wire."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from box import FEW_BYTES, Box, Done
from checker import lines
from jobs import until

#: Hops between roles, by the names that summary.json gives them.
HOPS = {
    "SimulationOutput": ("simulation", "aggregation"),
    "AggregatorToTraining": ("aggregation", "training"),
    "AggregatorToInference": ("aggregation", "inference"),
    "TrainingToInference": ("training", "inference"),
}
#: The fast engine, no model: what a run over hosts can do without.
QUICK = (
    "training.model=none",
    "steering.strategy=greedy",
    "simulation.walkers_per_rank=4",
    "simulation.report_interval_ps=4",
    "simulation.segment_ps=40",
    "run.drain=15",
)
#: Of a run that is ended when it has done enough, however slow the machine.
LIMIT = "220s"


@dataclass(frozen=True)
class Run:
    """What a run over hosts has written.

    Parameters
    ----------
    directory
        Its directory.
    """

    directory: Path

    @property
    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        return json.loads((self.directory / "summary.json").read_text())

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The records of a file of JSON lines."""
        return lines(self.directory / name)

    def hosts(self, role: str) -> list[str]:
        """The host of each rank of a role."""
        return [rank["host"] for rank in ranks(self.directory) if rank["role"] == role]

    def restarted(self) -> Counter[str]:
        """How many restarts were applied on each host."""
        host_of = self.hosts_of_walkers()
        return Counter(host_of[d["walker"]] for d in self.lines("decisions.jsonl") if d["outcome"] == "applied")

    def frames(self) -> Counter[str]:
        """How many frames were simulated on each host."""
        found: Counter[str] = Counter()
        for walker, host in enumerate(self.hosts_of_walkers()):
            index = self.directory / "trajectories" / f"sim-{walker:04d}.frames.csv"
            found[host] += len(index.read_text().splitlines()) - 1
        return found

    def hosts_of_walkers(self) -> list[str]:
        """The host of each walker: ranks of simulation have even shares, in order."""
        hosts, n_walkers = self.hosts("simulation"), len(list((self.directory / "trajectories").glob("*.frames.csv")))
        return [hosts[((walker + 1) * len(hosts) - 1) // n_walkers] for walker in range(n_walkers)]

    def n_bytes_between_hosts(self) -> int:
        """Bytes of the hops whose writers and readers have no host in common."""
        by_hop = self.summary["streams"]["bytes_by_hop"]
        return sum(
            by_hop[hop]
            for hop, (writer, reader) in HOPS.items()
            if not set(self.hosts(writer)) & set(self.hosts(reader))
        )

    def shows(self, name: str) -> Any:
        """What the live view shows, None as long as it does not."""
        try:
            return json.loads((self.directory / "status.json").read_text()).get(name)
        except (OSError, ValueError):
            return None


@dataclass(frozen=True)
class Ended(Run):
    """A run that has ended.

    Parameters
    ----------
    done
        What its launcher has left behind.
    """

    done: Done

    @property
    def said(self) -> str:
        """All that was printed."""
        return self.done.out + self.done.err


class Job:
    """A run of ddmd-mpi over hosts that goes on.

    Parameters
    ----------
    hosts
        The hosts.
    launch_from
        The host of the launcher, the first one if it is not given.
    """

    def __init__(
        self,
        box: Box,
        directory: Path,
        hosts: Sequence[str],
        ranks_per_host: int,
        *options: object,
        sets: Sequence[str] = (),
        launch_from: str | None = None,
        **environment: str,
    ) -> None:
        self.box = box
        self.directory = directory
        self.hosts = tuple(hosts)
        self.run = Run(directory)
        self._before = {host: box.bytes(host) for host in self.hosts}
        # Hosts of a box share cores, and each would bind its first simulation to the same one.
        sets = sets if "--resume" in options else (*sets, "simulation.bind=false")
        given = [text for s in sets for text in ("--set", s)]
        self.process: subprocess.Popen[str] = box.launch(
            self.hosts,
            ranks_per_host,
            sys.executable,
            "-m",
            "ddmd_mpi",
            *options,
            *given,
            launch_from=launch_from,
            **environment,
        )

    def until(self, reached: Callable[[], object], seconds: float = 180) -> None:
        """Wait for what the run writes."""
        until(self.process, reached, seconds)

    def ended(self, timeout: float = 120) -> Ended:
        """Wait for the end of the run, which must have had ranks and traffic on each of its hosts."""
        done = self.box.wait(self.process, self.hosts, timeout)
        n_bytes = {host: n - self._before[host] for host, n in done.n_bytes.items()}
        ended = Ended(self.directory, Done(done.code, done.out, done.err, n_bytes))
        assert (self.directory / "environment.json").exists(), ended.said
        assert {rank["host"] for rank in ranks(self.directory)} == set(self.hosts), ended.said
        assert min(n_bytes.values()) > FEW_BYTES, n_bytes
        return ended

    def signal(self, role: str, name: str) -> None:
        """Send a signal to the first rank of a role."""
        rank = next(rank for rank in ranks(self.directory) if rank["role"] == role)
        self._kill(name, [rank])

    def kill_ranks(self, host: str) -> list[int]:
        """Kill the ranks of a host, and not its launcher's daemon; the ranks."""
        found = [rank for rank in ranks(self.directory) if rank["host"] == host]
        self._kill("KILL", found)
        return [rank["rank"] for rank in found]

    def _kill(self, name: str, found: list[dict[str, Any]]) -> None:
        pids = [rank["pid"] for rank in found]
        self.box.start(found[0]["host"], "kill", f"-{name}", *pids).communicate(timeout=30)


def run_over(
    box: Box,
    directory: Path,
    hosts: Sequence[str],
    ranks_per_host: int,
    *options: object,
    sets: Sequence[str] = (),
    enough: Callable[[Run], object] | None = None,
) -> Ended:
    """Run ddmd-mpi over hosts to its end, which must be a good one: its own, or a signal as soon as it is enough."""
    if enough is not None:
        options, sets = (*options, "--duration", LIMIT), (*sets, "output.progress_interval=0.5")
    job = Job(box, directory, hosts, ranks_per_host, *options, "--output", directory, sets=sets)
    if enough is not None:
        job.until(lambda: begun(directory) and enough(Run(directory)))
        job.signal("inference", "TERM")
    return good(job.ended())


def restarted_on(*hosts: str) -> Callable[[Run], bool]:
    """Whether walkers on each of these hosts have been restarted."""
    return lambda run: set(hosts) <= set(run.restarted())


def good(ended: Ended) -> Ended:
    """A run that is complete, and whose data went over the wire."""
    assert ended.done.code == 0, ended.said
    assert ended.summary["completed"] is True, ended.said
    if ended.summary["mode"] == "stream":
        assert sum(ended.done.n_bytes.values()) / 2 > ended.n_bytes_between_hosts()
    return ended


def ranks(directory: Path) -> list[dict[str, Any]]:
    """Who is who in a run."""
    return json.loads((directory / "environment.json").read_text())["ranks"]


def begun(directory: Path) -> bool:
    """Whether a run has frames."""
    return bool(Run(directory).shows("frames"))
