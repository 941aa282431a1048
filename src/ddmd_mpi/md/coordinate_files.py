"""Files of coordinates, DCD or XTC, that take each frame, or frames given together, completely or not at all.

So MDTraj and MDAnalysis read a file while it grows.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np

from ..config.dynamics import SimulationSection
from ..errors import DiskError
from ..rundir.disk import append_whole, check_linked, disk_errors
from ..structure import ANGSTROM_PER_NM
from .prepared import AnyParticles
from .trajectory_repair import coordinate_ends

DCD_TIME_UNIT_PS = 0.04888821  # the time unit of CHARMM, which wrote the first DCD files
DCD_COUNTS = 8  # byte of the header where its counts start
MAX_STEP = 2**31 - 1  # step numbers in DCD and XTC files have 32 bits


class CoordinateFile(Protocol):
    """A file that takes frames, all that it is given at a time or none of them.

    Raises
    ------
    DiskError
        If the disk refuses.
    """

    def write(self, positions_nm: np.ndarray, box_nm: np.ndarray | None, time_ps: float | np.ndarray = 0.0) -> None:
        """Append a frame: positions (n_atoms, 3), box vectors (3, 3) or None, nm, and its time.

        Or several of one box: positions (n_frames, n_atoms, 3), and their times (n_frames,).
        """

    def take_back(self) -> None:
        """Cut off what was written last."""

    def sync(self) -> None:
        """Bring the frames to the disk."""

    def close(self) -> None:
        """Close the file."""


class DCDFile:
    """A CHARMM DCD file; its header holds the number of frames after every frame.

    A DCD file has no times of frames: the header has the step of the first frame, and the steps between two frames.
    Once the last step no longer fits into 32 bits, a step of the header stands for a whole interval.

    Parameters
    ----------
    path
        A new file, or one of `n_frames` frames to append to.
    n_atoms
        Atoms of each frame.
    interval_steps, timestep_ps
        Steps between two frames, and their length.
    periodic
        Whether the frames have a box.
    """

    def __init__(
        self,
        path: Path,
        n_atoms: int,
        interval_steps: int,
        timestep_ps: float,
        periodic: bool,
        n_frames: int | None = None,
    ):
        self._n_atoms = n_atoms
        self._periodic = periodic
        self._interval = interval_steps
        self._timestep_ps = timestep_ps
        self._path = path
        self._n_frames = n_frames or 0
        self._first = 0  # intervals before the first frame
        self._start = 0  # where the frames start that were written last
        self._n_last = 0  # their number
        if n_frames is not None:
            self._file = path.open("r+b", buffering=0)
            self._first = self._intervals_before()
            self._count()
            return
        self._file = path.open("xb", buffering=0)
        title = b"ddmd-mpi".ljust(80)
        self._file.write(
            struct.pack("<i4s", 84, b"CORD") + self._counts()
            + struct.pack("<10i", int(periodic), 0, 0, 0, 0, 0, 0, 0, 0, 24)
            + struct.pack("<3i80s4i", 84, 84, 1, title, 84, 4, n_atoms, 4)
        )  # fmt: skip

    def write(self, positions_nm: np.ndarray, box_nm: np.ndarray | None, time_ps: float | np.ndarray = 0.0) -> None:
        """Append a frame, or several, then count it in the header."""
        frames = positions_nm.reshape(-1, self._n_atoms, 3)
        records = np.empty((len(frames), 3, self._n_atoms + 2), "<f4")
        np.multiply(frames.transpose(0, 2, 1), ANGSTROM_PER_NM, out=records[:, :, 1:-1], casting="same_kind")
        records.view("<i4")[:, :, [0, -1]] = 4 * self._n_atoms
        if self._periodic and box_nm is None:
            raise ValueError("a frame of a periodic molecule has no box")
        cell = b"" if box_nm is None or not self._periodic else struct.pack("<i6di", 48, *_cell(box_nm), 48)
        with disk_errors(self._path):
            content = b"".join(cell + record.tobytes() for record in records) if cell else records.tobytes()
            self._start = append_whole(self._file, content)
            if not self._n_frames:
                self._first = round(float(np.ravel(time_ps)[0]) / (self._interval * self._timestep_ps))
            self._n_last = len(records)
            self._n_frames += self._n_last
            try:
                self._count()
            except OSError:
                self.take_back()
                raise

    def take_back(self) -> None:
        """See :class:`CoordinateFile`."""
        self._n_frames -= self._n_last
        with suppress(OSError):
            self._file.truncate(self._start)
            self._count()

    def _count(self) -> None:
        """Write the number of frames, and their steps, into the header."""
        self._file.seek(DCD_COUNTS)
        self._file.write(self._counts())

    def _counts(self) -> bytes:
        """NSET, ISTART, NSAVC, NSTEP, five zeros and DELTA of the header."""
        interval, step_ps = self._interval, self._timestep_ps
        if (self._first + self._n_frames) * interval > MAX_STEP:
            interval, step_ps = 1, interval * step_ps
        last = self._first + max(self._n_frames - 1, 0)
        return struct.pack(
            "<9if",
            self._n_frames,
            self._first * interval,
            interval,
            last * interval,
            0,
            0,
            0,
            0,
            0,
            step_ps / DCD_TIME_UNIT_PS,
        )

    def _intervals_before(self) -> int:
        """Intervals before the first frame, by the header."""
        self._file.seek(DCD_COUNTS)
        _, start, interval = struct.unpack("<3i", self._file.read(12))
        return start // max(interval, 1)

    def close(self) -> None:
        """Close the file."""
        with disk_errors(self._path):
            self._file.close()

    def sync(self) -> None:
        """Bring the frames to the disk."""
        with disk_errors(self._path):
            os.fsync(self._file.fileno())
        check_linked(self._file, self._path)


def _cell(box_nm: np.ndarray) -> tuple[float, ...]:
    """Lengths, angstrom, and angles, degrees, in the order of a DCD file: a, gamma, b, beta, alpha, c."""
    a, b, c = np.linalg.norm(box_nm, axis=1)
    x, y, z = box_nm / np.array([[a], [b], [c]])
    alpha, beta, gamma = np.degrees(np.arccos([y @ z, x @ z, x @ y]))
    return ANGSTROM_PER_NM * a, gamma, ANGSTROM_PER_NM * b, beta, alpha, ANGSTROM_PER_NM * c


class XTCFile:
    """A compressed GROMACS XTC file, by OpenMM's writer; positions are kept to 0.001 nm, every frame has its time.

    OpenMM says nothing of a disk that takes but a part of a frame, so that every frame is looked at once it is written.
    """

    def __init__(self, path: Path, n_atoms: int, timestep_ps: float, n_frames: int | None = None):
        self._path = path
        self._n_atoms = n_atoms
        self._timestep_ps = timestep_ps
        self._begun = bool(n_frames)
        self._start = 0  # where the frames start that were written last
        if not self._begun and path.exists() and path.stat().st_size:
            raise FileExistsError(errno.EEXIST, "it already exists", str(path))

    def write(self, positions_nm: np.ndarray, box_nm: np.ndarray | None, time_ps: float | np.ndarray = 0.0) -> None:
        """Append a frame, or several."""
        self._start = self._path.stat().st_size if self._path.exists() else 0
        for frame, time in zip(positions_nm.reshape(-1, self._n_atoms, 3), np.ravel(time_ps).tolist(), strict=True):
            self._append(frame, box_nm, time)
        self._begun = True

    def _append(self, positions_nm: np.ndarray, box_nm: np.ndarray | None, time_ps: float) -> None:
        from openmm.app.internal.xtc_utils import xtc_write_frame

        box = np.zeros((3, 3)) if box_nm is None else box_nm
        step = min(round(time_ps / self._timestep_ps), MAX_STEP)
        start = self._path.stat().st_size if self._path.exists() else 0
        try:
            xtc_write_frame(
                os.fsencode(self._path),
                np.asarray(positions_nm, np.float32),
                np.asarray(box, np.float32),
                np.float32(time_ps),
                np.int32(step),
            )
        except RuntimeError as error:
            self.take_back()
            raise DiskError(f"{self._path} cannot be written: {error}") from error
        with disk_errors(self._path):
            size, ends = self._path.stat().st_size, coordinate_ends(self._path, self._n_atoms, False, 1, start)
        if len(ends) == 1 or ends[1] != size:
            self.take_back()
            raise DiskError(
                f"{self._path} cannot be written: the disk cannot take a complete frame; it is full, or a quota or "
                "limit is reached"
            )

    def take_back(self) -> None:
        """See :class:`CoordinateFile`."""
        with suppress(OSError):
            os.truncate(self._path, self._start)

    def sync(self) -> None:
        """Bring the frames to the disk."""
        if self._begun:
            with disk_errors(self._path), self._path.open("rb") as file:
                os.fsync(file.fileno())

    def close(self) -> None:
        """Nothing is open between frames."""


def open_file(
    path: Path, structures: AnyParticles, simulation: SimulationSection, n_frames: int | None
) -> CoordinateFile:
    """A coordinate file of the format that the suffix of `path` names: a new one, or one of this many frames."""
    interval, timestep_ps = simulation.steps_per_report, simulation.timestep_fs * 1e-3
    if path.suffix == ".xtc":
        return XTCFile(path, structures.n_atoms, timestep_ps, n_frames)
    return DCDFile(path, structures.n_atoms, interval, timestep_ps, structures.periodic, n_frames)
