"""Real jobs of six ranks, hurt from outside while they run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import kill_session

SCRIPT = Path(__file__).parent.parent.parent / "jobscripts" / "ranks.sh"
INJECTED = Path(__file__).with_name("injected.py")
SECONDS = 10
#: Six ranks: three simulate two walkers each. A rank that hangs ends itself after 6 s, and is stopped for 3 s at most.
#: Molecular dynamics is emulated: real one would take the cores from whatever else starts or hurries meanwhile.
SETTINGS = (
    "simulation.engine=emulated",
    "emulation.report_seconds=0.04",
    "training.model=none",
    "steering.strategy=greedy",
    "simulation.walkers_per_rank=2",
    "simulation.segment_ps=40",
    "simulation.report_interval_ps=4",
    "steering.round_reports=5",
    "run.drain=15",
    "faults.hang_after=6",
    "faults.stopped_after=3",
)
REAL_DYNAMICS = ("simulation.engine=openmm",)
LIMIT_SECONDS = 150.0
#: More seeds for the tests of random moments: DDMD_MPI_FAULT_RUNS=10 adds ten to each.
MORE = tuple(range(100, 100 + int(os.environ.get("DDMD_MPI_FAULT_RUNS", "0"))))
#: A rank that waits for another one to say why the run ends may outlive the launcher by so much.
ORPHAN_SECONDS = 15.0


@dataclass(frozen=True)
class Ended:
    """What a job has left behind."""

    directory: Path
    code: int
    out: str
    err: str
    seconds_after: float  # from the injection to the end

    @property
    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        return json.loads((self.directory / "summary.json").read_text())

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The records of a file of JSON lines."""
        return [json.loads(line) for line in (self.directory / name).read_text().splitlines()]


def pid_of(directory: Path, role: str, generator: random.Random) -> tuple[int, int]:
    """(rank, pid) of one rank of a role."""
    ranks = json.loads((directory / "environment.json").read_text())["ranks"]
    chosen = generator.choice([r for r in ranks if r["role"] == role])
    return chosen["rank"], chosen["pid"]


def running(directory: Path) -> bool:
    """Whether the job has got as far as its first frames."""
    try:
        return json.loads((directory / "status.json").read_text())["frames"] > 0
    except (OSError, ValueError):
        return False


def left_s(directory: Path) -> float:
    """Seconds until the job's simulations stop, as it says."""
    return json.loads((directory / "status.json").read_text())["left_s"]


def has_checkpoint(directory: Path) -> bool:
    """Whether the job has completed a checkpoint."""
    return any((directory / "checkpoints").glob("manifest-*"))


def has_gone_on(directory: Path) -> bool:
    """Whether the job has lost a rank, and walkers have been restarted."""
    shown = json.loads((directory / "status.json").read_text())
    return bool(shown["lost_ranks"]) and '"outcome": "applied"' in (directory / "decisions.jsonl").read_text()


def begun(directory: Path) -> bool:
    """Whether every rank knows its role, and none has its streams yet."""
    return (directory / "environment.json").exists()


def hurt(
    directory: Path,
    role: str,
    number: int,
    seed: int,
    *,
    sets: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
    after: Callable[[Path], bool] = running,
    within: float | None = None,
    enough: Callable[[Path], bool] | None = None,
) -> tuple[int, Ended]:
    """Run a job and send a signal to a rank of `role`, rank and moment drawn by `seed`; (the rank, what was left).

    The moment is up to `within` seconds later than what `after` waits for; without that, up to half the run later, and
    before the last three seconds of the run. What goes on afterwards is told to stop once it has done `enough`.
    """
    generator = random.Random(seed)
    with start(directory, sets, options) as process:
        try:
            wait(lambda: after(directory) or process.poll() is not None, pause=0.05 if within is None else 0.002)
            span = min(0.5 * SECONDS, max(0.0, left_s(directory) - 3.0)) if within is None else within
            time.sleep(generator.uniform(0.0, span))
            rank, pid = pid_of(directory, role, generator)
            os.kill(pid, number)
            if enough is not None:
                wait(lambda: enough(directory) or process.poll() is not None)
                os.kill(pid_of(directory, "inference", generator)[1], signal.SIGTERM)
            return rank, left_by(process, directory)
        finally:
            end(process, directory)


