"""Refusals that the engines that are programs share, made before a run starts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...config.schema import Config
from ...errors import ConfigError, InputError

if TYPE_CHECKING:
    from openmm import System

#: Whether a setting is wrong, the setting, and the cure.
Refusal = tuple[bool, str, str]
LAMMPS = "lammps"
OPENMM = "set simulation.engine to openmm"


def refuse(config: Config, name: str, of_engine: Iterable[Refusal] = ()) -> None:
    """Refuse settings that the engine `name` cannot honour: those of all programs, and its own.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    simulation, system = config.simulation, config.system
    for wrong, what, cure in (
        (system.model != "all-atom", f"system.model = {system.model}", OPENMM),
        (bool(system.complexes), "system.complexes", OPENMM),
        (simulation.precision != "mixed", f"simulation.precision = {simulation.precision}", "leave it out"),
        (bool(config.engine.options), "engine.options", "leave it out: it is for engines of your own"),
        (name != LAMMPS and config.engine.input is not None, "engine.input", f"it is for the engine {LAMMPS}"),
        *of_engine,
    ):
        if wrong:
            raise ConfigError(f"the engine {name} cannot honour {what}: {cure}")


def topology_of(config: Config, name: str, kinds: Collection[str], needed: str, cure: str) -> tuple[Path, str]:
    """The topology that the engine `name` runs, and its kind; see :func:`..molecule_files.kind_of`.

    Raises
    ------
    InputError
        If it is not one of these `kinds`.
    """
    from ..molecule_files import kind_of

    topology = config.system.topology
    kind = kind_of(topology)
    if topology is None or kind not in kinds:
        found = config.system.start if topology is None else topology
        raise InputError(f"the engine {name} needs {needed}, which {found} is not: set system.topology to {cure}")
    return topology, kind


def refuse_triclinic(config: Config, name: str, box_nm: np.ndarray) -> None:
    """Raise an InputError if the box of the start, vectors of shape (3, 3), is not rectangular."""
    if np.any(box_nm - np.diag(np.diag(box_nm))):
        raise InputError(
            f"the engine {name} runs rectangular boxes, and the box of {config.system.start} is not rectangular: set "
            "simulation.engine to openmm"
        )


@contextmanager
def reading(path: Path, name: str) -> Iterator[None]:
    """Turn what goes wrong while a file is read for the engine `name` into an InputError that names the file."""
    try:
        yield
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{path} cannot be used by the engine {name}: {error}") from error


def masses_amu(system: System) -> list[float]:
    """Masses of the atoms that are simulated."""
    return [system.getParticleMass(i)._value for i in range(system.getNumParticles())]
