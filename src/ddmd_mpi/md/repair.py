"""Prepare a protein from a PDB file for a force field: add what is missing, name what cannot be repaired."""

from __future__ import annotations

import io
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openmm
from openmm import app, unit
from openmm.app.topology import Residue

from ..errors import InputError
from .complexes import seeded
from .coordinates import LONGEST_BOND_NM, Coordinates, box_array, whole
from .links import check_links
from .protonation import Place, choose, completed, names_in, normalise, own_hydrogens, place
from .residues import ADDITIVES, STANDARD, is_amino_acid, is_ion, is_protein, is_solute, is_water
from .trusted_files import load_force_field, reading

PH = 7.0
SEED = 1
BROKEN_NM = 0.25  # a peptide bond has 0.133
BACKBONE = {"N", "CA", "C"}


class Repaired(NamedTuple):
    """Topology, positions (n_atoms, 3) nm, and a sentence on each thing that was done."""

    topology: app.Topology
    positions_nm: np.ndarray
    notes: tuple[str, ...]


def repair(path: Path, force_field: list[str], drop: tuple[str, ...] = ()) -> Repaired:
    """The protein of a PDB or mmCIF file with all its atoms.

    Water, single ions and the additives of crystals go; residues named in `drop` go, too. Of alternate locations the
    first counts. Modified residues become their standard twins; heavy atoms and hydrogens that are missing are added:
    those of the protonation states that names or hydrogens say, else of pH 7. Residues that the file says are missing
    at the ends of a chain are left out.

    Raises
    ------
    InputError
        If PDBFixer is missing, the file cannot be read, holds no protein, or something in it cannot be repaired.
    """
    try:
        import pdbfixer
    except ImportError as error:
        raise InputError(f"repairing a PDB file needs PDBFixer ({error}): pip install pdbfixer") from error
    with reading(path, "a PDB file"):
        fixer = pdbfixer.PDBFixer(filename=str(path))
        names = names_in(path)
    _check_places(fixer.topology, path)
    taken = _first_model(path)
    cell = _put_together(fixer)
    fixer, said, notes = _normalised(fixer, names)
    _check_apart(fixer, path)
    linked = check_links(fixer.topology, _positions(fixer), path, lambda r: _is_kept(r, drop))
    changed = _replace(fixer)
    if changed:  # Atoms of modified residues had no bonds to the chain; a file of standard ones has them.
        fixer = _read_again(fixer)
    notes += [*taken, *cell, *changed, *_remove(fixer, drop, path, linked)]
    _check_chains(fixer, path)
    notes += [*_add_heavy_atoms(fixer), *_mirrored(fixer)]
    topology, positions, added = _add_hydrogens(fixer, force_field, path, said)
    topology.setPeriodicBoxVectors(None)
    return Repaired(topology, positions, (*notes, *added))


def _check_apart(fixer: Any, path: Path) -> None:
    """Refuse heavy atoms of the protein that lie at the same place."""
    hydrogens = (app.element.hydrogen, app.element.deuterium)
    heavy = [a for a in fixer.topology.atoms() if is_amino_acid(a.residue) and a.element not in hydrogens]
    positions = np.round(_positions(fixer), 4)[[a.index for a in heavy]]
    _, first, counts = np.unique(positions, axis=0, return_index=True, return_counts=True)
    if (counts > 1).any():
        place_nm = positions[first[np.argmax(counts)]]
        same = [a for a, x in zip(heavy, positions, strict=True) if (x == place_nm).all()]
        names = ", ".join(f"{a.name} of {a.residue.name}{a.residue.id}" for a in same[:3])
        raise InputError(f"{path} has {len(same)} atoms at one place ({names}): correct their coordinates")


def _first_model(path: Path) -> list[str]:
    """Say that the first of several models is taken; refuse models that are the parts of one assembly."""
    if path.suffix.lower() in (".cif", ".mmcif"):
        n_models = app.PDBxFile(str(path)).getNumFrames()
        chains: list[set[str]] = []
    else:
        chains = [set()]
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("MODEL "):
                chains.append(set())
            elif line.startswith("ATOM "):
                chains[-1].add(line[21:22])
        chains = [found for found in chains if found]
        n_models = len(chains)
    if any(found - chains[0] for found in chains):
        other = min(set.union(*chains) - chains[0])
        raise InputError(
            f"{path} has chain {other.strip() or '(blank)'} in a later model only, as an assembly has: write all "
            "chains as one model, each with a letter of its own"
        )
    return [f"took the first of {n_models} models"] if n_models > 1 else []


