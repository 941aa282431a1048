"""The topologies of a run: one molecule, or the complexes of a systems table, each checked against the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app
from openmm.app.topology import Atom

from ..config.schema import Config
from ..errors import InputError
from ..structure.ligand_pose import LigandPose
from ..structure.periodic import bring_together, molecules_of
from .complexes import build_row, read_row
from .coordinates import bonds_of, read_coordinates, read_structure, whole
from .molecules import Molecule, check_bonds
from .prepared import Prepared
from .residues import is_ligand, is_protein
from .structures import Structures, build_system, check_same_residues, descriptor_atoms, load_structures


@dataclass(frozen=True)
class Topology:
    """One of a run's topologies, and what is needed to simulate it.

    Parameters
    ----------
    index, name
        Of the topology in the run.
    structures
        Its start and its descriptor atoms; the target is that of the run.
    pose
        The ligand, and where its files have it; None for a molecule without one.
    build
        Makes its System.
    relaxed
        The minimised start by platform, nm, once an engine has found it: the engines of a rank share it.
    """

    index: int
    name: str
    structures: Structures
    pose: LigandPose | None
    build: Callable[[], openmm.System]
    relaxed: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.structures.positions_nm)

    def prepared(self, *, simulated: bool) -> Prepared:
        """What other ranks need of it; of one that is `simulated` also its System."""
        xml = openmm.XmlSerializer.serialize(self.system) if simulated else None
        return Prepared(self.index, self.name, self.structures.particles(), self.pose, xml)

    def atoms(self) -> dict[str, Any]:
        """Which atoms are which, by their index: what is written beside its PDB file."""
        found = {
            "topology": self.index,
            "name": self.name,
            "n_atoms": self.n_atoms,
            "descriptor": self.structures.descriptor.tolist(),
        }
        if self.pose is not None:
            found["ligand_heavy_atoms"] = self.pose.ligand.tolist()
            found["protein_heavy_atoms"] = self.pose.receptor.tolist()
        return found

    @cached_property
    def system(self) -> openmm.System:
        """The System, built once."""
        return self.build()


def load_topology(config: Config, index: int, target_nm: np.ndarray | None = None) -> Topology:
    """Topology number `index` of a run.

    Parameters
    ----------
    target_nm
        Descriptor atoms of the target, nm, shape (n, 3), as :func:`check_topologies` found it for the run.

    Raises
    ------
    InputError
        If its files cannot be used: the sentence names the row.
    """
    system, simulation = config.system, config.simulation
    if not system.complexes:
        structures = load_structures(system)
        return Topology(0, system.name, structures, None, lambda: build_system(structures, simulation, system))
    if not 0 <= index < len(system.complexes):
        raise InputError(f"there is no topology {index}: the run has {len(system.complexes)}")
    row = system.complexes[index]
    with of_row(config, index):
        molecule, ligand = read_row(row, system)
        ligand = _ligand_atoms(molecule.topology, row.ligand_residues) if ligand is None else ligand
        if not len(ligand):
            raise InputError(
                "it has no ligand: all of its residues are protein, water or ions; name the ligand's in ligand_residues"
            )
        structures = _structures(molecule, config, ligand, target_nm)
        pose = _pose(molecule, structures.descriptor, ligand)
        if row.start is not None:
            structures = _started(structures, row.start)

    def build() -> openmm.System:
        with of_row(config, index):
            system = build_row(row, molecule, simulation)
            if row.start is not None:
                check_bonds(structures.molecule, system)
            return system

    return Topology(index, row.name, structures, pose, build)


@contextmanager
def of_row(config: Config, index: int) -> Iterator[None]:
    """Say of which row of the systems table an InputError speaks."""
    try:
        yield
    except InputError as error:
        name = config.system.complexes[index].name
        raise InputError(f"complex {name} (row {index + 1} of system.complexes): {error}") from error


def check_topologies(config: Config) -> Iterator[Topology]:
    """Every topology of a run, one after the other, checked; the target of the first is that of all.

    Raises
    ------
    InputError
        If files cannot be used, proteins differ, or a box is too small for the cutoff.
    """
    first: Topology | None = None
    target_nm = None
    for index in range(len(config.system.topologies)):
        found = load_topology(config, index, target_nm)
        if config.system.complexes:
            if first is None:
                target_nm = _target(config, found)
                found = replace(found, structures=replace(found.structures, target_nm=target_nm))
            with of_row(config, index):
                _check_protein(found, first or found)
            found.system  # noqa: B018 - building it checks force field and box
        first = first or found
        yield found


def _target(config: Config, first: Topology) -> np.ndarray:
    """Descriptor atoms of the target, nm: of the file that is named, else of the first complex's files."""
    path = config.system.target
    if path is None:
        return first.structures.target_nm
    found, topology = read_structure(path)
    positions = whole(found, topology)
    expected = descriptor_atoms(topology, config.system.descriptor, path)
    check_same_residues(_atoms(first), expected, ("the complexes", first.name), ("target", path))
    return positions[[a.index for a in expected]]


