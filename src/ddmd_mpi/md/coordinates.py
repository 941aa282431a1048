"""Coordinates from the files of OpenMM, AMBER, CHARMM and GROMACS."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from openmm import app, unit

from ..config.dynamics import OF_OPENMM
from ..errors import InputError
from ..structure.periodic import make_whole, molecules_of
from .trusted_files import OPENMM_DATA, check_positions, reading

#: Smaller cells are not cells: 1 angstrom means "none" in PDB files from microscopy and NMR.
NO_CELL_NM = 0.11
#: No bond is longer.
LONGEST_BOND_NM = 0.3
#: No C-alpha atom is farther from the next.
LONGEST_STEP_NM = 0.45
AMBER_SUFFIXES = (".inpcrd", ".rst7", ".rst", ".restrt", ".ncrst", ".crd")


class Coordinates(NamedTuple):
    """The first frame of a file: positions (n_atoms, 3) nm, box vectors (3, 3) nm or None, topology if it has one."""

    positions_nm: np.ndarray
    box_nm: np.ndarray | None
    topology: app.Topology | None


def read_coordinates(path: Path, *, charmm: bool = False) -> Coordinates:
    """Coordinates of the format that the suffix of `path` names; ``.crd`` is AMBER's unless `charmm`.

    Raises
    ------
    InputError
        If the file is missing, unknown or unreadable, holds no atoms, or positions that are not finite.
    """
    path = located(path)
    suffix = path.suffix.lower()
    if suffix in (".cor", ".crd") and charmm:
        found = _charmm(path)
    elif suffix in AMBER_SUFFIXES:
        found = _amber(path)
    elif suffix == ".gro":
        found = _gromacs(path)
    else:
        found = _structure(path)
    check_positions(found.positions_nm, path)
    return found


def located(path: Path) -> Path:
    """Where a file is: ``openmm:NAME`` is NAME in OpenMM's app/data, which nothing in NAME can lead out of."""
    name = str(path)
    return OPENMM_DATA / Path(name.removeprefix(OF_OPENMM)).name if name.startswith(OF_OPENMM) else path


def read_pdb(path: Path) -> tuple[app.Topology, np.ndarray]:
    """Topology and positions, nm, shape (n_atoms, 3), of the first model of a PDB or mmCIF file, without its cell."""
    found, topology = read_structure(path)
    topology.setPeriodicBoxVectors(None)
    return topology, found.positions_nm


def read_structure(path: Path) -> tuple[Coordinates, app.Topology]:
    """The first model of a PDB or mmCIF file, with its topology."""
    found = read_coordinates(path)
    if found.topology is None:
        raise InputError(f"{path} does not name its atoms: a PDB or mmCIF file is expected")
    return found, found.topology


def write_pdb(topology: app.Topology, positions_nm: np.ndarray, path: Path) -> None:
    """Write a PDB file; its residues keep their numbers, of five digits the last four.

    OpenMM writes numbers above 9,999 as hexadecimal ones, which MDAnalysis takes for no number: thousands of molecules
    of water become one residue.
    """
    long = {r: r.id for r in topology.residues() if len(r.id) > 4}
    try:
        for residue in long:
            number = int(residue.id) if residue.id.isdigit() else residue.index + 1
            residue.id = str(number % 10_000)
        with path.open("w") as file:
            app.PDBFile.writeFile(topology, positions_nm * unit.nanometer, file, keepIds=True)
    finally:
        for residue, name in long.items():
            residue.id = name


def bonds_of(topology: app.Topology) -> np.ndarray:
    """Pairs of bonded atoms, shape (n_bonds, 2)."""
    return np.array([(a.index, b.index) for a, b in topology.bonds()], int).reshape(-1, 2)


def molecules_in(topology: app.Topology) -> np.ndarray:
    """Index of the molecule of each atom, shape (n_atoms,); of a file with C-alpha atoms alone, of its chain."""
    bonds = bonds_of(topology)
    return molecules_of(topology.getNumAtoms(), bonds if len(bonds) else _neighbours(topology))


