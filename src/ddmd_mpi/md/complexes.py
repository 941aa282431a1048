"""The complexes of a systems table: read from the files of a row, or made of a protein and a ligand."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openmm
from openmm import app, unit

from ..config.dynamics import ComplexRow, SimulationSection, SystemSection
from ..errors import InputError
from ..rundir.files import sha256_of
from ..structure.ligand_pose import place
from .coordinates import box_array, located, read_structure, whole
from .force_fields import force_field
from .molecule_files import MoleculeFiles, kind_of
from .molecules import Molecule, build_molecule, load_molecule
from .residues import is_amino_acid, is_protein

#: Villin HP35, folded, in a box of water: it comes with OpenMM.
VILLIN = Path(app.__file__).parent / "data" / "test.pdb"
CLEARANCE_NM = 0.22  # about the distance at which two hydrogen atoms start to repel each other


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
    if row.ligand is not None and system.start is not None:
        fields = _fields(row, system)
        made = _from_parts(
            Source.of(row.ligand),
            Source.of(located(system.start)),
            tuple(system.site),
            tuple(Source.of(Path(name)) for name in fields),
            row.water_edge_nm,
        )
        files = MoleculeFiles(row.ligand, force_field=fields)
        return made._replace(molecule=replace(made.molecule, files=files))
    if row.coordinates is None:
        raise InputError("it has neither coordinates nor a ligand and a protein: correct the row")
    files = MoleculeFiles(
        row.coordinates,
        row.topology,
        tuple(row.parameters),
        _fields(row, system),
        row.solvent,
        tuple(row.box_nm) if row.box_nm else None,
    )
    return RowFiles(load_molecule(files), None)


def build_row(row: ComplexRow, molecule: Molecule, simulation: SimulationSection) -> openmm.System:
    """The system of a row. A finished System keeps the cutoff and the masses that it has.

    Raises
    ------
    InputError
        If it cannot be built, or its box is too small for the cutoff.
    """
    if kind_of(molecule.files.topology) == "OpenMM":
        simulation = replace(simulation, nonbonded_cutoff_nm=None, hydrogen_mass_amu=None)
    elif row.nonbonded_cutoff_nm is not None:
        simulation = replace(simulation, nonbonded_cutoff_nm=row.nonbonded_cutoff_nm)
    return build_molecule(molecule, simulation)


@dataclass(frozen=True)
class Source:
    """A file, equal to any other with the same content; a force field that is not a file counts by its name."""

    digest: str
    path: Path = field(compare=False)

    @classmethod
    def of(cls, path: Path) -> Source:
        """The file `path`."""
        try:
            return cls(sha256_of(path) if path.is_file() else str(path), path)
        except OSError:  # the reader of the file reports it
            return cls(str(path), path)


@lru_cache(maxsize=16)
def _from_parts(
    ligand: Source, start: Source, site: tuple[str, ...], fields: tuple[Source, ...], water_edge_nm: float | None
) -> RowFiles:
    """Make a complex, which takes seconds in water; the check of a run and the walkers on its rank share it."""
    protein = read_protein(start.path)
    found = complex_of(protein, read_ligand(ligand.path), site)
    n_protein, n_atoms = len(protein.positions_nm), len(found.positions_nm)
    files = MoleculeFiles(ligand.path, force_field=tuple(str(source.path) for source in fields))
    if water_edge_nm is not None:
        try:
            found = solvated(found, force_field(files), water_edge_nm)
        except (ValueError, KeyError) as error:
            raise InputError(
                f"it cannot be solvated: {str(error).splitlines()[0]}; add the force field of the water, "
                "for example tip3p.xml, to its force_field"
            ) from error
    box = box_array(found.topology.getPeriodicBoxVectors())
    return RowFiles(Molecule(files, found.topology, found.positions_nm, box), np.arange(n_protein, n_atoms))


def _fields(row: ComplexRow, system: SystemSection) -> tuple[str, ...]:
    return tuple(system.force_field if row.force_field is None else row.force_field)


class Atoms(NamedTuple):
    """Topology and positions, nm, shape (n_atoms, 3); the topology has box vectors if it is periodic."""

    topology: app.Topology
    positions_nm: np.ndarray


@lru_cache(maxsize=1)
def read_protein(path: Path = VILLIN) -> Atoms:
    """The protein of a PDB file, without its water, ions and cell, centred; all complexes of a run share it.

    Raises
    ------
    InputError
        If the file cannot be read or holds no protein.
    """
    found, topology = read_structure(path)
    others = [r for r in topology.residues() if not is_protein(r)]
    if not any(is_amino_acid(r) for r in topology.residues()):
        raise InputError(f"{path} holds no protein: name a file that does")
    modeller = app.Modeller(topology, whole(found, topology) * unit.nanometer)
    modeller.topology.setPeriodicBoxVectors(None)
    modeller.delete(others)
    return _centred(modeller)


def read_ligand(path: Path) -> Atoms:
    """The ligand of a PDB file.

    Raises
    ------
    InputError
        If the file cannot be read, or has a cell: the complex that is made would not have it.
    """
    found, topology = read_structure(path)
    if found.box_nm is not None:
        edges = " x ".join(f"{edge:.2f}" for edge in np.diag(found.box_nm))
        raise InputError(
            f"the ligand {path} has a cell ({edges} nm), which would not be used: remove it (the CRYST1 record of a "
            "PDB file); water_edge_nm makes a box of water"
        )
    return Atoms(topology, found.positions_nm)


def complex_of(protein: Atoms, ligand: Atoms, site: tuple[str, ...]) -> Atoms:
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


def solvated(
    molecule: Atoms, force_field: app.ForceField, edge_nm: float | None = None, padding_nm: float | None = None
) -> Atoms:
    """The molecule in a cube of TIP3P water with the ions that make it neutral: the same at every call.

    Parameters
    ----------
    force_field
        One that knows the molecule, the water and the ions.
    edge_nm, padding_nm
        Edge of the box, or the least distance of the molecule from it.
    """
    modeller = app.Modeller(molecule.topology, molecule.positions_nm * unit.nanometer)
    size = {"padding": padding_nm} if edge_nm is None else {"boxSize": openmm.Vec3(edge_nm, edge_nm, edge_nm)}
    with seeded():
        modeller.addSolvent(force_field, model="tip3p", **size)
    return Atoms(modeller.topology, _positions(modeller))


@contextmanager
def seeded() -> Iterator[None]:
    """Python's random numbers from a fixed seed, for OpenMM's Modeller: it places ions and hydrogens with them."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)


def _centred(modeller: app.Modeller) -> Atoms:
    x = _positions(modeller)
    return Atoms(modeller.topology, x - x.mean(axis=0))


def _positions(modeller: app.Modeller) -> np.ndarray:
    return np.array(modeller.positions.value_in_unit(unit.nanometer), np.float64)