def _mirrored(fixer: Any) -> list[str]:
    """Name the amino acids with the configuration of a D-amino acid, which they keep whatever their name."""
    positions, found = _positions(fixer), []
    for residue in fixer.topology.residues():
        at = {a.name: positions[a.index] for a in residue.atoms()}
        if at.keys() >= {"N", "CA", "C", "CB"}:
            n, c, cb = (at[name] - at["CA"] for name in ("N", "C", "CB"))
            if np.dot(np.cross(n, c), cb) < 0:
                found.append(residue)
    return (
        [f"{named(found)} {'has' if len(found) == 1 else 'have'} the configuration of D-amino acids"] if found else []
    )


def _put_together(fixer: Any) -> list[str]:
    """Put the molecules together that the cell of the file has cut, and leave the cell out; what was done."""
    positions, box = _positions(fixer), box_array(fixer.topology.getPeriodicBoxVectors())
    if box is None:
        return []
    together = whole(Coordinates(positions, box, fixer.topology), fixer.topology)
    fixer.positions = [openmm.Vec3(*x) for x in together] * unit.nanometer
    fixer.topology.setPeriodicBoxVectors(None)
    edges = " x ".join(f"{edge:.2f}" for edge in np.diag(box))
    notes = [f"left out the cell of the file ({edges} nm): it may be a crystal's"]
    moved = np.abs(together - positions).max() > LONGEST_BOND_NM
    return [*notes, "put molecules together that the cell had cut"] if moved else notes


def _check_places(topology: app.Topology, path: Path) -> None:
    """Refuse residues of the solute that chain letter and number do not tell apart: their names could be mixed up."""
    counts = Counter(place(r) for r in topology.residues() if is_solute(r))
    twice = next((found for found, n in counts.items() if n > 1), None)
    if twice is not None:
        chain, number, code = twice
        raise InputError(
            f"{path} has several residues {number}{code} in chain {chain or '(blank)'}: give each chain a "
            "letter of its own"
        )


def _normalised(fixer: Any, names: dict[Place, str]) -> tuple[Any, dict[Place, str | None], list[str]]:
    """The fixer with standard names, what states names have said, and a sentence on each change."""
    before = [(r.name, a.name, a.element) for r in fixer.topology.residues() for a in r.atoms()]
    states, surplus, notes = normalise(fixer.topology, names, fixer.templates)
    if surplus or before != [(r.name, a.name, a.element) for r in fixer.topology.residues() for a in r.atoms()]:
        modeller = app.Modeller(fixer.topology, fixer.positions)
        modeller.delete(surplus)
        fixer.topology, fixer.positions = modeller.topology, modeller.positions
        fixer = _read_again(fixer)
    places = [place(r) for r in fixer.topology.residues()]
    return fixer, dict(zip(places, states, strict=True)), notes


def _read_again(fixer: Any) -> Any:
    """A fixer of the same atoms, with the bonds that their names say."""
    text = io.StringIO()
    app.PDBFile.writeFile(fixer.topology, fixer.positions, text, keepIds=True)
    return type(fixer)(pdbfile=io.StringIO(text.getvalue()))


def _is_kept(residue: Residue, drop: tuple[str, ...]) -> bool:
    """Whether a residue belongs to the protein, as it is or as its standard twin."""
    from pdbfixer.pdbfixer import substitutions

    return residue.name not in drop and (is_protein(residue) or residue.name in substitutions)


def _positions(fixer: Any) -> np.ndarray:
    return np.array([tuple(x) for x in fixer.positions.value_in_unit(unit.nanometer)])


def named(residues: list[Residue], most: int = 6) -> str:
    """Names and numbers of residues, at most this many of them."""
    texts = [f"{r.name}{r.id}" for r in residues]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _replace(fixer: Any) -> list[str]:
    """Give modified residues their standard twins."""
    fixer.findNonstandardResidues()
    changed = [f"{r.name}{r.id} became {name}" for r, name in fixer.nonstandardResidues]
    if changed:
        fixer.replaceNonstandardResidues()
    return changed


