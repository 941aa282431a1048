"""LAMMPS's files: the data file and the input that users have, and the dumps in which states are handed over."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...structure import ANGSTROM_PER_NM

#: nm/ps of a unit of velocity of "units real", Å/fs.
VELOCITY = 100.0
#: The head of a data file ends before this many lines.
HEAD_LINES = 40
ATOM_STYLES = ("full", "molecular")
#: Words of a line of Atoms before the coordinates, by the number of words: of both styles, with and without images.
BEFORE_COORDINATES = {7: 4, 10: 4, 6: 3, 9: 3}
#: Commands that the engine gives itself, and styles of fixes that move atoms.
TAKEN = (
    *("clear", "dump", "include", "jump", "log", "minimize", "neb", "next", "partition", "quit", "read_dump"),
    *("read_restart", "rerun", "reset_timestep", "restart", "run", "thermo", "thermo_modify", "thermo_style"),
    *("timestep", "undump", "unfix", "velocity", "write_data", "write_dump", "write_restart"),
)
MOVERS = ("imd", "langevin", "nph", "npt", "nve", "nvt", "press/", "rigid", "temp/")
CONSTRAINTS = ("shake", "rattle")
_COUNT = re.compile(r"^\s*(\d+)\s+(atoms|atom types)\s*(?:#.*)?$", re.MULTILINE)


class Data(NamedTuple):
    """What a data file says of its atoms, in the order of their ids.

    Parameters
    ----------
    masses
        amu, shape (n_atoms,).
    positions_nm
        nm, shape (n_atoms, 3).
    edges_nm
        Of the box, nm, shape (3,).
    bonds
        Indices of bonded atoms, shape (n_bonds, 2).
    """

    masses: np.ndarray
    positions_nm: np.ndarray
    edges_nm: np.ndarray
    bonds: np.ndarray


def n_atoms_of(head: str) -> int | None:
    """Number of atoms by the head of a data file; None if it is not a data file."""
    found = {what: int(count) for count, what in _COUNT.findall(head)}
    return found.get("atoms") if "atom types" in found else None


def read_data(path: Path) -> Data:
    """The atoms of a data file of style full or molecular.

    Raises
    ------
    ValueError
        If it is not a data file, or lacks what is needed.
    """
    # The first line is a title of any words.
    lines = [line.partition("#")[0].split() for line in path.read_text(errors="replace").splitlines()[1:]]
    n_atoms = n_atoms_of("\n".join(" ".join(cells) for cells in lines[:HEAD_LINES])) or 0
    of_type = {cells[0]: float(cells[1]) for cells in _section(lines, "Masses")}
    atoms = sorted(_section(lines, "Atoms"), key=lambda cells: int(cells[0]))
    if [int(cells[0]) for cells in atoms] != list(range(1, n_atoms + 1)):
        raise ValueError(f"its atoms must have the ids 1 to {n_atoms}")
    missing = next((cells[2] for cells in atoms if cells[2] not in of_type), None)
    if missing is not None:
        raise ValueError(f"it has no mass of the atom type {missing}")
    first = BEFORE_COORDINATES.get(len(atoms[0])) if atoms else None
    if first is None:
        raise ValueError(f"its atoms are not of the atom_style {' or '.join(ATOM_STYLES)}")
    bonds = [cells[2:4] for cells in _section(lines, "Bonds", needed=False)]
    return Data(
        np.array([of_type[cells[2]] for cells in atoms]),
        np.array([cells[first : first + 3] for cells in atoms], float) / ANGSTROM_PER_NM,
        _edges(lines[:HEAD_LINES]) / ANGSTROM_PER_NM,
        np.array(bonds, int).reshape(-1, 2) - 1,
    )


def _edges(head: list[list[str]]) -> np.ndarray:
    """Edges of the box, Å, shape (3,)."""
    ends = [["xlo", "xhi"], ["ylo", "yhi"], ["zlo", "zhi"]]
    bounds = {cells[2]: float(cells[1]) - float(cells[0]) for cells in head if cells[2:] in ends}
    if any("xy" in cells or "avec" in cells for cells in head) or bounds.keys() != {"xlo", "ylo", "zlo"}:
        raise ValueError("its box is not rectangular")
    return np.array([bounds[f"{axis}lo"] for axis in "xyz"])


def _section(lines: list[list[str]], name: str, *, needed: bool = True) -> list[list[str]]:
    """The lines of a section, each as its words."""
    start = next((i for i, cells in enumerate(lines) if cells == [name]), None)
    if start is None and needed:
        raise ValueError(f"it has no section {name}")
    if start is None:
        return []
    body = lines[start + 1 :]
    first = next((i for i, cells in enumerate(body) if cells), 0)
    return list(takewhile(bool, body[first:]))


class Input(NamedTuple):
    """A user's input: commands before ours, and the constraints, which come after the thermostat."""

    commands: tuple[str, ...]
    constraints: tuple[str, ...]

    @property
    def periodic(self) -> bool:
        """Whether it has a periodic box."""
        given = [line.split()[1:] for line in self.commands if line.split()[0] == "boundary"]
        return not given or given[-1] == ["p", "p", "p"]


