"""Whether the structure that names LAMMPS's atoms has them in the order of their ids in the data file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .lammps_files import Data

if TYPE_CHECKING:
    from openmm.app.topology import Atom

#: Chemical bonds, nm, and how much longer than in the data file one may be in the structure.
BOND_LENGTHS_NM, STRETCHED_NM = (0.05, 0.25), 0.07
#: Of a hydrogen, repartitioned or not; and how much lighter than its element another atom may be, amu.
HYDROGEN_AMU, HEAVIEST_HYDROGEN_AMU, LIGHTER_AMU = 1.008, 4.7, 0.35
#: Some files bond the hydrogens of water to each other.
HYDROGEN_BONDS = 2


def check_order(data: Data, atoms: list[Atom], positions_nm: np.ndarray, box_nm: np.ndarray | None) -> None:
    """Compare the elements with the masses, and the bonds with those of the data file.

    Parameters
    ----------
    atoms, positions_nm, box_nm
        Of the structure: positions (n_atoms, 3) nm, box vectors (3, 3) nm or None.

    Raises
    ------
    ValueError
        Naming the first atom that is another one, or the most torn bond.
    """
    hydrogens = _hydrogens(data)
    for atom, mass, light in zip(atoms, _without_repartitioning(data, hydrogens), hydrogens, strict=True):
        if atom.element is None:
            continue
        is_hydrogen, expected = atom.element.symbol == "H", atom.element.mass._value
        if is_hydrogen != light or mass < expected - LIGHTER_AMU:
            raise ValueError(f"atom {atom.index + 1} is {_name(atom)} there, and has a mass of {mass:.2f} amu here")
    edges = None if box_nm is None else np.diag(box_nm)
    reference, found = _lengths(data.positions_nm, data.bonds, data.edges_nm), _lengths(positions_nm, data.bonds, edges)
    shortest, longest = BOND_LENGTHS_NM
    stretched = np.where((shortest < reference) & (reference < longest), found - reference, 0.0)
    worst = int(np.argmax(stretched)) if len(stretched) else -1
    if worst >= 0 and stretched[worst] > STRETCHED_NM:
        first, second = (_name(atoms[i]) for i in data.bonds[worst])
        raise ValueError(f"{first} and {second} are bonded here, and {found[worst]:.2f} nm apart there")


def _hydrogens(data: Data) -> np.ndarray:
    """Which atoms are hydrogens, shape (n_atoms,): a repartitioned carbon may be as light, but has more bonds."""
    n_bonds = np.bincount(data.bonds.ravel(), minlength=len(data.masses))
    return (data.masses < HEAVIEST_HYDROGEN_AMU) & (n_bonds <= HYDROGEN_BONDS)


def _without_repartitioning(data: Data, hydrogens: np.ndarray) -> np.ndarray:
    """Masses, amu, shape (n_atoms,), with the repartitioned mass of hydrogens returned to their heavy atoms."""
    masses = data.masses.copy()
    for first, second in (data.bonds.T, data.bonds.T[::-1]):
        given = np.where(hydrogens[second] & ~hydrogens[first], data.masses[second] - HYDROGEN_AMU, 0.0)
        np.add.at(masses, first, given)
    return masses


def _lengths(positions_nm: np.ndarray, bonds: np.ndarray, edges_nm: np.ndarray | None) -> np.ndarray:
    """Lengths of bonds to the nearest image, nm, shape (n_bonds,)."""
    apart = positions_nm[bonds[:, 1]] - positions_nm[bonds[:, 0]]
    if edges_nm is not None:
        apart = apart - edges_nm * np.rint(apart / edges_nm)
    return np.linalg.norm(apart, axis=1)


def _name(atom: Atom) -> str:
    return f"{atom.name} of {atom.residue.name}{atom.residue.id}"