def _atoms(topology: Topology) -> list[Atom]:
    every = list(topology.structures.topology.atoms())
    return [every[i] for i in topology.structures.descriptor]


def _check_protein(found: Topology, first: Topology) -> None:
    try:
        check_same_residues(
            _atoms(found),
            _atoms(first),
            ("it", found.name),
            (f"complex {first.name} (row {first.index + 1})", first.name),
        )
    except InputError as error:
        raise InputError(f"{error}: all complexes must have the same protein, run the others separately") from error


def _structures(molecule: Molecule, config: Config, ligand: np.ndarray, target_nm: np.ndarray | None) -> Structures:
    """The structures of a complex; its target is that of the run, or, if that is not known yet, its own."""
    atoms = _protein_descriptor(molecule.topology, config.system.descriptor, ligand)
    descriptor = np.array([a.index for a in atoms])
    x = molecule.positions_nm
    molecules = molecules_of(len(x), bonds_of(molecule.topology))[descriptor]
    if target_nm is None:
        target_nm = bring_together(x[descriptor], molecules, _box(molecule))
    return Structures(
        molecule.topology, x, descriptor, target_nm, tuple(a.residue.name for a in atoms), molecule, molecules
    )


def _box(molecule: Molecule) -> np.ndarray:
    return np.zeros((3, 3)) if molecule.box_nm is None else molecule.box_nm


def _started(structures: Structures, path: Path) -> Structures:
    """The structures of a complex with a start of its own."""
    found, molecule = read_coordinates(path), structures.molecule
    if len(found.positions_nm) != len(structures.positions_nm):
        raise InputError(
            f"its start {path} has {len(found.positions_nm)} atoms, and it has "
            f"{len(structures.positions_nm)}: give one of the same complex"
        )
    if molecule.box_nm is None and found.box_nm is not None and molecule.files.solvent == "auto":
        raise InputError(
            f"its start {path} has a box, and it is not periodic: take the box out of the start, or set "
            "its solvent to implicit or vacuum"
        )
    box = molecule.box_nm if molecule.box_nm is None or found.box_nm is None else found.box_nm
    files = replace(molecule.files, coordinates=path)
    molecule = replace(molecule, files=files, positions_nm=found.positions_nm, box_nm=box)
    return replace(structures, positions_nm=found.positions_nm, molecule=molecule)


def _ligand_atoms(topology: app.Topology, names: list[str]) -> np.ndarray:
    """Indices of the atoms of the residues with these names or ids; by default, of those that can be a ligand."""
    residues = list(topology.residues())
    if names:
        missing = [n for n in names if not any(n in (r.name, r.id) for r in residues)]
        if missing:
            raise InputError(f"it has no residue {missing[0]}: correct ligand_residues")
        chosen = [r for r in residues if r.name in names or r.id in names]
    else:
        chosen = [r for r in residues if is_ligand(r)]
    return np.array([a.index for r in chosen for a in r.atoms()], int)


def _protein_descriptor(topology: app.Topology, chosen: list[str] | list[int] | str, ligand: np.ndarray) -> list[Atom]:
    atoms, of_ligand = descriptor_atoms(topology, chosen, "it"), set(ligand.tolist())
    atoms = [a for a in atoms if a.index not in of_ligand]
    if len(atoms) < 3:
        raise InputError(
            f"it has {len(atoms)} descriptor atoms besides its ligand, and 3 are needed: correct it, "
            "ligand_residues or system.descriptor"
        )
    return atoms


def _pose(molecule: Molecule, descriptor: np.ndarray, ligand: np.ndarray) -> LigandPose:
    of_ligand = set(ligand.tolist())
    heavy = [a for a in molecule.topology.atoms() if a.element is None or a.element.symbol != "H"]
    atoms = np.array([a.index for a in heavy if a.index in of_ligand], int)
    if not len(atoms):
        raise InputError("its ligand has no heavy atoms: correct ligand_residues")
    receptor = np.array([a.index for a in heavy if is_protein(a.residue) and a.index not in of_ligand])
    return LigandPose.at(molecule.positions_nm, descriptor, receptor, atoms, _box(molecule))
