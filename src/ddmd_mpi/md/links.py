"""Covalent bonds between residues that are neither peptide bonds nor disulfides: they are named, not opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from openmm import app
from openmm.app.topology import Atom, Residue

from ..errors import InputError
from .coordinates import LONGEST_BOND_NM
from .protonation import CIF_SUFFIXES, Place, place
from .residues import is_ion, is_water

#: Covalent radii, nm (doi:10.1039/b801115j); atoms of other elements are left to the records of the file.
RADII = {"C": 0.076, "N": 0.071, "O": 0.066, "S": 0.105, "P": 0.107, "Se": 0.120}
#: Atoms nearer than the sum of their radii times that are bonded.
TOLERANCE = 1.15


def check_links(
    topology: app.Topology, positions_nm: np.ndarray, path: Path, is_kept: Callable[[Residue], bool]
) -> set[Place]:
    """Find the residues that are bonded to others by more than the chain.

    Parameters
    ----------
    positions_nm
        Shape (n_atoms, 3).
    path
        The file: its LINK and SSBOND records count.
    is_kept
        Whether a residue belongs to the protein that is made.

    Returns
    -------
    set of Place
        Those that are bonded to one that is not kept, or are not kept.

    Raises
    ------
    InputError
        If a bond between two residues that are kept would be opened.
    """
    linked: set[Place] = set()
    for a, b in _links(topology, positions_nm, path):
        if is_kept(a.residue) and is_kept(b.residue):
            apart = np.linalg.norm(positions_nm[a.index] - positions_nm[b.index])
            raise InputError(
                f"{path} has a bond between {_named(a)} and {_named(b)} ({apart:.2f} nm) that is neither a peptide "
                "bond nor a disulfide as OpenMM knows it: give parameters for all atoms with --topology and "
                "--coordinates, or correct the positions if these atoms are not bonded"
            )
        linked |= {place(a.residue), place(b.residue)}
    return linked


def _links(topology: app.Topology, positions_nm: np.ndarray, path: Path) -> Iterator[tuple[Atom, Atom]]:
    """Pairs of bonded atoms of two residues, apart from peptide bonds, disulfides, water and ions."""
    order = {r: i for chain in topology.chains() for i, r in enumerate(chain.residues())}
    bonds = {frozenset(bond) for bond in topology.bonds()}
    seen: set[frozenset[Atom]] = set()
    for a, b in [*topology.bonds(), *_near(topology, positions_nm), *_recorded(topology, path)]:
        if a.residue is b.residue or frozenset((a, b)) in seen:
            continue
        seen.add(frozenset((a, b)))
        if any(is_water(r) or is_ion(r) for r in (a.residue, b.residue)):
            continue
        first, second = sorted((a, b), key=lambda atom: atom.index)
        peptide = (
            (first.name, second.name) == ("C", "N")
            and first.residue.chain is second.residue.chain
            and order[second.residue] - order[first.residue] == 1
        )
        apart = np.linalg.norm(positions_nm[a.index] - positions_nm[b.index])
        disulfide = a.name == b.name == "SG" and frozenset((a, b)) in bonds and apart < LONGEST_BOND_NM
        if not peptide and not disulfide:
            yield first, second


def _near(topology: app.Topology, positions_nm: np.ndarray) -> Iterator[tuple[Atom, Atom]]:
    """Pairs of atoms that are as near to each other as bonded ones, the nearest first."""
    from scipy.spatial import cKDTree

    atoms = [
        a for a in topology.atoms() if a.element is not None and a.element.symbol in RADII and not is_water(a.residue)
    ]
    x = positions_nm[[a.index for a in atoms]]
    pairs = cKDTree(x).query_pairs(2 * TOLERANCE * max(RADII.values()), output_type="ndarray")
    apart = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
    for k in np.argsort(apart):
        a, b = (atoms[i] for i in pairs[k])
        if a.residue is not b.residue and apart[k] < TOLERANCE * (RADII[a.element.symbol] + RADII[b.element.symbol]):
            yield a, b


def _recorded(topology: app.Topology, path: Path) -> Iterator[tuple[Atom, Atom]]:
    """Pairs of atoms of the LINK and SSBOND records of a PDB file; OpenMM reads the bonds of an mmCIF file itself."""
    if path.suffix.lower() in CIF_SUFFIXES:
        return
    atoms = {(*place(a.residue), a.name): a for a in topology.atoms()}
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("LINK  "):
            ends = [
                (line[c].strip(), line[c + 1 : c + 5].strip(), line[c + 5].strip(), line[n : n + 4].strip())
                for c, n in ((21, 12), (51, 42))
                if len(line) > c + 5
            ]
        elif line.startswith("SSBOND"):
            ends = [
                (line[c].strip(), line[n : n + 4].strip(), line[n + 4].strip(), "SG")
                for c, n in ((15, 17), (29, 31))
                if len(line) > n + 4
            ]
        else:
            continue
        if len(ends) == 2 and all(end in atoms for end in ends) and line[59:65].strip() == line[66:72].strip():
            yield atoms[ends[0]], atoms[ends[1]]


def _named(atom: Atom) -> str:
    residue = atom.residue
    return f"{atom.name} of {residue.name}{residue.id} (chain {residue.chain.id})"
