"""The engine "gromacs": how GROMACS's gmx is found, what it cannot do, and what it reads."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...config.dynamics import EngineSection, SimulationSection
from ...config.schema import Config
from ...errors import ConfigError, InputError
from ...rundir.disk import write_durably, write_text
from . import mdp, mdrun, trr
from .child import child_environment
from .executable import Executable, ask, find_executable
from .mdp import Settings
from .mdrun import NAME, Files, Mdrun
from .refusals import masses_amu, reading, refuse, topology_of

if TYPE_CHECKING:
    from ..prepared import AnyParticles, Prepared
    from ..topologies import Topology

PROGRAM = "gmx"
#: The first one that has the barostat.
OLDEST = 2021
#: Arguments of mdrun that name its files, its threads, or how long it runs.
TAKEN = {"-s", "-o", "-x", "-g", "-e", "-c", "-cpi", "-cpo", "-cpt", "-deffnm", "-append", "-noappend", "-nsteps"}
TAKEN |= {"-multidir", "-rerun", "-replex", "-maxh", "-ntomp"}

#: Type of the file of pairs.
PAIRS = np.dtype("<i4")


@dataclass(frozen=True)
class Build(Executable):
    """A GROMACS: whether it has threads in place of MPI, and code for GPUs."""

    thread_mpi: bool
    gpu: bool


def find(engine: EngineSection) -> Build:
    """The program of the settings.

    Raises
    ------
    ConfigError
        If it is missing, is another program, or too old.
    """
    cure = "install GROMACS (apt install gromacs, conda-forge, or your site's module)"
    path = find_executable(engine, NAME, PROGRAM, cure)
    said = ask(path, ("--version",), "GROMACS's gmx")
    version = re.search(r"^GROMACS version:\s*(?:VERSION )?(\d+)(\S*)", said, re.MULTILINE)
    if version is None:
        raise ConfigError(f"{path} does not say a version of GROMACS: set engine.program to gmx")
    if int(version[1]) < OLDEST:
        raise ConfigError(f"{path} is GROMACS {version[1]}{version[2]}: the engine {NAME} needs {OLDEST} or newer")
    gpu = re.search(r"^GPU support:\s*disabled", said, re.MULTILINE) is None
    return Build("GROMACS", version[1] + version[2], path, (path,), "thread_mpi" in said, gpu)


def check_settings(config: Config) -> None:
    """Refuse what GROMACS cannot do.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    simulation, engine = config.simulation, config.engine
    platform = simulation.platform
    solvent = config.system.solvent
    of_gromacs = (
        (platform not in ("auto", "CPU"), f"simulation.platform = {platform}", "leave it out: its build decides"),
        (solvent == "implicit", "system.solvent = implicit", "set it to vacuum, or simulation.engine to openmm"),
    )
    refuse(config, NAME, of_gromacs)
    taken = next((a for a in engine.arguments if a in TAKEN), None)
    if taken is not None:
        raise ConfigError(f"engine.arguments has {taken}, which the engine {NAME} decides: take it out")
    names = mdp.reserved()
    for line in engine.extra_input:
        if line.count("=") != 1 or set(line) & set(";\n"):
            raise ConfigError(f"engine.extra_input has {line!r}: give one entry of an mdp file, such as nstlist = 40")
        name = next(iter(mdp.entries([line])))
        if name in names:
            raise ConfigError(f"engine.extra_input sets {name}, which other settings decide: take it out")


def check_molecule(config: Config, box_nm: np.ndarray) -> None:
    """Raise an InputError if GROMACS cannot run the molecule; it can run any box."""
    del box_nm
    topology_of(config, NAME, ("GROMACS",), "a GROMACS topology", "a top")


def keep_topology(config: Config, topology: Topology, directory: Path) -> None:
    """Write what the program reads of a topology into a directory, and let grompp try it.

    Raises
    ------
    InputError
        If it cannot be read, or grompp refuses it.
    """
    from ..input_files import processed
    from .gromacs_top import gro, with_masses

    path, structures = config.system.topology, topology.structures
    if path is None:
        raise InputError(f"the engine {NAME} needs a GROMACS topology (top): set system.topology")
    text = processed(path, [Path(p) for p in config.system.parameters])
    if config.simulation.hydrogen_mass_amu is not None:
        with reading(path, NAME):
            text = with_masses(text, masses_amu(topology.system))
    settings, kept = _settings(config, structures), _kept(directory, topology.name)
    write_text(kept.top, text)
    write_text(kept.gro, gro(structures.topology, structures.positions_nm, settings.box(structures.box_nm)))
    write_durably(_pairs(directory, topology.name), _close(topology).tobytes())
    _try(config, kept, structures, settings)


