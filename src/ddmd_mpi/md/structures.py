"""The molecule's structures: start, target and descriptor atoms, read from files and checked against each other.

Their OpenMM system: the molecule under its force field, or a structure-based model of the target.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit
from openmm.app.topology import Atom

from ..config.dynamics import SimulationSection, SystemSection
from ..errors import InputError
from ..structure.periodic import bring_together, molecules_of
from ..structure.rmsd import superposed_rmsd
from .coordinates import Coordinates, bonds_of, read_coordinates, whole, write_pdb
from .go_model import go_system
from .molecule_files import MoleculeFiles, kind_of
from .molecules import Molecule, build_molecule, load_molecule
from .prepared import Particles
from .residues import is_amino_acid, standard
from .selection import select
from .starts import read_starts

SAME_STRUCTURE_NM = 0.05
SAME_CURE = (
    "give files of the same residues, or choose those that both have with system.descriptor, by a selection "
    'such as "name CA and resSeq 3 to 60"'
)
MAX_DESCRIPTOR_ATOMS = 65_535  # columns of contacts are uint16
UNKNOWN_MASS = 12.0  # amu, of beads and virtual sites


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
    starts
        Of walkers that have starts of their own, see :class:`.prepared.Particles`.
    """

    topology: app.Topology
    positions_nm: np.ndarray
    descriptor: np.ndarray
    target_nm: np.ndarray
    residue_names: tuple[str, ...]
    molecule: Molecule
    molecules: np.ndarray
    starts: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def box_nm(self) -> np.ndarray:
        """Box vectors of the start, nm, shape (3, 3), float32; zero for none."""
        box = self.molecule.box_nm
        return np.zeros((3, 3), np.float32) if box is None else box.astype(np.float32)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.positions_nm)

    @property
    def periodic(self) -> bool:
        """Whether frames have a box."""
        return self.topology.getPeriodicBoxVectors() is not None

    @property
    def masses(self) -> np.ndarray:
        """Of each atom, amu, shape (n_atoms,)."""
        elements = [atom.element for atom in self.topology.atoms()]
        return np.array([UNKNOWN_MASS if e is None else e.mass.value_in_unit(unit.dalton) for e in elements])

    @property
    def residues(self) -> np.ndarray:
        """Index of the residue of each atom, shape (n_atoms,)."""
        return np.array([atom.residue.index for atom in self.topology.atoms()])

    def particles(self) -> Particles:
        """What walkers need of it."""
        return Particles(
            self.positions_nm,
            self.descriptor,
            self.target_nm,
            self.molecules,
            self.box_nm,
            self.periodic,
            self.masses,
            self.residues,
            self.starts,
        )


def load_structures(system: SystemSection) -> Structures:
    """Read and check the start and the target that `system` names; of several models the first counts.

    Raises
    ------
    InputError
        A file is missing or unreadable, holds no descriptor atoms, the two hold different residues, the target is the
        start, or one of many starts has other atoms.
    """
    start_path, target_path = system.single
    molecule = load_molecule(MoleculeFiles.of(system))
    start, start_nm = molecule.topology, molecule.positions_nm
    target = target_structure(system, molecule)
    atoms = descriptor_atoms(start, system.descriptor, start_path)
    aims = target_atoms(target.topology, len(atoms), system)
    check_same_residues(atoms, aims, ("start", start_path), ("target", target_path))
    descriptor = np.array([a.index for a in atoms])
    target_nm = _aims_nm(target, aims)
    molecules = molecules_of(len(start_nm), bonds_of(start))[descriptor]
    box = np.zeros((3, 3)) if molecule.box_nm is None else molecule.box_nm
    rmsd = superposed_rmsd(bring_together(start_nm[descriptor], molecules, box), target_nm)
    if rmsd < SAME_STRUCTURE_NM:
        raise InputError(
            f"the target {target_path} equals the start {start_path} (RMSD {10 * rmsd:.2f} angstrom): "
            "set system.target to the structure that the run should reach"
        )
    names = tuple(a.residue.name for a in atoms)
    starts = None if system.starts is None else read_starts(system.starts, start)
    return Structures(start, start_nm, descriptor, target_nm, names, molecule, molecules, starts)


