"""Complexes of one protein and one ligand, made from the two alone: merged, set down, and put into water."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openmm
from openmm import app, unit

from ..errors import InputError
from ..structure.ligands import place
from .coordinates import read_pdb
from .selection import STANDARD

#: Villin HP35, folded, in a box of water: it comes with OpenMM.
VILLIN = Path(app.__file__).parent / "data" / "test.pdb"
CLEARANCE_NM = 0.22  # about the distance at which two hydrogen atoms begin to repel each other
ION_SEED = 0


class Molecule(NamedTuple):
    """Topology and positions, nm, shape (n_atoms, 3); the topology has box vectors if it is periodic."""

    topology: app.Topology
    positions_nm: np.ndarray


def read_protein(path: Path = VILLIN) -> Molecule:
    """The protein of a PDB file, without its water and ions, centred.

    Raises
    ------
    InputError
        If the file cannot be read or holds no protein.
    """
    topology, positions = read_pdb(path)
    others = [r for r in topology.residues() if r.name not in STANDARD]
    if len(others) == topology.getNumResidues():
        raise InputError(f"{path} holds no protein: name a file that does")
    modeller = app.Modeller(topology, positions * unit.nanometer)
    modeller.delete(others)
    return _centred(modeller)


def complex_of(protein: Molecule, ligand: Molecule, site: tuple[str, ...]) -> Molecule:
    """Protein and ligand, which is set down on the protein's surface; the protein's atoms come first.

    Parameters
    ----------
    protein, ligand
        A flat ligand lies in its xy plane.
    site
        Ids of the protein's residues above whose common centre the ligand is set down.

    Raises
    ------
    InputError
        If the protein has none of these residues.
    """
    atoms = [a.index for a in protein.topology.atoms() if a.residue.id in site]
    if not atoms:
        raise InputError(f"the protein has no residue {' or '.join(site)}: correct the ligand's site")
    x = protein.positions_nm
    placed = place(ligand.positions_nm, x, x[atoms].mean(axis=0), CLEARANCE_NM)
    modeller = app.Modeller(protein.topology, x * unit.nanometer)
    modeller.add(ligand.topology, placed * unit.nanometer)
    return _centred(modeller)


def solvated(molecule: Molecule, force_field: app.ForceField, edge_nm: float) -> Molecule:
    """The molecule in a cube of TIP3P water with the ions that make it neutral: the same at every call.

    Parameters
    ----------
    force_field
        One that knows the molecule, the water and the ions.
    edge_nm
        Edge of the box.
    """
    modeller = app.Modeller(molecule.topology, molecule.positions_nm * unit.nanometer)
    state = random.getstate()
    random.seed(ION_SEED)  # Modeller chooses the water molecules that become ions with Python's generator.
    try:
        modeller.addSolvent(force_field, model="tip3p", boxSize=openmm.Vec3(edge_nm, edge_nm, edge_nm))
    finally:
        random.setstate(state)
    return Molecule(modeller.topology, _positions(modeller))


def _centred(modeller: app.Modeller) -> Molecule:
    x = _positions(modeller)
    return Molecule(modeller.topology, x - x.mean(axis=0))


def _positions(modeller: app.Modeller) -> np.ndarray:
    return np.array(modeller.positions.value_in_unit(unit.nanometer), np.float64)