def read_input(text: str, data: Path) -> Input:
    """A user's input with another data file.

    Raises
    ------
    ValueError
        Naming the line that cannot be used, or what is missing.
    """
    joined = re.sub(r"&\s*\n", " ", text)
    lines = [line.partition("#")[0].strip() for line in joined.splitlines()]
    commands: list[str] = []
    constraints: list[str] = []
    seen: set[str] = set()
    for line in filter(None, lines):
        words = line.split()
        style = words[3] if words[0] == "fix" and len(words) > 3 else ""
        if words[0] in TAKEN or style.startswith(MOVERS):
            raise ValueError(f"the line {line!r} does what the settings decide: take it out")
        seen.add(" ".join(words[: 2 if words[0] in ("units", "atom_style") else 1]))
        if words[0] == "read_data":
            line = " ".join(["read_data", f'"{data}"', *words[2:]])
        (constraints if style in CONSTRAINTS else commands).append(line)
    for needed in ("units real", "read_data"):
        if needed not in seen:
            raise ValueError(f"it has no line {needed!r}")
    if not seen & {f"atom_style {style}" for style in ATOM_STYLES}:
        raise ValueError(f"it has no atom_style {' or '.join(ATOM_STYLES)}")
    return Input(tuple(commands), tuple(constraints))


def constrains(text: str) -> bool:
    """Whether a user's input constrains bonds."""
    return re.search(rf"^\s*fix\s+\S+\s+\S+\s+({'|'.join(CONSTRAINTS)})\b", text, re.MULTILINE) is not None


def write_dump(path: Path, positions: np.ndarray, velocities: np.ndarray | None, box: np.ndarray) -> None:
    """Write a state as a dump file.

    Parameters
    ----------
    positions, velocities
        nm, nm/ps, shape (n_atoms, 3).
    box
        Vectors of a rectangular box, nm, shape (3, 3); zero for none.
    """
    x = ANGSTROM_PER_NM * np.asarray(positions, np.float64)
    v = np.zeros_like(x) if velocities is None else np.asarray(velocities, np.float64) / VELOCITY
    low, high = x.min(axis=0) - 1.0, x.max(axis=0) + 1.0
    if box.any():
        low, high = np.zeros(3), ANGSTROM_PER_NM * np.diag(box)
    kind = "pp pp pp" if box.any() else "ss ss ss"
    head = ["ITEM: TIMESTEP", "0", "ITEM: NUMBER OF ATOMS", str(len(x)), f"ITEM: BOX BOUNDS {kind}"]
    head += [f"{a:.10f} {b:.10f}" for a, b in zip(low, high, strict=True)]
    head += ["ITEM: ATOMS id x y z vx vy vz"]
    rows = (" ".join([str(i), *(f"{a:.12g}" for a in row)]) for i, row in enumerate(np.hstack([x, v]), 1))
    path.write_text("\n".join([*head, *rows, ""]))


def read_dump(path: Path) -> np.ndarray:
    """The unwrapped positions of a dump file with the columns id xu yu zu, nm, shape (n_atoms, 3).

    Raises
    ------
    ValueError
        If it is not complete.
    """
    _, found, body = path.read_text().partition("ITEM: ATOMS id xu yu zu")
    rows = np.array([line.split()[:4] for line in body.splitlines()[1:]], float)
    if not found or rows.ndim != 2:
        raise ValueError(f"{path.name} holds no atoms")
    return rows[np.argsort(rows[:, 0]), 1:] / ANGSTROM_PER_NM