def _close(topology: Topology) -> np.ndarray:
    """Pairs of atoms that bonds, angles or constraints hold near each other, shape (n, 2)."""
    import openmm

    forces = [force for force in topology.system.getForces() if isinstance(force, openmm.NonbondedForce)]
    found = [f.getExceptionParameters(i)[:2] for f in forces for i in range(f.getNumExceptions())]
    return np.unique(np.array(found, PAIRS).reshape(-1, 2), axis=0)


def _try(config: Config, files: Files, structures: AnyParticles, settings: Settings) -> None:
    """Let grompp read a run's input, to find out before the start what it refuses."""
    files = Files(files.top.absolute(), files.gro.absolute(), files.pairs)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        trr.write_frame(place / mdrun.BEGIN, structures.positions_nm, None, settings.box(structures.box_nm))
        values = mdp.dynamics(config.simulation, settings, True, 1)
        (place / mdrun.INPUT).write_text(mdp.mdp(values, settings.extra))
        said, code = _grompp(mdrun.grompp(find(config.engine).path, files), place, config.faults.start_within)
    unknown = re.search(r"Unknown left-hand '([^']*)'", said)
    if unknown is not None:
        raise ConfigError(f"engine.extra_input sets {unknown[1]}, which grompp does not know: correct it")
    if code:
        raise InputError(f"grompp cannot use {config.system.topology}: {refusal(said)}")


def _grompp(command: list[str], place: Path, seconds: float) -> tuple[str, int]:
    """Run grompp in a directory; what it says, and its exit code."""
    try:
        done = subprocess.run(
            command,
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            env=child_environment(1),
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"{command[0]} grompp does not end within {seconds:g} s: set engine.program to gmx"
        ) from error
    return done.stderr, done.returncode


def refusal(said: str) -> str:
    """What grompp has refused, as one line: its first error, else what was fatal."""
    found = re.search(
        r"(?:^ERROR \d+ .*?:|^Fatal error:|^Error in user input:)\s*\n(.*?)(?:\n\s*\n|\Z)", said, re.M | re.S
    )
    return " ".join((found[1] if found else said[-500:]).split()) or "it gives no reason"


def _kept(directory: Path, name: str) -> Files:
    """The files of a topology; its pairs are still to be read."""
    return Files(directory / f"{name}.top", directory / f"{name}.gro", np.empty((0, 2), int))


def _pairs(directory: Path, name: str) -> Path:
    return directory / f"{name}.pairs"


def _settings(config: Config, structures: AnyParticles) -> Settings:
    length = float(np.linalg.norm(np.ptp(structures.positions_nm, axis=0)))
    return Settings(structures.periodic, length, tuple(config.engine.extra_input))


def arguments(build: Build, simulation: SimulationSection, gpu: int | None, given: list[str]) -> list[str]:
    """Arguments of mdrun: one process, its threads, and a GPU of the rank; what the settings give takes their place."""
    values = {"-ntomp": str(simulation.threads), "-pin": "off"}
    if build.thread_mpi:
        values["-ntmpi"] = "1"
    if build.gpu and gpu is not None and simulation.platform != "CPU":
        values["-gpu_id"] = str(gpu)
    else:
        values["-nb"] = "cpu"
    return [*(x for name, value in values.items() if name not in given for x in (name, value)), *given]


def program_maker(config: Config, gpu: int | None, directory: Path) -> Callable[[Topology | Prepared], Mdrun]:
    """A function that makes the program of a topology from what `directory` keeps."""
    build = find(config.engine)
    options = arguments(build, config.simulation, gpu, config.engine.arguments)

    def make(topology: Topology | Prepared) -> Mdrun:
        pairs = np.fromfile(_pairs(directory, topology.name), PAIRS).reshape(-1, 2)
        files = _kept(directory, topology.name)._replace(pairs=pairs)
        settings = _settings(config, topology.structures)
        return Mdrun(build.path, options, files, topology.n_atoms, config.simulation, settings)

    return make
