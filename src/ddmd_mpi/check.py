"""``ddmd-mpi check``: does everything a run needs work here?"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from . import rundir

Finding = tuple[str, bool, str]

#: Libraries that may be absent.
OPTIONAL = {
    "horovod": " (optional: several training ranks then sum gradients by MPI; make horovod)",
    "torch": " (optional: only the model aae needs it; make torch)",
}
LOAD_HOROVOD = "import sys, horovod.tensorflow as h; sys.exit(None if h.mpi_built() else 'it was built without MPI')"


def check() -> int:
    """Print every finding on rank 0; exit code 0 if all is well, 1 otherwise. Collective over the world."""
    from .parallel import check as windows
    from .parallel.launch import launch

    world = launch()
    findings = windows.self_test(world.comm)
    if world.rank == 0:
        findings = [*installed(), *findings, *streams(), *engines(world)]
        sys.stdout.write("".join(f"{'ok  ' if ok else 'FAIL'}  {name:<28}{detail}\n" for name, ok, detail in findings))
        sys.stdout.flush()
    failed = world.comm.bcast(not all(ok for _, ok, _ in findings))
    world.free()
    return int(failed)


def installed() -> list[Finding]:
    """Versions of the libraries, and what is lacking without those that may be absent."""
    findings = []
    for name, version in rundir.versions().items():
        if version is None:
            findings.append((name, name in OPTIONAL, "not installed" + OPTIONAL.get(name, "")))
        else:
            findings.append(horovod(version) if name == "horovod" else (name, True, version))
    return findings


def horovod(version: str) -> Finding:
    """Whether Horovod loads, seen in a process of its own: with it comes TensorFlow."""
    tried = subprocess.run([sys.executable, "-c", LOAD_HOROVOD], capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return "horovod", True, f"{version}, loads"
    fault = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
    return "horovod", False, f"{version} cannot be loaded ({fault}): rm -f .venv/.horovod; make horovod"


def streams() -> list[Finding]:
    """ADIOS2's engines and a looped-back stream."""
    from .streams import check as streams_check

    with tempfile.TemporaryDirectory() as directory:
        return streams_check.self_test(Path(directory))


def engines(world: object) -> list[Finding]:
    """GPUs of this node and the platform that OpenMM takes."""
    from .errors import EngineError
    from .md.engine import check_platform
    from .sections import SimulationSection

    gpus = world.gpus_per_node[0]
    try:
        platform = check_platform(SimulationSection(), 0 if gpus else None)
    except EngineError as error:
        return [("OpenMM", False, str(error))]
    return [("GPUs of this node", True, str(gpus)), ("OpenMM platform", True, platform)]
