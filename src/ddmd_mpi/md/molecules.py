"""A molecule and what acts between its atoms: the files of AMBER, CHARMM, GROMACS and OpenMM, or a force field.

Nothing here knows of a run: one :class:`MoleculeFiles` gives one :class:`Molecule`, and :func:`build_molecule` its
OpenMM system under the settings of a simulation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app, unit

from ..config.dynamics import SimulationSection
from ..errors import InputError
from ..structure.periodic import make_whole
from .coordinates import Coordinates, bonds_of, box_array, read_coordinates, whole
from .force_fields import force_field
from .molecule_files import READERS, Maker, MoleculeFiles, combining, kind_of, of_force_field
from .solvent import check_implicit, is_periodic

PERIODIC_CUTOFF_NM = 1.0
#: CHARMM36 was made with a cutoff of 1.2 nm, and Lennard-Jones forces that are switched off from 1.0 nm on.
CHARMM_CUTOFF_NM, CHARMM_SWITCH_NM = 1.2, 1.0
#: Springs of these lengths that are as stiff, kJ/mol/nm2, are chemical bonds; one that is so much longer joins atoms
#: that are not bonded.
BOND_LENGTHS_NM, LEAST_STIFFNESS, STRETCHED_NM = (0.05, 0.25), 5e4, 0.15
BAROSTAT_STEPS = 25
BAROSTATS = (openmm.MonteCarloBarostat, openmm.MonteCarloAnisotropicBarostat, openmm.MonteCarloMembraneBarostat)


@dataclass(frozen=True)
class Molecule:
    """Topology, positions and box of a molecule, and its recipe.

    Parameters
    ----------
    files
        Where it comes from.
    topology
        OpenMM topology; it has box vectors if the molecule is periodic.
    positions_nm
        nm, shape (n_atoms, 3), float64; molecules are whole.
    box_nm
        Box vectors, nm, shape (3, 3), in OpenMM's reduced form; None if the molecule is not periodic.
    maker
        Makes the system; None for a force field.
    file_box_nm
        Box vectors that the files have, nm, shape (3, 3), used or not; None if they have none.
    """

    files: MoleculeFiles
    topology: app.Topology
    positions_nm: np.ndarray
    box_nm: np.ndarray | None
    maker: Maker | None = field(default=None, repr=False)
    file_box_nm: np.ndarray | None = None


def load_molecule(files: MoleculeFiles) -> Molecule:
    """Read a molecule and check its files against each other.

    Raises
    ------
    InputError
        A file is missing or unreadable, files hold different numbers of atoms, or there is no box where one is needed.
    """
    kind = kind_of(files.topology)
    for path in files.parameters:
        if not path.exists():
            raise InputError(f"{path} does not exist: correct the parameters of {files.topology}")
    found = read_coordinates(files.coordinates, charmm=kind == "CHARMM")
    box = _box(files, found)
    if files.topology is None:
        parsed = of_force_field(files, found)
    else:
        parsed = READERS[kind](files, files.topology, found, box)
    n_atoms = len(found.positions_nm)
    if n_atoms != parsed.n_atoms:
        raise InputError(
            f"{files.topology} has {parsed.n_atoms} atoms and {files.coordinates} has {n_atoms}: give the coordinates "
            "that were written with it"
        )
    given = found.box_nm if found.box_nm is not None else box_array(parsed.topology.getPeriodicBoxVectors())
    if not is_periodic(files, kind, parsed.periodic, parsed.topology, box):
        parsed.topology.setPeriodicBoxVectors(None)
        return Molecule(files, parsed.topology, whole(found, parsed.topology), None, parsed.maker, given)
    box = box if box is not None else box_array(parsed.topology.getPeriodicBoxVectors())
    if box is None:
        raise InputError(
            f"{files.coordinates} has no box, and explicit solvent needs one: set box_nm (init: --box), "
            "or solvent to implicit"
        )
    parsed.topology.setPeriodicBoxVectors(box * unit.nanometer)
    x = make_whole(found.positions_nm, bonds_of(parsed.topology), box)
    return Molecule(files, parsed.topology, x, box, parsed.maker, given)


def build_molecule(molecule: Molecule, simulation: SimulationSection) -> openmm.System:
    """The system of a molecule: bonds to hydrogen constrained; PME and a barostat if it is periodic.

    Raises
    ------
    InputError
        If its files cannot be combined with each other or with the settings, or the box is too small for the cutoff.
    """
    files, mass, box = molecule.files, simulation.hydrogen_mass_amu, molecule.box_nm
    options = {
        "constraints": app.HBonds,
        "hydrogenMass": mass and mass * unit.amu,
        **nonbonded(simulation.nonbonded_cutoff_nm, box, of_charmm(files)),
    }
    with combining(files):
        system = (molecule.maker or _force_field(molecule))(simulation, options)
    check_forces(system, files.said_by)
    check_bonds(molecule, system)
    if box is not None:
        _check_width(system, box, files.coordinates)
        system.setDefaultPeriodicBoxVectors(*box)
        add_barostat(system, simulation)
    return system


def of_charmm(files: MoleculeFiles) -> bool:
    """Whether the force field of a molecule is one of CHARMM."""
    by_name = any(Path(name).name.startswith("charmm36") or "charmm36/" in name for name in files.force_field)
    return kind_of(files.topology) == "CHARMM" if files.topology is not None else by_name


def nonbonded(cutoff_nm: float | None, box_nm: np.ndarray | None, charmm: bool = False) -> dict[str, Any]:
    """Method and cutoff: all pairs, a plain cutoff, or, in a box, PME.

    The cutoff of PME is 1 nm unless the settings say another one; for `charmm` 1.2 nm with a switch from 1.0 nm on.
    """
    if box_nm is not None and cutoff_nm is None and charmm:
        lengths = {"nonbondedCutoff": CHARMM_CUTOFF_NM, "switchDistance": CHARMM_SWITCH_NM}
        return {"nonbondedMethod": app.PME, **{name: nm * unit.nanometer for name, nm in lengths.items()}}
    if box_nm is not None:
        return {"nonbondedMethod": app.PME, "nonbondedCutoff": (cutoff_nm or PERIODIC_CUTOFF_NM) * unit.nanometer}
    if cutoff_nm is None:
        return {"nonbondedMethod": app.NoCutoff}
    return {"nonbondedMethod": app.CutoffNonPeriodic, "nonbondedCutoff": cutoff_nm * unit.nanometer}


def check_forces(system: openmm.System, name: str) -> None:
    """Raise an InputError if a force needs another integrator than a Langevin one."""
    for force in system.getForces():
        if isinstance(force, openmm.AndersenThermostat):
            raise InputError(
                f"{name} has a thermostat of its own, and a run keeps its temperature by a Langevin integrator: remove "
                "the AndersenThermostat"
            )
        if isinstance(force, openmm.DrudeForce):
            raise InputError(
                f"{name} has Drude particles, which need an integrator of their own: use a force field without them"
            )


def check_bonds(molecule: Molecule, system: openmm.System) -> None:
    """Refuse coordinates that hold other atoms than the topology, or the same in another order: bonds are torn."""
    shortest, longest = BOND_LENGTHS_NM
    bonds = [system.getConstraintParameters(i) for i in range(system.getNumConstraints())]
    for force in system.getForces():
        if isinstance(force, openmm.HarmonicBondForce):
            springs = [force.getBondParameters(i) for i in range(force.getNumBonds())]
            bonds += [spring[:3] for spring in springs if spring[3]._value >= LEAST_STIFFNESS]
    known = [(i, j, r.value_in_unit(unit.nanometer)) for i, j, r in bonds]
    known = [bond for bond in known if shortest < bond[2] < longest]
    if not known:
        return
    first, second, lengths = (np.array(column) for column in zip(*known, strict=True))
    vectors = molecule.positions_nm[second] - molecule.positions_nm[first]
    if molecule.box_nm is not None:
        for k in (2, 1, 0):  # reduced vectors: the nearest image
            vectors -= molecule.box_nm[k] * np.round(vectors[:, k : k + 1] / molecule.box_nm[k, k])
    distances = np.linalg.norm(vectors, axis=1)
    worst = int(np.argmax(distances - lengths))
    if distances[worst] - lengths[worst] > STRETCHED_NM:
        atoms = list(molecule.topology.atoms())
        names = [f"{a.name} of {a.residue.name}{a.residue.id}" for a in (atoms[first[worst]], atoms[second[worst]])]
        raise InputError(
            f"{molecule.files.coordinates} does not fit {molecule.files.said_by}: {names[0]} and {names[1]} are "
            f"bonded, and {distances[worst]:.2f} nm apart: give the coordinates that were written with it, with the "
            "same atoms in the same order"
        )


def _check_width(system: openmm.System, box_nm: np.ndarray, path: Path) -> None:
    """Raise an InputError if the box is narrower than two cutoffs."""
    forces = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce | openmm.CustomNonbondedForce)]
    cutoff = max((f.getCutoffDistance().value_in_unit(unit.nanometer) for f in forces), default=0.0)
    width = np.diag(box_nm).min()
    if width < 2.0 * cutoff:
        raise InputError(
            f"the box of {path} is {width:.2f} nm wide, too small for a cutoff of {cutoff:g} nm: make a larger one, or "
            f"set simulation.nonbonded_cutoff_nm below {width / 2.0:.2f}"
        )


def add_barostat(system: openmm.System, simulation: SimulationSection) -> None:
    """Keep the pressure at the temperature of the run, by the system's own barostat if it has one."""
    kelvin = simulation.temperature_kelvin
    own = [force for force in system.getForces() if isinstance(force, BAROSTATS)]
    for force in own:
        force.setDefaultTemperature(kelvin)
        if simulation.pressure_bar == 0:
            force.setFrequency(0)  # keep the volume
    if not own and simulation.pressure_bar > 0:
        system.addForce(openmm.MonteCarloBarostat(simulation.pressure_bar, kelvin, BAROSTAT_STEPS))


def seed_barostat(system: openmm.System, seed: int) -> None:
    """Make the barostat of the contexts that are made from now on repeat itself."""
    for force in system.getForces():
        if isinstance(force, BAROSTATS):
            force.setRandomNumberSeed(seed)


def _force_field(molecule: Molecule) -> Maker:
    def maker(simulation: SimulationSection, options: dict[str, Any]) -> openmm.System:  # noqa: ARG001
        check_implicit(molecule.files, molecule.box_nm is not None)
        return force_field(molecule.files).createSystem(molecule.topology, **options)

    return maker


def _box(files: MoleculeFiles, found: Coordinates) -> np.ndarray | None:
    """The box of the coordinates, or that of the settings in its place; None if the settings want none."""
    if files.solvent in ("implicit", "vacuum"):
        return None
    return found.box_nm if files.box_nm is None else np.diag(np.array(files.box_nm, np.float64))
