"""OpenMM systems: an all-atom molecule under a force field, or a structure-based model of the target."""

from __future__ import annotations

import openmm
from openmm import app, unit

from ..errors import InputError
from ..sections import SimulationSection, SystemSection
from .go_model import go_system
from .structures import Structures


def build_system(structures: Structures, simulation: SimulationSection, system: SystemSection) -> openmm.System:
    """The system that `system.model` asks for.

    Raises
    ------
    InputError
        If the force field cannot be read or does not know the molecule.
    """
    if system.model == "go":
        if len(structures.descriptor) != len(structures.positions_nm):
            raise InputError(f"{system.start} must hold the descriptor atoms only: the Go model has one bead for each")
        return go_system(structures.target_nm)
    return _all_atom(structures, simulation, system)


def _all_atom(structures: Structures, simulation: SimulationSection, system: SystemSection) -> openmm.System:
    cutoff = simulation.nonbonded_cutoff_nm
    method = {"nonbondedMethod": app.NoCutoff}
    if cutoff is not None:
        method = {"nonbondedMethod": app.CutoffNonPeriodic, "nonbondedCutoff": cutoff * unit.nanometer}
    mass = simulation.hydrogen_mass_amu
    force_field = _force_field(system)
    try:
        return force_field.createSystem(
            structures.topology, **method, constraints=app.HBonds, hydrogenMass=mass and mass * unit.amu
        )
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{' + '.join(system.force_field)} cannot be applied to {system.start}: {reason}") from error


def _force_field(system: SystemSection) -> app.ForceField:
    try:
        return app.ForceField(*system.force_field)
    except Exception as error:  # noqa: BLE001 - OpenMM raises bare exceptions for files that are no force field
        reason = str(error).splitlines()[0]
        raise InputError(f"{' + '.join(system.force_field)} is no force field that OpenMM reads: {reason}") from error
