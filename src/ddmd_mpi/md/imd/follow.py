"""Follows the trajectory of a walker while another process writes it, from any host that sees the run directory."""

from __future__ import annotations

import math
import struct
import tempfile
from pathlib import Path

import numpy as np
from openmm.app.internal.unitcell import computePeriodicBoxVectors
from openmm.app.internal.xtc_utils import read_xtc

from ...structure import ANGSTROM_PER_NM
from ..trajectory import FILE_COLUMNS
from ..trajectory_repair import coordinate_ends, shape
from .protocol import Frame

#: Of a frame of DCD: the cell between its two lengths, and what precedes each axis.
CELL, CELL_BYTES = struct.Struct("<4x6d4x"), 56


class CoordinateReader:
    """Frames of one coordinate file, by their number."""

    def __init__(self, path: Path):
        self._path = path
        self._n_atoms, self._periodic = shape(path)
        # Where frames start that are known; XTC has to be read from its beginning.
        self._ends = coordinate_ends(path, self._n_atoms, self._periodic, 0)

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions (n_atoms, 3) and box vectors (3, 3), zero for none, nm.

        Raises
        ------
        IndexError
            If the file has no such frame yet.
        """
        if self._path.suffix == ".dcd":
            self._ends = coordinate_ends(self._path, self._n_atoms, self._periodic, number + 1)
        else:
            more = number + 2 - len(self._ends)
            self._ends += coordinate_ends(self._path, self._n_atoms, True, max(0, more), self._ends[-1])[1:]
        start, end = self._ends[number], self._ends[number + 1]
        with self._path.open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
        return self._dcd(data) if self._path.suffix == ".dcd" else _xtc(data)

    def _dcd(self, data: bytes) -> tuple[np.ndarray, np.ndarray]:
        box = np.zeros((3, 3), np.float32)
        if self._periodic:
            a, gamma, b, beta, alpha, c = CELL.unpack_from(data)
            lengths = (x / ANGSTROM_PER_NM for x in (a, b, c))
            if a:
                box[:] = computePeriodicBoxVectors(*lengths, *map(math.radians, (alpha, beta, gamma)))._value
            data = data[CELL_BYTES:]
        axes = np.frombuffer(data, "<f4").reshape(3, self._n_atoms + 2)
        return axes[:, 1:-1].T / np.float32(ANGSTROM_PER_NM), box


def _xtc(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The one frame of these bytes; OpenMM reads files."""
    with tempfile.NamedTemporaryFile(suffix=".xtc") as file:
        file.write(data)
        file.flush()
        positions, box, _, _ = read_xtc(file.name.encode())
    return positions[:, :, 0], box[:, :, 0]


class Follower:
    """The frames of one walker as they are written, over all its segments and topologies.

    Parameters
    ----------
    stem
        ``trajectories/sim-0007`` in the run directory.
    timestep_ps
        Of the integrator.

    Raises
    ------
    OSError
        From each method, if the files cannot be read.
    """

    def __init__(self, stem: Path, timestep_ps: float):
        self._stem, self._timestep_ps = stem, timestep_ps
        self._index = stem.with_suffix(".frames.csv")
        # Whether there is a file for each topology, which the index names.
        self._several = False
        self._read = 0
        self._files: dict[str, CoordinateReader] = {}

    def news(self, most: int) -> list[Frame]:
        """At most this many of the frames that are new since the last call, the newest ones.

        Raises
        ------
        IndexError
            If the coordinates of a frame are not seen here yet, although its row of the index is.
        """
        size = self._index.stat().st_size
        if size < self._read:
            # A resumed run has cut off what a killed one had left half written.
            self._read, self._files = 0, {}
            most = 1
        if size == self._read:
            return []
        with self._index.open("rb") as file:
            file.seek(self._read)
            data = file.read(size - self._read)
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.decode().splitlines()
        if not self._read and lines:
            self._several = tuple(lines[0].split(",")[-2:]) == FILE_COLUMNS
            lines = lines[1:]
        frames = [self._frame(line.split(",")) for line in lines[-most:]]
        self._read += len(whole)
        return frames

    def _frame(self, cells: list[str]) -> Frame:
        frame, time_ps, energy = int(cells[0]), float(cells[2]), float(cells[4])
        name, number = (f".{cells[-2]}", int(cells[-1])) if self._several else ("", frame)
        positions, box = self._reader(name).read(number)
        return Frame(round(time_ps / self._timestep_ps), time_ps, self._timestep_ps, positions, None, box, energy)

    def _reader(self, name: str) -> CoordinateReader:
        if name not in self._files:
            paths = [self._stem.with_suffix(f"{name}.{suffix}") for suffix in ("dcd", "xtc")]
            self._files[name] = CoordinateReader(next((p for p in paths if p.exists()), paths[0]))
        return self._files[name]
