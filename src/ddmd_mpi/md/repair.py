"""A protein from a PDB file made ready for a force field: what is missing is added, what cannot be mended is named."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openmm
from openmm import app, unit
from openmm.app.topology import Residue

from ..errors import InputError
from .foreign import load_force_field, reading
from .selection import STANDARD, WATER

PH = 7.0
SEED = 1
BROKEN_NM = 0.25  # a peptide bond has 0.133
BACKBONE = {"N", "CA", "C"}
CAPS = {"ACE", "NME", "NH2"}
#: What crystals are grown from, and single ions: not part of the protein.
ADDITIVES = {
    "ACT", "BME", "CIT", "CL", "CL-", "CLA", "CO", "CS", "CU", "DMS", "DTT", "EDO", "EPE", "FMT", "GOL", "IOD", "K",
    "K+", "LI", "MES", "MG", "MN", "MPD", "NA", "NA+", "NH4", "NI", "NO3", "PEG", "PG4", "PGE", "PO4", "POT", "SCN",
    "SO4", "SOD", "TRS",
}  # fmt: skip


class Repaired(NamedTuple):
    """Topology, positions (n_atoms, 3) nm, and a sentence on each thing that was done."""

    topology: app.Topology
    positions_nm: np.ndarray
    notes: tuple[str, ...]


def repair(path: Path, force_field: list[str], drop: tuple[str, ...] = ()) -> Repaired:
    """The protein of a PDB or mmCIF file with all its atoms.

    Water, single ions and the additives of crystals go; residues named in `drop` go, too. Of alternate locations the
    first counts. Modified residues become their standard twins; heavy atoms and hydrogens (pH 7) that are missing are
    added. Residues that the file says are missing at the ends of a chain are left out.

    Raises
    ------
    InputError
        If PDBFixer is missing, the file cannot be read, holds no protein, or something in it cannot be mended.
    """
    try:
        import pdbfixer
    except ImportError as error:
        raise InputError(f"mending a PDB file needs PDBFixer ({error}): pip install pdbfixer") from error
    with reading(path, "a PDB file"):
        fixer = pdbfixer.PDBFixer(filename=str(path))
    changed = _replace(fixer)
    if changed:  # Atoms of modified residues had no bonds to the chain; a file of standard ones has them.
        text = io.StringIO()
        app.PDBFile.writeFile(fixer.topology, fixer.positions, text, keepIds=True)
        fixer = pdbfixer.PDBFixer(pdbfile=io.StringIO(text.getvalue()))
    notes = [*changed, *_remove(fixer, drop, path)]
    _check_chains(fixer, path)
    notes += _add_heavy_atoms(fixer)
    topology, positions, n_hydrogens = _add_hydrogens(fixer, force_field, path)
    if n_hydrogens:
        notes.append(f"added {n_hydrogens} hydrogens (pH {PH:g})")
    topology.setPeriodicBoxVectors(None)
    return Repaired(topology, positions, tuple(notes))


def named(residues: list[Residue], most: int = 6) -> str:
    """Names and numbers of residues, at most so many of them."""
    texts = [f"{r.name}{r.id}" for r in residues]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _replace(fixer: Any) -> list[str]:
    """Give modified residues their standard twins."""
    fixer.findNonstandardResidues()
    changed = [f"{r.name}{r.id} became {name}" for r, name in fixer.nonstandardResidues]
    if changed:
        fixer.replaceNonstandardResidues()
    return changed


def _remove(fixer: Any, drop: tuple[str, ...], path: Path) -> list[str]:
    """Take away what is no protein; refuse what may be part of the question."""
    others = [r for r in fixer.topology.residues() if r.name not in STANDARD and r.name not in CAPS or r.name in drop]
    if len(others) == fixer.topology.getNumResidues():
        raise InputError(f"{path} holds no protein: give a file with one, or --topology and --coordinates")
    gone = [r for r in others if r.name.upper() in WATER | ADDITIVES or r.name in drop]
    kept = [r for r in others if r not in gone]
    if kept:
        raise InputError(
            f"{path} holds what no force field here knows: {named(kept)}: leave it out with --drop {kept[0].name}, or "
            "give parameters for all atoms with --topology and --coordinates"
        )
    water = sum(r.name in WATER for r in gone)
    rest = [r for r in gone if r.name not in WATER]
    modeller = app.Modeller(fixer.topology, fixer.positions)
    modeller.delete(gone)
    fixer.topology, fixer.positions = modeller.topology, modeller.positions
    notes = [f"left out {water} molecules of water"] if water else []
    return [*notes, f"left out {named(rest)}"] if rest else notes


def _check_chains(fixer: Any, path: Path) -> None:
    """Raise an InputError that names the first place where a chain is broken."""
    positions = np.array([tuple(x) for x in fixer.positions.value_in_unit(unit.nanometer)])
    for chain in fixer.topology.chains():
        residues = list(chain.residues())
        without = [r for r in residues if r.name in STANDARD and not {a.name for a in r.atoms()} >= BACKBONE]
        if without:
            raise InputError(f"{path} lacks backbone atoms of {named(without)}: each residue needs N, CA and C")
        for before, after in zip(residues, residues[1:], strict=False):
            ends = [a.index for r, name in ((before, "C"), (after, "N")) for a in r.atoms() if a.name == name]
            if len(ends) == 2 and np.linalg.norm(positions[ends[0]] - positions[ends[1]]) > BROKEN_NM:
                raise InputError(
                    f"{path} lacks residues between {named([before])} and {named([after])} of chain {chain.id}: build "
                    "the loop with a modelling program, or end the chain there with a TER record and a new chain name"
                )


def _add_heavy_atoms(fixer: Any) -> list[str]:
    fixer.missingResidues = {}
    fixer.findMissingAtoms()
    found = {r: len(atoms) for r, atoms in fixer.missingAtoms.items()}
    for residue, atoms in fixer.missingTerminals.items():
        found[residue] = found.get(residue, 0) + len(atoms)
    if not found:
        return []
    fixer.addMissingAtoms(seed=SEED)
    return [f"added {sum(found.values())} heavy atoms to {named(list(found))}"]


def _add_hydrogens(fixer: Any, force_field: list[str], path: Path) -> tuple[app.Topology, np.ndarray, int]:
    modeller = app.Modeller(fixer.topology, fixer.positions)
    before, state = modeller.topology.getNumAtoms(), random.getstate()
    random.seed(0)  # Modeller places hydrogens with Python's generator before it relaxes them.
    try:
        modeller.addHydrogens(load_force_field(tuple(force_field)), pH=PH,
                              platform=openmm.Platform.getPlatformByName("Reference"))
    except (ValueError, openmm.OpenMMException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be given hydrogens: {reason}: correct that residue, or leave it out "
                         "with --drop") from error
    finally:
        random.setstate(state)
    positions = np.array([tuple(x) for x in modeller.positions.value_in_unit(unit.nanometer)])
    return modeller.topology, positions, modeller.topology.getNumAtoms() - before
