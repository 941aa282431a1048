"""``ddmd-mpi check``: does everything a run needs work here?"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from . import rundir

Finding = tuple[str, bool, str]


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
    """Versions of the libraries; Horovod may be absent."""
    optional = {"horovod"}
    return [(name, version is not None or name in optional, version or "not installed"
             + (" (optional: one training rank needs none)" if name in optional else ""))
            for name, version in rundir.versions().items()]


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
