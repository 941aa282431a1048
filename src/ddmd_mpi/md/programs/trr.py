"""GROMACS's TRR files: a frame is written, and frames are read one by one while the file grows.

A frame is a header of big-endian integers (XDR), then box, virial, pressure, positions, velocities and forces; sizes of
zero are absent ones. The layout is that of GROMACS's ``src/gromacs/fileio/trrio.cpp``.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ...errors import EngineError

MAGIC, VERSION = 1993, b"GMX_trn_file"
#: Magic number, length of the version with and without its end, and the version.
_BEGIN = struct.Struct(f">3i{len(VERSION)}s")
#: Bytes of ir, e, box, virial, pressure, top, sym, positions, velocities and forces; atoms, step, nre.
_SIZES = struct.Struct(">13i")
#: Numbers of a box.
BOX = 9
#: Time and lambda.
MOMENTS = 2


class Frame(NamedTuple):
    """Step; positions (n_atoms, 3) nm, velocities (n_atoms, 3) nm/ps or None, box (3, 3) nm: float32."""

    step: int
    positions: np.ndarray
    velocities: np.ndarray | None
    box: np.ndarray


class Reader:
    """Reads a trajectory that another process may be writing.

    Parameters
    ----------
    path
        The file; it need not be there yet.
    """

    def __init__(self, path: Path):
        self._path, self._offset = path, 0
        # Bytes of the last frame: the next one has as many.
        self._expected = _BEGIN.size + _SIZES.size

    def read(self) -> Frame | None:
        """The next frame; None if the file does not have all of it yet.

        Raises
        ------
        EngineError
            If it is no TRR file.
        """
        try:
            if self._path.stat().st_size < self._offset + self._expected:
                return None
            with self._path.open("rb") as file:
                file.seek(self._offset)
                return self._read(file.read(_BEGIN.size + _SIZES.size), file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EngineError(f"the trajectory {self._path} cannot be read: {error.strerror}") from error

    def _read(self, head: bytes, file: BinaryIO) -> Frame | None:
        if len(head) < _BEGIN.size + _SIZES.size:
            return None
        magic, _, _, version = _BEGIN.unpack_from(head)
        if (magic, version) != (MAGIC, VERSION):
            raise EngineError(f"the trajectory {self._path} has no frame of TRR at byte {self._offset}")
        *sizes, n_atoms, step, _ = _SIZES.unpack_from(head, _BEGIN.size)
        ir, energy, box, virial, pressure, top, sym, positions, velocities, _ = sizes
        width = (box // BOX) or (positions // (3 * n_atoms) if n_atoms > 0 else 0)
        if min(sizes) < 0 or width not in (4, 8) or positions != 3 * n_atoms * width:
            raise EngineError(f"the trajectory {self._path} has a frame without positions at byte {self._offset}")
        length = MOMENTS * width + sum(sizes)
        body = file.read(length)
        if len(body) < length:
            return None
        self._expected = len(head) + length
        self._offset += self._expected
        first = MOMENTS * width + ir + energy
        second = first + box + virial + pressure + top + sym

        def numbers(at: int, size: int) -> np.ndarray:
            return np.frombuffer(body, f">f{width}", size // width, at).astype(np.float32).reshape(-1, 3)

        return Frame(
            step,
            numbers(second, positions),
            numbers(second + positions, velocities) if velocities else None,
            numbers(first, box) if box else np.zeros((3, 3), np.float32),
        )


def write_frame(path: Path, positions: np.ndarray, velocities: np.ndarray | None, box: np.ndarray) -> None:
    """Write a file of one frame, in single precision.

    Parameters
    ----------
    positions
        nm, shape (n_atoms, 3).
    velocities
        nm/ps, shape (n_atoms, 3); None for none.
    box
        Vectors in GROMACS's form, which is OpenMM's, nm, shape (3, 3).
    """
    arrays = [np.asarray(a, ">f4").tobytes() for a in (box, positions, *(() if velocities is None else (velocities,)))]
    sizes = [len(a) for a in arrays] + ([0] if velocities is None else [])
    begin = _BEGIN.pack(MAGIC, len(VERSION) + 1, len(VERSION), VERSION)
    header = _SIZES.pack(0, 0, sizes[0], 0, 0, 0, 0, sizes[1], sizes[2], 0, len(positions), 0, 0)
    path.write_bytes(b"".join([begin, header, struct.pack(">2f", 0.0, 0.0), *arrays]))
