"""Coordinates from the files of OpenMM, AMBER, CHARMM and GROMACS."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from openmm import app, unit

from ..errors import InputError
from ..sections import OF_OPENMM
from .foreign import OPENMM_DATA, check_positions, reading

#: Cells up to this edge are no cells: 1 angstrom stands for "none" in PDB files of microscopy and NMR.
NO_CELL_NM = 0.11
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
    """Topology and positions, nm, shape (n_atoms, 3), of the first model of a PDB or mmCIF file; a cell is no box."""
    found = read_coordinates(path)
    if found.topology is None:
        raise InputError(f"{path} does not name its atoms: a PDB or mmCIF file is expected")
    found.topology.setPeriodicBoxVectors(None)
    return found.topology, found.positions_nm


def box_array(vectors: object) -> np.ndarray | None:
    """Box vectors of OpenMM in its reduced form, nm, shape (3, 3), one a row; None for none and for a cell of 1 Å."""
    if vectors is None:
        return None
    box = np.array([[float(x) for x in row] for row in unit.Quantity(vectors).value_in_unit(unit.nanometer)]
                   if unit.is_quantity(vectors) else vectors, np.float64)
    if box.shape != (3, 3) or not np.isfinite(box).all() or np.diag(box).min() <= NO_CELL_NM:
        return None
    box[2] -= box[1] * np.round(box[2, 1] / box[1, 1])
    box[2] -= box[0] * np.round(box[2, 0] / box[0, 0])
    box[1] -= box[0] * np.round(box[1, 0] / box[0, 0])
    return box


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
