"""``ddmd-mpi check --engine NAME``: whether an engine's program works on this machine, tried on a small molecule."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import config as configuration
from ..config.dynamics import EMULATED, PROGRAMS
from ..config.schema import Config
from ..errors import ConfigError, DDMDError, sentence
from .checks import Finding, shown

if TYPE_CHECKING:
    from ..md.engines import Engine
    from ..md.prepared import State
    from ..md.topologies import Topology

#: Alanine dipeptide in a vacuum, in ``inputs/engines``: the files that an engine reads.
FILES = {
    "amber": {"topology": "alanine.prmtop", "start": "alanine.rst7"},
    "gromacs": {"topology": "alanine.top", "start": "alanine.gro"},
    "lammps": {"topology": "alanine.data", "start": "alanine.pdb"},
}
#: Further files of an engine, by their keys in [engine].
INPUTS = {"lammps": {"input": "alanine.in"}}
TARGET = "alanine-target.pdb"
#: The atoms of its backbone.
DESCRIPTOR = [4, 6, 8, 14, 16]
#: Steps of a report, reports of a segment, and reports that are waited for.
STEPS, REPORTS, N_REPORTS = 500, 4, 6
#: Steps so few and so short, fs, that nothing moves, and it does not matter which of two an energy belongs to.
FEW_STEPS, AT_REST_FS = 10, 0.001
#: Largest difference between energies, relative.
TOLERANCE = 1e-3
SEED = 1


def check_engine(name: str, program: str | None) -> int:
    """Print every finding on an engine; exit code 0 if all is well, 1 otherwise."""
    try:
        return int(not all([shown(finding)[1] for finding in findings(name, program)]))
    except DDMDError as error:
        shown((name, False, sentence(error)))
        return 1


def findings(name: str, program: str | None) -> Iterator[Finding]:
    """The program, a run with a restart, and its energy beside OpenMM's.

    Raises
    ------
    DDMDError
        As soon as something does not work.
    """
    from ..md import engines
    from ..md.topologies import load_topology

    if name in EMULATED:
        raise ConfigError(f"the engine {name} computes nothing that could be checked: name another one")
    settings = small_molecule(name, program, STEPS, 2.0)
    engines.check_engine(settings, 0, None)
    yield name, True, engines.described(settings)
    topology = load_topology(settings, 0)
    engines.check_molecule(settings, topology.structures)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "topology").mkdir()
        engines.keep_topology(settings, topology, place / "topology")
        finding, state = _moves(_engine(settings, topology, place))
        yield finding
        at_rest = _engine(small_molecule(name, program, FEW_STEPS, AT_REST_FS), topology, place)
        of_openmm = small_molecule("openmm", None, FEW_STEPS, AT_REST_FS)
        # OpenMM reads no files of LAMMPS: it has the same molecule from those of AMBER.
        known = load_topology(of_openmm, 0) if name in INPUTS else topology
        yield _energy(at_rest, _engine(of_openmm, known, place), state)


def small_molecule(name: str, program: str | None, steps: int, timestep_fs: float, reports: int = REPORTS) -> Config:
    """Settings under which an engine moves the small molecule.

    Parameters
    ----------
    program
        Its program, None for that on PATH.
    steps, reports
        Of a report; of a segment.
    """
    files = configuration.inputs() / "engines"
    system: dict[str, Any] = {key: str(files / file) for key, file in FILES.get(name, FILES["amber"]).items()}
    report_ps = steps * timestep_fs / 1000
    return configuration.validate(
        {
            "run": {"usecase": "alanine"},
            "system": {
                "name": "alanine",
                "target": str(files / TARGET),
                "solvent": "vacuum",
                "descriptor": DESCRIPTOR,
                **system,
            },
            "simulation": {
                "engine": name,
                "timestep_fs": timestep_fs,
                "report_interval_ps": report_ps,
                "segment_ps": reports * report_ps,
                "minimize_iterations": 100,
            },
            "engine": {
                **({"program": program} if name in PROGRAMS else {}),
                **{key: str(files / file) for key, file in INPUTS.get(name, {}).items()},
            },
        }
    )


def _engine(settings: Config, topology: Topology, directory: Path) -> Engine:
    from ..md.engines import engine_maker

    return engine_maker(settings, None, "CPU", directory)(topology, SEED)


def _moves(engine: Engine) -> tuple[Finding, State]:
    """Run over the end of a segment, and restart in the middle of one."""
    clock = time.perf_counter()
    try:
        engine.start(SEED)
        for _ in range(N_REPORTS):
            engine.advance(STEPS)
            state = engine.state()
        took = time.perf_counter() - clock
        engine.set_state(state.positions, state.velocities, state.box)
        clock = time.perf_counter()
        engine.advance(1)
        again = time.perf_counter() - clock
        engine.advance(STEPS - 1)
        moved = np.abs(engine.state().positions - state.positions).max()
    finally:
        engine.free()
    steps = f"{N_REPORTS * STEPS} steps of alanine dipeptide in {took:.1f} s"
    return ("run and restart", bool(moved > 0), f"{steps}; stepping {again:.2f} s after a restart"), state


def _energy(engine: Engine, reference: Engine, start: State) -> Finding:
    """Compare the energy of a frame with that of OpenMM."""
    try:
        engine.set_state(start.positions, start.velocities, start.box)
        engine.advance(FEW_STEPS)
        state = engine.state()
        reference.set_state(state.positions, state.velocities, state.box)
        expected = reference.state().potential_energy
    finally:
        engine.free()
        reference.free()
    apart = abs(state.potential_energy - expected) / abs(expected)
    detail = f"{state.potential_energy:.3f} kJ/mol, OpenMM's {expected:.3f} (relative difference {apart:.0e})"
    return "energy", apart < TOLERANCE, detail
