"""The molecule's structures: start, target and descriptor atoms, read from PDB files and checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from openmm import app, unit
from openmm.app.topology import Atom

from ..errors import InputError
from ..sections import SystemSection
from ..structure.rmsd import superposed_rmsd

SAME_STRUCTURE_NM = 0.05
#: What OpenMM raises for a file that is no PDB file.
PDB_ERRORS = (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError, AssertionError)
#: Standard amino acids, and the names of their protonation states and cross-links -> the standard name.
STANDARD = {
    "ALA": "ALA", "ARG": "ARG", "ASN": "ASN", "ASP": "ASP", "CYS": "CYS", "GLN": "GLN", "GLU": "GLU", "GLY": "GLY",
    "HIS": "HIS", "ILE": "ILE", "LEU": "LEU", "LYS": "LYS", "MET": "MET", "PHE": "PHE", "PRO": "PRO", "SER": "SER",
    "THR": "THR", "TRP": "TRP", "TYR": "TYR", "VAL": "VAL", "ASH": "ASP", "CYM": "CYS", "CYX": "CYS", "GLH": "GLU",
    "HID": "HIS", "HIE": "HIS", "HIP": "HIS", "HSD": "HIS", "HSE": "HIS", "HSP": "HIS", "LYN": "LYS", "MSE": "MET",
}  # fmt: skip


@dataclass(frozen=True)
class Structures:
    """The molecule as it starts, and the target of its descriptor atoms.

    Parameters
    ----------
    topology
        OpenMM topology of the start.
    positions_nm
        The start, nm, shape (n_atoms, 3), float64.
    descriptor
        Indices of the descriptor atoms, shape (n,).
    target_nm
        Their positions in the target, nm, shape (n, 3).
    residue_names
        Names of their residues.
    """

    topology: app.Topology
    positions_nm: np.ndarray
    descriptor: np.ndarray
    target_nm: np.ndarray
    residue_names: tuple[str, ...]


def load_structures(system: SystemSection) -> Structures:
    """Read and check the start and the target that `system` names; of several models the first counts.

    Raises
    ------
    InputError
        A file is missing or unreadable, holds no descriptor atoms, the two hold different residues, or the target is
        the start.
    """
    start, start_nm = read_pdb(system.start)
    target, target_nm = read_pdb(system.target)
    atoms = descriptor_atoms(start, system.descriptor, system.start)
    target_atoms = descriptor_atoms(target, system.descriptor, system.target)
    _check_same_residues(atoms, target_atoms, system)
    descriptor = np.array([a.index for a in atoms])
    target_nm = target_nm[[a.index for a in target_atoms]]
    rmsd = superposed_rmsd(start_nm[descriptor], target_nm)
    if rmsd < SAME_STRUCTURE_NM:
        raise InputError(
            f"the target {system.target} equals the start {system.start} (RMSD {10 * rmsd:.2f} angstrom): "
            "set system.target to the structure to be reached"
        )
    return Structures(start, start_nm, descriptor, target_nm, tuple(a.residue.name for a in atoms))


def read_pdb(path: Path) -> tuple[app.Topology, np.ndarray]:
    """Topology and positions, nm, shape (n_atoms, 3), of the first model of a PDB file."""
    if not path.is_file():
        raise InputError(f"the structure {path} does not exist: correct system.start or system.target")
    try:
        pdb = app.PDBFile(str(path))
        positions = np.asarray(pdb.getPositions(asNumpy=True, frame=0).value_in_unit(unit.nanometer), np.float64)
    except PDB_ERRORS as error:
        raise InputError(f"{path} cannot be read as a PDB file: {error}") from error
    if positions.ndim != 2 or len(positions) == 0:
        raise InputError(f"{path} holds no atoms: a PDB file is expected")
    if not np.isfinite(positions).all():
        raise InputError(f"{path} holds positions that are not finite: correct the file")
    pdb.topology.setPeriodicBoxVectors(None)  # The systems here are not periodic; a crystal's cell is no box.
    return pdb.topology, positions


def descriptor_atoms(topology: app.Topology, names: list[str], path: Path) -> list[Atom]:
    """Atoms of protein residues whose name is in `names`, in the order of the file."""
    found = [a for a in topology.atoms() if a.name in names and a.residue.name in STANDARD]
    if not found:
        raise InputError(f"{path} holds no {' or '.join(names)} atoms of a protein: correct it or system.descriptor")
    return found


def _check_same_residues(start: list[Atom], target: list[Atom], system: SystemSection) -> None:
    """Raise an InputError that names the first descriptor atom at which the two differ."""
    for i, (a, b) in enumerate(zip(start, target, strict=False)):
        if (a.name, STANDARD[a.residue.name]) != (b.name, STANDARD[b.residue.name]):
            raise InputError(
                f"start and target hold different residues: descriptor atom {i + 1} is {a.name} of "
                f"{a.residue.name}{a.residue.id} in {system.start} and {b.name} of {b.residue.name}{b.residue.id} "
                f"in {system.target}"
            )
    if len(start) != len(target):
        raise InputError(
            f"start and target hold different residues: {len(start)} descriptor atoms in {system.start}, "
            f"{len(target)} in {system.target}"
        )
