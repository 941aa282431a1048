"""OpenMM systems: a molecule under its force field, or a structure-based model of the target."""

from __future__ import annotations

from dataclasses import replace

import openmm

from ..errors import InputError
from ..sections import SimulationSection, SystemSection
from .go_model import go_system
from .molecules import MoleculeFiles, build_molecule
from .structures import Structures


def build_system(structures: Structures, simulation: SimulationSection, system: SystemSection) -> openmm.System:
    """The system that `system.model` asks for.

    Raises
    ------
    InputError
        If the force field cannot be read or does not know the molecule, or as :func:`.molecules.build_molecule` says.
    """
    if system.model == "go":
        if len(structures.descriptor) != len(structures.positions_nm):
            raise InputError(f"{system.start} must hold the descriptor atoms only: the Go model has one bead for each")
        return go_system(structures.target_nm)
    return build_molecule(replace(structures.molecule, files=MoleculeFiles.of(system)), simulation)