def whole(found: Coordinates, topology: app.Topology) -> np.ndarray:
    """Positions, nm, shape (n_atoms, 3), with the molecules put together that the file's box has cut.

    OpenMM bonds the residues on both sides of a gap in a chain, too: only atoms that are a bond's length apart in the
    nearest image are put together. Of a file with C-alpha atoms alone, the next ones in a chain count as bonded.
    """
    x, box = found.positions_nm, found.box_nm
    if box is None:
        return x
    bonds, longest = bonds_of(topology), LONGEST_BOND_NM
    if not len(bonds):
        bonds, longest = _neighbours(topology), LONGEST_STEP_NM
    apart = x[bonds[:, 1]] - x[bonds[:, 0]]
    nearest = apart - np.rint(apart @ np.linalg.inv(box)) @ box
    return make_whole(x, bonds[np.linalg.norm(nearest, axis=1) < longest], box)


def _neighbours(topology: app.Topology) -> np.ndarray:
    """Pairs of atoms that follow each other in a chain, shape (n, 2)."""
    chains = [[a.index for a in chain.atoms()] for chain in topology.chains()]
    return np.array([pair for atoms in chains for pair in pairwise(atoms)], int).reshape(-1, 2)


def box_array(vectors: object) -> np.ndarray | None:
    """Box vectors of OpenMM in its reduced form, nm, shape (3, 3), one a row; None for none and for a cell of 1 Å."""
    if vectors is None:
        return None
    rows = [_plain(row) for row in _plain(vectors)]  # OpenMM gives a Quantity of rows, or rows that are Quantities
    box = np.array([[float(x) for x in row] for row in rows], np.float64)
    if box.shape != (3, 3) or not np.isfinite(box).all() or np.diag(box).min() <= NO_CELL_NM:
        return None
    box[2] -= box[1] * np.round(box[2, 1] / box[1, 1])
    box[2] -= box[0] * np.round(box[2, 0] / box[0, 0])
    box[1] -= box[0] * np.round(box[1, 0] / box[0, 0])
    return box


def _plain(value: Any) -> Any:
    return value.value_in_unit(unit.nanometer) if unit.is_quantity(value) else value


def _structure(path: Path) -> Coordinates:
    if path.suffix.lower() in (".cif", ".pdbx", ".mmcif"):
        with reading(path, "an mmCIF file"):
            return _of_structure(app.PDBxFile(str(path)))
    with reading(path, "a PDB file"):
        return _of_structure(app.PDBFile(str(path)))


def _of_structure(file: app.PDBFile | app.PDBxFile) -> Coordinates:
    positions = np.asarray(file.getPositions(asNumpy=True, frame=0).value_in_unit(unit.nanometer), np.float64)
    return Coordinates(positions, box_array(file.topology.getPeriodicBoxVectors()), file.topology)


def _amber(path: Path) -> Coordinates:
    with reading(path, "AMBER coordinates (inpcrd, rst7)"):
        file = app.AmberInpcrdFile(str(path))
        return Coordinates(_nanometer(file.positions), box_array(file.boxVectors), None)


def _charmm(path: Path) -> Coordinates:
    with reading(path, "CHARMM coordinates (crd)"):
        return Coordinates(_nanometer(app.CharmmCrdFile(str(path)).positions), None, None)


def _gromacs(path: Path) -> Coordinates:
    with reading(path, "GROMACS coordinates (gro)"):
        file = app.GromacsGroFile(str(path))
        return Coordinates(_nanometer(file.positions), box_array(file.getPeriodicBoxVectors()), None)


def _nanometer(positions: unit.Quantity) -> np.ndarray:
    return np.array([tuple(x) for x in positions.value_in_unit(unit.nanometer)], np.float64)
