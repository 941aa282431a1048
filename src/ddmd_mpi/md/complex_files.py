"""The files of one row of the systems table as a molecule, and the system that is built of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import openmm

from ..errors import InputError
from ..sections import ComplexRow, SimulationSection, SystemSection
from . import complexes
from .complexes import complex_of, read_protein, solvated
from .coordinates import box_array, located, read_pdb
from .molecules import Molecule, MoleculeFiles, build_molecule, force_field, kind_of, load_molecule


class RowFiles(NamedTuple):
    """A row's molecule; ``ligand`` has the indices of the ligand's atoms if the row's form says them."""

    molecule: Molecule
    ligand: np.ndarray | None


def read_row(row: ComplexRow, system: SystemSection) -> RowFiles:
    """Read the files of a row.

    Raises
    ------
    InputError
        If one is missing, cannot be read, or does not fit the others.
    """
    for path in (row.coordinates, row.topology, row.ligand, row.start):
        if path is not None and not located(path).is_file():
            raise InputError(f"the file {path} does not exist: correct the row")
    if row.ligand is not None:
        return _from_parts(row, system)
    files = MoleculeFiles(row.coordinates, row.topology, tuple(row.parameters), _fields(row, system), row.solvent,
                          row.box_nm and tuple(row.box_nm))
    return RowFiles(load_molecule(files), None)


def build_row(row: ComplexRow, molecule: Molecule, simulation: SimulationSection) -> openmm.System:
    """The system of a row. A finished System keeps the cutoff and the masses that it has.

    Raises
    ------
    InputError
        If it cannot be built, or its box is too small for the cutoff.
    """
    changes = {"nonbonded_cutoff_nm": row.nonbonded_cutoff_nm or simulation.nonbonded_cutoff_nm}
    if kind_of(molecule.files.topology) == "OpenMM":
        changes = {"nonbonded_cutoff_nm": None, "hydrogen_mass_amu": None}
    return build_molecule(molecule, simulation.model_copy(update=changes))


def _from_parts(row: ComplexRow, system: SystemSection) -> RowFiles:
    protein = read_protein(located(system.start))
    found = complex_of(protein, complexes.Molecule(*read_pdb(row.ligand)), tuple(system.site))
    n_protein, n_atoms = len(protein.positions_nm), len(found.positions_nm)
    files = MoleculeFiles(row.ligand, force_field=_fields(row, system))
    if row.water_edge_nm is not None:
        try:
            found = solvated(found, force_field(files), row.water_edge_nm)
        except (ValueError, KeyError) as error:
            raise InputError(f"it cannot be put into water: {str(error).splitlines()[0]}; add the water's force field, "
                             "tip3p.xml say, to its force_field") from error
    box = box_array(found.topology.getPeriodicBoxVectors())
    return RowFiles(Molecule(files, found.topology, found.positions_nm, box), np.arange(n_protein, n_atoms))


def _fields(row: ComplexRow, system: SystemSection) -> tuple[str, ...]:
    return tuple(system.force_field if row.force_field is None else row.force_field)