def _remove(fixer: Any, drop: tuple[str, ...], path: Path, linked: set[Place]) -> list[str]:
    """Remove what is not protein; reject what may matter."""
    others = [r for r in fixer.topology.residues() if not is_protein(r) or r.name in drop]
    if not any(is_amino_acid(r) and r.name not in drop for r in fixer.topology.residues()):
        raise InputError(f"{path} holds no protein: give a file with one, or --topology and --coordinates")
    gone = [r for r in others if is_water(r) or is_ion(r) or r.name.upper() in ADDITIVES or r.name in drop]
    kept = [r for r in others if r not in gone]
    if kept:
        free = [r for r in kept if not _is_bonded(r, linked)]
        cure = f"leave it out with --drop {free[0].name}, or " if free == kept else ""
        raise InputError(
            f"{path} holds what no force field here knows: {named(kept)}: {cure}give parameters for all "
            "atoms with --topology and --coordinates"
        )
    bonded = [r for r in gone if place(r) in linked]
    water = sum(is_water(r) for r in gone)
    rest = [r for r in gone if not is_water(r)]
    modeller = app.Modeller(fixer.topology, fixer.positions)
    modeller.delete(gone)
    fixer.topology, fixer.positions = modeller.topology, modeller.positions
    notes = [f"left out {water} molecules of water"] if water else []
    notes += [f"left out {named(rest)}"] if rest else []
    return [*notes, f"opened the bonds of {named(bonded)} to the protein"] if bonded else notes


def _is_bonded(residue: Residue, linked: set[Place]) -> bool:
    """Whether a residue is bonded to the protein, as a side chain's or as a link of the chain itself."""
    backbone = {a.name for a in residue.atoms()} >= BACKBONE
    return place(residue) in linked or (backbone and any(is_amino_acid(r) for r in residue.chain.residues()))


def _check_chains(fixer: Any, path: Path) -> None:
    """Raise an InputError that names the first place where a chain is broken."""
    positions = _positions(fixer)
    for chain in fixer.topology.chains():
        residues = list(chain.residues())
        amide = next((r for r in residues if is_amino_acid(r) and any(a.name == "NT" for a in r.atoms())), None)
        if amide is not None:
            raise InputError(
                f"{path} has the amide of the end of its chain in {named([amide])} (atom NT, patch CT2 or CT3): make "
                "it a residue of its own, NH2 or NME, whose nitrogen is called N"
            )
        without = [r for r in residues if r.name in STANDARD and not {a.name for a in r.atoms()} >= BACKBONE]
        if without:
            raise InputError(f"{path} lacks backbone atoms of {named(without)}: each residue needs N, CA and C")
        for before, after in pairwise(residues):
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


def _add_hydrogens(
    fixer: Any, force_field: list[str], path: Path, said: dict[Place, str | None]
) -> tuple[app.Topology, np.ndarray, list[str]]:
    """Topology and positions with all hydrogens, and sentences on them."""
    modeller = app.Modeller(fixer.topology, fixer.positions)
    states, had = choose(modeller.topology, said, path), own_hydrogens(modeller.topology)
    before = modeller.topology.getNumAtoms()
    try:
        with seeded():
            made = modeller.addHydrogens(
                load_force_field(tuple(force_field)),
                pH=PH,
                variants=states.variants,
                platform=openmm.Platform.getPlatformByName("Reference"),
            )
    except (ValueError, ArithmeticError, openmm.OpenMMException) as error:
        reason = str(error).split("  For more information")[0].splitlines()[0]
        raise InputError(
            f"{path} cannot be given hydrogens: {reason}: correct that residue, or give parameters for "
            "all atoms with --topology and --coordinates"
        ) from error
    notes = [*states.notes, *completed(modeller.topology, had, made, states.variants)]
    n_added = modeller.topology.getNumAtoms() - before
    notes += [f"added {n_added} hydrogens (pH {PH:g})"] if n_added > 0 else []
    return modeller.topology, np.array([tuple(x) for x in modeller.positions.value_in_unit(unit.nanometer)]), notes
