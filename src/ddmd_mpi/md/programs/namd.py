"""The engine "namd": how NAMD is found, what it cannot do, and what it reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...config.dynamics import EngineSection
from ...config.schema import Config
from ...errors import ConfigError, InputError
from ...rundir.disk import write_json, write_text
from ...rundir.files import parse_record, read_bytes
from .amber import with_masses
from .executable import Executable, ask, find_executable
from .namd_run import NAME, Namd, System, dynamics, minimisation
from .refusals import masses_amu, reading, refuse, topology_of

if TYPE_CHECKING:
    from ..prepared import Prepared
    from ..topologies import Topology

PROGRAM = "namd3"
#: The first number of a version that has binaries for IMDv3.
OLDEST = 3
#: Parameter files of a PSF that are topologies, which NAMD does not read.
TOPOLOGIES = (".rtf", ".top")
#: Of files of AMBER: which pairs are left out or scaled.
AMBER = {"amber": "yes", "readexclusions": "yes", "exclude": "scaled1-4", "1-4scaling": "0.833333", "scnb": "2.0"}
CHARMM = {"paraTypeCharmm": "on", "exclude": "scaled1-4", "1-4scaling": "1.0"}


def find(engine: EngineSection) -> Executable:
    """The program of the settings.

    Raises
    ------
    ConfigError
        If it is missing, or is another program.
    """
    path = find_executable(engine, NAME, PROGRAM, "install NAMD 3")
    return Executable("NAMD", version(path), path, (path, *engine.arguments))


def version(path: str) -> str:
    """What NAMD says of itself, before it misses its configuration.

    Raises
    ------
    ConfigError
        If it says nothing that NAMD does, or is too old.
    """
    found = re.search(r"^Info: NAMD (\d+)(\S*)", ask(path, ("+p1",), "NAMD"), re.MULTILINE)
    if found is None:
        raise ConfigError(f"{path} does not say a version of NAMD: set engine.program to NAMD")
    if int(found[1]) < OLDEST:
        raise ConfigError(f"{path} is NAMD {found[1]}{found[2]}: {OLDEST} or newer is needed")
    return f"{found[1]}{found[2]}"


def check_settings(config: Config) -> None:
    """Refuse what NAMD cannot do.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    simulation = config.simulation
    platform = simulation.platform
    refuse(
        config, NAME, ((platform not in ("auto", "CPU", "CUDA"), f"simulation.platform = {platform}", "leave it out"),)
    )
    taken = {key.lower() for key in reserved(config)}
    for line in config.engine.extra_input:
        key = line.split()[0] if line.split() else ""
        if key.lower() in taken:
            raise ConfigError(f"engine.extra_input sets {key}, which other settings decide: take it out")


def reserved(config: Config) -> set[str]:
    """Keys that other settings decide."""
    system = System({**AMBER, **CHARMM}, True, False)
    names = {"coordinates", "parmfile", "structure", "parameters", "temperature"}
    return names | dynamics(config.simulation, system, 1, 1, 1).keys() | minimisation(config.simulation, system).keys()


def check_molecule(config: Config, box_nm: np.ndarray) -> None:
    """Raise an InputError or a ConfigError if NAMD cannot run the molecule; it can run any box."""
    del box_nm
    _, kind = topology_of(config, NAME, ("AMBER", "CHARMM"), "a prmtop or a PSF", "one")
    if kind == "CHARMM" and config.simulation.hydrogen_mass_amu is not None:
        raise ConfigError(f"the engine {NAME} takes masses from the PSF: leave simulation.hydrogen_mass_amu out")


def keep_topology(config: Config, topology: Topology, directory: Path) -> None:
    """Write what the program reads of a topology into a directory, and with it the masses.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    from ..molecule_files import kind_of
    from ..structures import write_topology

    path = config.system.topology
    if path is None:
        raise InputError(f"the engine {NAME} needs a topology (prmtop or PSF): set system.topology")
    masses = masses_amu(topology.system)
    kind = kind_of(path)
    with reading(path, NAME):
        text = path.read_text()
        if kind == "AMBER":
            text = with_masses(text, masses)
    suffix, pdb = "prmtop" if kind == "AMBER" else "psf", directory / f"{topology.name}.pdb"
    if not pdb.exists():
        write_topology(topology.structures, pdb)
    write_text(directory / f"{topology.name}.{suffix}", text)
    write_json(directory / f"{topology.name}.namd.json", {"kind": kind, "masses_amu": masses})


def files(config: Config, kind: str, directory: Path) -> dict[str, object]:
    """The entries that name what NAMD reads: the kept topology, its PDB file, and parameters."""
    name = config.system.name
    coordinates = {"coordinates": directory / f"{name}.pdb"}
    if kind == "AMBER":
        return {**AMBER, "parmfile": directory / f"{name}.prmtop", **coordinates}
    parameters = [path for path in config.system.parameters if path.suffix.lower() not in TOPOLOGIES]
    # A key may come again in a configuration: its further values are lines of their own.
    return {**CHARMM, "structure": directory / f"{name}.psf", **coordinates, "parameters": _lines(parameters)}


def _lines(parameters: list[Path]) -> str:
    return "\nparameters ".join(map(str, parameters))


def program_maker(config: Config, gpu: int | None, directory: Path) -> Callable[[Topology | Prepared], Namd]:
    """A function that makes the program of a topology from what `directory` keeps."""
    simulation = config.simulation
    command = [*find(config.engine).command, f"+p{simulation.threads}"]
    if gpu is not None and simulation.platform != "CPU":
        command += ["+devices", str(gpu)]
    record = parse_record(read_bytes(directory / f"{config.system.name}.namd.json"))
    entries = files(config, record["kind"], directory)
    implicit = config.system.solvent != "vacuum"

    def make(topology: Topology | Prepared) -> Namd:
        system = System(entries, topology.structures.periodic, implicit)
        return Namd(command, system, np.array(record["masses_amu"]), simulation, tuple(config.engine.extra_input))

    return make
