"""Motion that was recorded: the frames of a DCD file or of a PDB file of many models, played from any of them on."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...errors import InputError
from ..prepared import AnyParticles

NM_PER_ANGSTROM = np.float32(0.1)
MAX_ATOMS = 100_000_000
MARK_BYTES = 4  # before and after every record of a Fortran file


def read_frames(path: Path, n_atoms: int) -> Frames:
    """The frames of a trajectory of `n_atoms` atoms.

    Raises
    ------
    InputError
        If the file is missing, has an unknown format, or is of another molecule.
    """
    if not path.is_file():
        raise InputError(f"the trajectory {path} does not exist: correct emulation.trajectory")
    kinds: dict[str, Callable[[Path], Frames]] = {".dcd": DCDFrames, ".pdb": PDBFrames}
    frames = kinds.get(path.suffix.lower())
    if frames is None:
        raise InputError(f"the trajectory {path} cannot be replayed: name a .dcd file or a .pdb file of many models")
    found = frames(path)
    if found.n_atoms != n_atoms:
        raise InputError(
            f"the trajectory {path} has {found.n_atoms} atoms and the start has {n_atoms}: "
            "set emulation.trajectory to one of the same molecule"
        )
    if len(found) < 2:
        raise InputError(f"the trajectory {path} has {len(found)} frames: at least 2 are needed to replay it")
    return found


class PDBFrames:
    """The models of a PDB file, in memory."""

    def __init__(self, path: Path):
        from openmm import app, unit

        from ..trusted_files import reading

        with reading(path, "a PDB file"):
            pdb = app.PDBFile(str(path))
            models = [pdb.getPositions(asNumpy=True, frame=i) for i in range(pdb.getNumFrames())]
            self._frames = np.array([x.value_in_unit(unit.nanometer) for x in models], np.float32)
        self.n_atoms = self._frames.shape[1] if self._frames.ndim == 3 else 0

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, i: int) -> np.ndarray:
        """Frame `i`: positions, nm, shape (n_atoms, 3), float32."""
        return self._frames[i]


class DCDFrames:
    """A little-endian DCD file without fixed atoms, as this program, OpenMM, MDTraj and CHARMM write; read on demand.

    Only complete frames count, so that a file that still grows can be played.
    """

    def __init__(self, path: Path):
        try:
            with path.open("rb") as file:
                magic, has_cell, n_fixed = self._read_head(file)
                self.n_atoms = struct.unpack("<i", _record(file))[0]
                start = file.tell()
        except (OSError, struct.error, ValueError) as error:
            raise InputError(f"{path} cannot be read as a DCD file: {error}") from error
        if magic != b"CORD" or n_fixed or not 1 <= self.n_atoms <= MAX_ATOMS:
            raise InputError(f"{path} cannot be replayed: a DCD file of coordinates without fixed atoms is expected")
        axis = [("before", "<i4"), ("values", "<f4", self.n_atoms), ("after", "<i4")]
        cell = [("cell", "V56")] if has_cell else []
        frame = np.dtype([*cell, ("axes", axis, 3)])
        n_frames = (path.stat().st_size - start) // frame.itemsize
        if n_frames:
            self._frames = np.memmap(path, frame, "r", start, (n_frames,))
            if not (self._frames[[0, -1]]["axes"]["before"] == 4 * self.n_atoms).all():
                raise InputError(f"{path} cannot be replayed: its frames do not match the header of the file")
        self._n_frames = n_frames

    def __len__(self) -> int:
        return self._n_frames

    def __getitem__(self, i: int) -> np.ndarray:
        """Frame `i`: positions, nm, shape (n_atoms, 3), float32."""
        return np.ascontiguousarray(self._frames[i]["axes"]["values"].T) * NM_PER_ANGSTROM

    @staticmethod
    def _read_head(file: BinaryIO) -> tuple[bytes, bool, int]:
        """Magic word, whether frames have a cell, number of fixed atoms; leaves the file after the title."""
        magic, *words = struct.unpack("<4s20i", _record(file))
        _record(file)
        return magic, bool(words[10]), words[8]


Frames = PDBFrames | DCDFrames


def _record(file: BinaryIO) -> bytes:
    """The next record of a Fortran file."""
    (length,) = struct.unpack("<i", file.read(MARK_BYTES))
    if not 0 < length < 1 << 20:
        raise ValueError("it has no header")
    body = file.read(length)
    if file.read(MARK_BYTES) != struct.pack("<i", length):
        raise ValueError("its header is cut off")
    return body


class RecordedMotion:
    """The state of one walker that plays a trajectory round and round.

    Parameters
    ----------
    frames
        What is played.
    structures
        A restart is looked up among the frames by the descriptor atoms.
    """

    def __init__(self, frames: Frames, structures: AnyParticles):
        self._frames, self._descriptor = frames, structures.descriptor
        self._known: np.ndarray | None = None
        self._time = 0.0  # reports since the first frame

    def begin(self, rng: np.random.Generator) -> None:
        """Go to any of the frames."""
        self._time = float(rng.integers(len(self._frames)))

    def take(self, positions: np.ndarray) -> None:
        """Go to the recorded frame that is nearest to a frame, nm, shape (n_atoms, 3)."""
        if self._known is None:
            self._known = np.array([self._frames[i][self._descriptor] for i in range(len(self._frames))])
        away = np.abs(self._known - positions[self._descriptor]).sum(axis=(1, 2))
        self._time = float(away.argmin())

    def advance(self, reports: float, rng: np.random.Generator) -> None:  # noqa: ARG002 - a record has no noise
        """Play for a number of reports or a part of one: a frame a report."""
        self._time += reports

    def positions(self, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002 - a record has no noise
        """All atoms, nm, shape (n_atoms, 3), float32."""
        return self._frames[round(self._time) % len(self._frames)]

    def potential_energy(self) -> float:
        """0: trajectories hold no energies."""
        return 0.0
