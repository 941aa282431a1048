"""NAMD's restart files and its configuration: what is written for a run, and what it leaves behind.

The formats are those of the NAMD user guide: binary coordinates and velocities are a count of atoms and doubles in the
byte order of the machine; an extended system is a line of text with the vectors of the box.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ...structure import ANGSTROM_PER_NM

#: NAMD's unit of velocity in files, Å/ps.
VELOCITY_UNIT = 20.45482706
_XSC = (
    "# NAMD extended system configuration output file\n#$LABELS step a_x a_y a_z b_x b_y b_z c_x c_y c_z o_x o_y o_z\n"
)


def write_binary(path: Path, values: np.ndarray) -> None:
    """Write coordinates, Å, or velocities, in units of :data:`VELOCITY_UNIT`; shape (n_atoms, 3)."""
    path.write_bytes(struct.pack("=i", len(values)) + np.ascontiguousarray(values, np.float64).tobytes())


def read_binary(path: Path) -> np.ndarray:
    """What :func:`write_binary` writes.

    Raises
    ------
    ValueError
        If the file is not complete.
    """
    data = path.read_bytes()
    n_atoms = struct.unpack_from("=i", data)[0] if len(data) >= 4 else -1
    if len(data) != 4 + 24 * n_atoms:
        raise ValueError(f"{path.name} is not complete")
    return np.frombuffer(data, np.float64, offset=4).reshape(n_atoms, 3)


def write_positions(path: Path, positions_nm: np.ndarray) -> None:
    """Write binary coordinates, from shape (n_atoms, 3), nm."""
    write_binary(path, ANGSTROM_PER_NM * np.asarray(positions_nm, np.float64))


def write_velocities(path: Path, velocities: np.ndarray) -> None:
    """Write binary velocities, from shape (n_atoms, 3), nm/ps."""
    write_binary(path, np.asarray(velocities, np.float64) * ANGSTROM_PER_NM / VELOCITY_UNIT)


def write_box(path: Path, box_nm: np.ndarray, centre_nm: np.ndarray) -> None:
    """Write an extended system: box vectors (3, 3), and the centre of the box (3,), nm."""
    numbers = ANGSTROM_PER_NM * np.concatenate([np.asarray(box_nm, np.float64).ravel(), centre_nm])
    path.write_text(_XSC + " ".join(["0", *(f"{x:.12g}" for x in numbers)]) + "\n")


def read_positions(path: Path) -> np.ndarray:
    """Binary coordinates, nm, shape (n_atoms, 3); a ValueError if they are not complete."""
    return read_binary(path) / ANGSTROM_PER_NM


def configuration(entries: dict[str, object], extra: tuple[str, ...] = ()) -> str:
    """A configuration file: keys with their values, and further lines."""
    lines = (f"{key} {value}" for key, value in entries.items())
    return "\n".join(["# ddmd-mpi", *lines, *extra, ""])