def suspend(directory: Path, seconds: float) -> None:
    """Stop all ranks of a job at once, and let them go on after so many seconds, as a batch system does."""
    pids = [r["pid"] for r in json.loads((directory / "environment.json").read_text())["ranks"]]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def ranks_by_process(directory: Path) -> dict[int, int]:
    """Process id of every rank that is there, before the job has written down who is who."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            variables = (path / "environ").read_bytes().split(b"\0")
            if str(directory) not in (path / "cmdline").read_text():
                continue
        except OSError:
            continue
        found |= {int(v.split(b"=")[1]): int(path.name) for v in variables if v.startswith(b"OMPI_COMM_WORLD_RANK=")}
    return found


def left_by(process: subprocess.Popen[str], directory: Path) -> Ended:
    """What a job has left behind, once it has ended by itself."""
    clock = time.monotonic()
    out, err = process.communicate(timeout=LIMIT_SECONDS)
    return Ended(directory, process.returncode, out, err, time.monotonic() - clock)


def start(
    directory: Path,
    sets: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
    fault: str | None = None,
    wrapper: tuple[str, ...] = (),
    **environment: str,
) -> subprocess.Popen[str]:
    """Start a job in a session of its own, with one of the faults of ``injected.py`` inside its ranks."""
    given = [text for s in (*SETTINGS, *sets) for text in ("--set", s)]
    program = ["ddmd-mpi"] if fault is None else [sys.executable, str(INJECTED), fault]
    command = [
        *wrapper,
        str(SCRIPT),
        "6",
        *program,
        "--usecase",
        "bba-go",
        "--duration",
        f"{SECONDS}s",
        "--output",
        str(directory),
        *given,
        *options,
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "DDMD_MPI_BIN": str(Path(sys.executable).parent), **environment},
        start_new_session=True,
    )


def run_to_its_end(
    directory: Path, sets: tuple[str, ...] = (), options: tuple[str, ...] = (), fault: str | None = None
) -> Ended:
    """Run a job that nobody hurts from outside."""
    with start(directory, sets, options, fault) as process:
        try:
            return left_by(process, directory)
        finally:
            end(process, directory)


def resume(directory: Path, **environment: str) -> Ended:
    """Go on with a run on six ranks."""
    command = [str(SCRIPT), "6", "ddmd-mpi", "--resume", str(directory), "--duration", "5s"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LIMIT_SECONDS,
        check=False,
        env={**os.environ, "DDMD_MPI_BIN": str(Path(sys.executable).parent), **environment},
    )
    return Ended(directory, done.returncode, done.stdout, done.stderr, 0.0)


def wait(happened: Callable[[], bool], seconds: float = LIMIT_SECONDS, pause: float = 0.05) -> None:
    """Wait until a job has got somewhere."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError("the job did not get there")
        time.sleep(pause)


def end(process: subprocess.Popen[str], directory: Path) -> None:
    """Kill what may be left of a job: its launcher, and the ranks that it names."""
    if process.poll() is None:
        kill_session(process.pid)
    try:
        ranks = json.loads((directory / "environment.json").read_text())["ranks"]
    except (OSError, ValueError):
        return
    for rank in ranks:
        if is_alive(rank["pid"], directory):
            os.kill(rank["pid"], signal.SIGKILL)


def is_alive(pid: int, directory: Path) -> bool:
    """Whether the process is there and is a rank of this job."""
    try:
        return str(directory) in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def nobody_is_left(directory: Path) -> None:
    """Every rank of the job ends, if not with its launcher then soon after it."""
    ranks = json.loads((directory / "environment.json").read_text())["ranks"]
    wait(lambda: not any(is_alive(r["pid"], directory) for r in ranks), ORPHAN_SECONDS)
