"""``ddmd-mpi check``: whether everything that a run needs works here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import LayoutError
from ..parallel.hosts import CLOCK_SECONDS, Peer, check_alike
from ..report import CURE, lacking
from ..rundir.directory import versions

Finding = tuple[str, bool, str]

#: A first load of TensorFlow from a network file system takes minutes.
TRIAL_SECONDS = 600.0
#: Libraries that may be absent.
OPTIONAL = {
    "horovod": " (optional: several training ranks then sum gradients by MPI; make horovod)",
    "torch": " (optional: only the model aae needs it; make torch)",
}
LOAD_HOROVOD = "import sys, horovod.tensorflow as h; sys.exit(None if h.mpi_built() else 'it was built without MPI')"


def check(interface: str | None = None) -> int:
    """Print every finding on rank 0; exit code 0 if all is well, 1 otherwise. Collective over the world."""
    from ..parallel.collectives import Meeting
    from ..parallel.launch import launch
    from ..streams import addresses

    world = launch()
    from ..parallel import selftest as windows  # loads MPI, which launch() starts

    findings = [*addresses.self_test(world.comm, world.node_comm, interface), *windows.self_test(world.comm)]
    if world.rank == 0:
        parts = (
            lambda: findings,
            lambda: [hosts(world.peers)],
            installed,
            streams,
            lambda: trials(world.gpus_per_node[0]),
        )
        findings = [shown(finding) for part in parts for finding in part()]
    failed = Meeting(world.comm).tell(not all(ok for _, ok, _ in findings))
    world.free()
    return int(failed)


def shown(finding: Finding) -> Finding:
    """Print a finding as soon as it is known: the last ones take minutes on a busy machine."""
    name, ok, detail = finding
    sys.stdout.write(f"{'ok  ' if ok else 'FAIL'}  {name:<28}{detail}\n")
    sys.stdout.flush()
    return finding


def installed() -> list[Finding]:
    """Versions of the libraries, and what is lacking without those that may be absent."""
    findings = []
    for name, version in versions().items():
        if version is None:
            findings.append((name, name in OPTIONAL, "not installed" + OPTIONAL.get(name, "")))
        else:
            findings.append(horovod(version) if name == "horovod" else (name, True, version))
    return findings


def horovod(version: str) -> Finding:
    """Whether Horovod loads, seen in a separate process: with it comes TensorFlow."""
    tried = subprocess.run([sys.executable, "-c", LOAD_HOROVOD], capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return "horovod", True, f"{version}, loads"
    fault = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
    return "horovod", False, f"{version} cannot be loaded ({fault}): rm -f .venv/.horovod; make horovod"


def streams() -> list[Finding]:
    """ADIOS2's engines and a looped-back stream."""
    from ..streams import selftest as streams_check

    with tempfile.TemporaryDirectory() as directory:
        return streams_check.self_test(Path(directory))


def hosts(peers: Sequence[Peer]) -> Finding:
    """Whether all hosts have one program, one MPI and one time."""
    try:
        check_alike(peers)
    except LayoutError as error:
        return "hosts", False, str(error)
    names = {peer.host for peer in peers}
    return "hosts", True, f"{len(names)}: {peers[0].program}, clocks within {CLOCK_SECONDS:.0f} s"


def trials(n_gpus: int) -> Iterator[Finding]:
    """Whether OpenMM steps a System, a report can be drawn and a model trains, if what they need is installed."""
    yield "GPUs of this node", True, str(n_gpus)
    gpu = ("0",) if n_gpus else ()
    yield tried("OpenMM", "engine", *gpu)
    if missing := lacking():
        yield "report", True, f"{' and '.join(missing)} not installed (optional: no run needs a report; {CURE})"
    else:
        yield tried("report", "report")
    if versions()["tensorflow"] is not None:
        yield tried("model", "model", *gpu)


def tried(what: str, *arguments: str) -> Finding:
    """Run one of :mod:`.trials` in a separate process."""
    command = [sys.executable, "-m", f"{__package__}.trials", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=TRIAL_SECONDS
        )
    except subprocess.TimeoutExpired:
        return what, False, f"it does not finish within {TRIAL_SECONDS:.0f} s"
    if done.returncode == 0:
        return what, True, done.stdout.strip().splitlines()[-1]
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return what, False, said[-1] if said else f"it ends with code {done.returncode} and gives no reason"
