"""What GROMACS reads of a molecule: its topology with other masses, and coordinates that name its atoms."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from openmm import app

_SECTION = re.compile(r"\s*\[\s*(\w+)\s*\]")
#: Columns of a line of [ atoms ]: nr, type, resnr, residue, atom, cgnr, charge, mass.
MASS = 7
#: Numbers in a gro file have five digits.
WRAP = 100_000


def with_masses(text: str, masses_amu: Sequence[float]) -> str:
    """A topology, complete in itself, with other masses.

    Raises
    ------
    ValueError
        If it cannot be seen which line is which atom's.
    """
    lines = text.splitlines()
    atoms: dict[str, list[int]] = {}
    molecules: list[str] = []
    for section, index, fields in _entries(lines):
        if section == "moleculetype":
            rows = atoms.setdefault(fields[0], [])
        elif section == "atoms":
            rows.append(index)
        elif section == "molecules":
            molecules += int(fields[1]) * [fields[0]]
    if sum(len(atoms.get(name, ())) for name in molecules) != len(masses_amu):
        raise ValueError("its atoms depend on #if: give it with one choice made, as gmx grompp -pp writes it")
    first = 0
    done: set[str] = set()
    for name in molecules:
        if name not in done:
            for index, mass in zip(atoms[name], masses_amu[first : first + len(atoms[name])], strict=True):
                lines[index] = _with_mass(lines[index], mass)
        done.add(name)
        first += len(atoms[name])
    return "\n".join([*lines, ""])


def _entries(lines: list[str]) -> Iterator[tuple[str, int, list[str]]]:
    """Section, index and fields of every line that says something; directives of the preprocessor do not."""
    section = ""
    for index, line in enumerate(lines):
        found = _SECTION.match(line)
        fields = line.partition(";")[0].split()
        if found is not None:
            section = found[1]
        elif fields and not fields[0].startswith(("#", "*")):
            yield section, index, fields


def _with_mass(line: str, mass_amu: float) -> str:
    fields = line.partition(";")[0].split()
    if len(fields) < MASS:
        raise ValueError(f"the line {line.strip()!r} of [ atoms ] has no charge")
    return " ".join([*fields[:MASS], f"{mass_amu:.6f}", *fields[MASS + 1 :]])


def gro(topology: app.Topology, positions_nm: np.ndarray, box_nm: np.ndarray) -> str:
    """Coordinates with the names of the atoms.

    Parameters
    ----------
    positions_nm
        nm, shape (n_atoms, 3).
    box_nm
        Box vectors, nm, shape (3, 3).
    """
    lines = ["ddmd-mpi", str(len(positions_nm))]
    for atom, (x, y, z) in zip(topology.atoms(), positions_nm, strict=True):
        residue = atom.residue
        names = f"{(residue.index + 1) % WRAP:5d}{residue.name[:5]:<5}{atom.name[:5]:>5}{(atom.index + 1) % WRAP:5d}"
        lines.append(f"{names}{x:15.8f}{y:15.8f}{z:15.8f}")
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = box_nm
    lines.append(" ".join(f"{v:.8f}" for v in (ax, by, cz, ay, az, bx, bz, cx, cy)))
    return "\n".join([*lines, ""])
