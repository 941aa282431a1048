"""The molecule's structures: start, target and descriptor atoms, read from files and checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from openmm import app
from openmm.app.topology import Atom

from ..errors import InputError
from ..sections import SystemSection
from ..structure.periodic import bring_together, make_whole, molecules_of
from ..structure.rmsd import superposed_rmsd
from .coordinates import read_coordinates
from .molecules import Molecule, MoleculeFiles, bonds_of, kind_of, load_molecule
from .selection import STANDARD, select

SAME_STRUCTURE_NM = 0.05
MOST_DESCRIPTOR_ATOMS = 65_535  # columns of contacts are uint16

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
    molecule
        Where topology and start are from.
    molecules
        Index of the molecule of each descriptor atom, shape (n,): the box may part different ones.
    """

    topology: app.Topology
    positions_nm: np.ndarray
    descriptor: np.ndarray
    target_nm: np.ndarray
    residue_names: tuple[str, ...]
    molecule: Molecule
    molecules: np.ndarray

    @property
    def box_nm(self) -> np.ndarray:
        """Box vectors of the start, nm, shape (3, 3), float32; zero for none."""
        box = self.molecule.box_nm
        return np.zeros((3, 3), np.float32) if box is None else box.astype(np.float32)


def load_structures(system: SystemSection) -> Structures:
    """Read and check the start and the target that `system` names; of several models the first counts.

    Raises
    ------
    InputError
        A file is missing or unreadable, holds no descriptor atoms, the two hold different residues, or the target is
        the start.
    """
    molecule = load_molecule(MoleculeFiles.of(system))
    start, start_nm = molecule.topology, molecule.positions_nm
    target, target_nm = target_structure(system, molecule)
    atoms = descriptor_atoms(start, system.descriptor, system.start)
    aims = target_atoms(target, len(atoms), system)
    check_same_residues(atoms, aims, ("start", system.start), ("target", system.target))
    descriptor = np.array([a.index for a in atoms])
    target_nm = target_nm[[a.index for a in aims]]
    molecules = molecules_of(len(start_nm), bonds_of(start))[descriptor]
    box = np.zeros((3, 3)) if molecule.box_nm is None else molecule.box_nm
    rmsd = superposed_rmsd(bring_together(start_nm[descriptor], molecules, box), target_nm)
    if rmsd < SAME_STRUCTURE_NM:
        raise InputError(
            f"the target {system.target} equals the start {system.start} (RMSD {10 * rmsd:.2f} angstrom): "
            "set system.target to the structure to be reached"
        )
    names = tuple(a.residue.name for a in atoms)
    return Structures(start, start_nm, descriptor, target_nm, names, molecule, molecules)


def target_structure(system: SystemSection, molecule: Molecule) -> tuple[app.Topology, np.ndarray]:
    """Topology and positions, nm, of the target: a PDB file, or coordinates that go with the start's topology."""
    found = read_coordinates(system.target, charmm=kind_of(system.topology) == "CHARMM")
    if found.topology is not None:
        return found.topology, found.positions_nm
    n_atoms = len(molecule.positions_nm)
    if len(found.positions_nm) != n_atoms:
        raise InputError(f"the target {system.target} has {len(found.positions_nm)} atoms and the start has {n_atoms}: "
                         "give coordinates of the same atoms, or a PDB file")
    box = None if molecule.box_nm is None else found.box_nm
    bonds = bonds_of(molecule.topology)
    return molecule.topology, found.positions_nm if box is None else make_whole(found.positions_nm, bonds, box)


def descriptor_atoms(topology: app.Topology, descriptor: list[str] | list[int] | str, path: Path) -> list[Atom]:
    """The descriptor atoms, in the order of the file.

    Parameters
    ----------
    topology
        What is chosen from.
    descriptor
        Names of atoms of a protein; indices of atoms, counted from 0; or a selection, see :mod:`.selection`.
    path
        The file, for messages.
    """
    if isinstance(descriptor, str):
        found = select(topology, descriptor)
        what = f"atoms that are {descriptor!r}"
    elif isinstance(descriptor[0], int):
        found = _by_index(topology, descriptor, path)
        what = "atoms of these indices"
    else:
        found = [a for a in topology.atoms() if a.name in descriptor and a.residue.name in STANDARD]
        what = f"{' or '.join(descriptor)} atoms of a protein"
    if not found:
        raise InputError(f"{path} holds no {what}: correct it or system.descriptor")
    if len(found) > MOST_DESCRIPTOR_ATOMS:
        raise InputError(f"{path} holds {len(found)} {what}, and frames have room for {MOST_DESCRIPTOR_ATOMS}: choose "
                         "fewer with system.descriptor")
    return found


def _by_index(topology: app.Topology, indices: list[int], path: Path) -> list[Atom]:
    atoms = list(topology.atoms())
    if max(indices) >= len(atoms):
        raise InputError(f"{path} has {len(atoms)} atoms, and system.descriptor asks for atom {max(indices)}: "
                         "indices are counted from 0")
    return [atoms[i] for i in sorted(set(indices))]


def target_atoms(topology: app.Topology, n: int, system: SystemSection) -> list[Atom]:
    """The descriptor atoms of the target; a target that holds just as many atoms holds them and no others."""
    if isinstance(system.descriptor, str) or isinstance(system.descriptor[0], int):
        atoms = list(topology.atoms())
        if len(atoms) == n:
            return atoms
    return descriptor_atoms(topology, system.descriptor, system.target)


def _standard(atom: Atom) -> tuple[str, str]:
    return atom.name, STANDARD.get(atom.residue.name, atom.residue.name)


def check_same_residues(
    found: list[Atom], expected: list[Atom], mine: tuple[str, object], theirs: tuple[str, object]
) -> None:
    """Raise an InputError that names the first descriptor atom at which two structures differ.

    Parameters
    ----------
    found, expected
        Their descriptor atoms.
    mine, theirs
        What each is called, and where it is from.
    """
    said = f"{mine[0]} and {theirs[0]} hold different residues"
    for i, (a, b) in enumerate(zip(found, expected, strict=False)):
        if _standard(a) != _standard(b):
            raise InputError(
                f"{said}: descriptor atom {i + 1} is {a.name} of {a.residue.name}{a.residue.id} in {mine[1]} and "
                f"{b.name} of {b.residue.name}{b.residue.id} in {theirs[1]}"
            )
    if len(found) != len(expected):
        raise InputError(f"{said}: {len(found)} descriptor atoms in {mine[1]}, {len(expected)} in {theirs[1]}")