def target_structure(system: SystemSection, molecule: Molecule) -> Coordinates:
    """The target: a PDB file, or coordinates that go with the start's topology; its molecules are whole.

    It has a box if the molecule is periodic, too; else a cell is a crystal's.
    """
    _, path = system.single
    found = read_coordinates(path, charmm=kind_of(system.topology) == "CHARMM")
    n_atoms = len(molecule.positions_nm)
    if found.topology is None and len(found.positions_nm) != n_atoms:
        raise InputError(
            f"the target {path} has {len(found.positions_nm)} atoms and the start has {n_atoms}: "
            "give coordinates of the same atoms, or a PDB file"
        )
    topology = found.topology or molecule.topology
    return Coordinates(whole(found, topology), None if molecule.box_nm is None else found.box_nm, topology)


def _aims_nm(target: Coordinates, aims: list[Atom]) -> np.ndarray:
    """Positions of the target's descriptor atoms, nm, shape (n, 3), its molecules next to each other."""
    chosen = [a.index for a in aims]
    if target.box_nm is None:
        return target.positions_nm[chosen]
    molecules = molecules_of(len(target.positions_nm), bonds_of(target.topology))
    return bring_together(target.positions_nm[chosen], molecules[chosen], target.box_nm)


def descriptor_atoms(topology: app.Topology, descriptor: list[str] | list[int] | str, path: Path | str) -> list[Atom]:
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
        found = [a for a in topology.atoms() if a.name in descriptor and is_amino_acid(a.residue)]
        what = f"{' or '.join(descriptor)} atoms of a protein"
    if not found:
        raise InputError(f"{path} holds no {what}: correct it or system.descriptor")
    if len(found) > MAX_DESCRIPTOR_ATOMS:
        raise InputError(
            f"{path} holds {len(found)} {what}, and frames have room for {MAX_DESCRIPTOR_ATOMS}: choose "
            "fewer with system.descriptor"
        )
    return found


def _by_index(topology: app.Topology, indices: list[int], path: Path | str) -> list[Atom]:
    atoms = list(topology.atoms())
    if max(indices) >= len(atoms):
        raise InputError(
            f"{path} has {len(atoms)} atoms, and system.descriptor asks for atom {max(indices)}: "
            "indices are counted from 0"
        )
    return [atoms[i] for i in sorted(set(indices))]


def target_atoms(topology: app.Topology, n: int, system: SystemSection) -> list[Atom]:
    """The descriptor atoms of the target; a target that holds just as many atoms holds them and no others."""
    if isinstance(system.descriptor, str) or isinstance(system.descriptor[0], int):
        atoms = list(topology.atoms())
        if len(atoms) == n:
            return atoms
    return descriptor_atoms(topology, system.descriptor, system.single[1])


def _standard(atom: Atom) -> tuple[str, str]:
    return atom.name, standard(atom.residue.name)


def _modified(atoms: list[Atom]) -> str:
    """Name and number of the first modified amino acid of the structure of these atoms; empty if there is none."""
    from pdbfixer.pdbfixer import substitutions

    residues = atoms[0].residue.chain.topology.residues() if atoms else ()
    found = (r for r in residues if r.name in substitutions and not is_amino_acid(r))
    return next((f"{r.name}{r.id}" for r in found), "")


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
    for atoms, (_, where) in ((found, mine), (expected, theirs)):
        if len(found) != len(expected) and (modified := _modified(atoms)):
            raise InputError(
                f"{said}: {modified} of {where} is a modified residue, which is not in the descriptor: give it the "
                "name that it has in the other structure"
            )
    for i, (a, b) in enumerate(zip(found, expected, strict=False)):
        if _standard(a) != _standard(b):
            raise InputError(
                f"{said}: descriptor atom {i + 1} is {a.name} of {a.residue.name}{a.residue.id} in {mine[1]} and "
                f"{b.name} of {b.residue.name}{b.residue.id} in {theirs[1]}: {SAME_CURE}"
            )
    if len(found) != len(expected):
        raise InputError(
            f"{said}: {len(found)} descriptor atoms in {mine[1]}, {len(expected)} in {theirs[1]}: {SAME_CURE}"
        )


def write_topology(structures: Structures, path: Path) -> None:
    """Write the start as a PDB file: the topology that reads the trajectories."""
    write_pdb(structures.topology, structures.positions_nm, path)


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
