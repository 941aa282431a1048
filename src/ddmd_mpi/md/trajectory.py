"""A walker's own trajectory: coordinates in DCD or XTC, and an index of its frames and segments beside it.

Frames are written whole and at once, so that MDTraj and MDAnalysis read the file while it grows.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from openmm import app, unit

from ..disk import LineFile, append_whole, check_linked, written
from ..errors import DiskError, RunDirectoryError
from ..files import reason
from ..sections import SimulationSection
from .history import History, coordinate_ends, mend, shape
from .structures import Structures

ANGSTROM_PER_NM = 10.0
DCD_TIME_UNIT_PS = 0.04888821  # the time unit of CHARMM, which wrote the first DCD files
FRAME_COLUMNS = ("frame", "segment", "time_ps", "rmsd_angstrom", "potential_energy_kj_mol")
FILE_COLUMNS = ("topology", "frame_in_file")  # where there are several files


class CoordinateFile(Protocol):
    """A file that takes one frame after the other, each whole or not at all.

    Raises
    ------
    DiskError
        If the disk refuses.
    """

    def write(self, positions_nm: np.ndarray, box_nm: np.ndarray | None) -> None:
        """Append a frame: positions (n_atoms, 3), box vectors (3, 3) or None, nm."""

    def take_back(self) -> None:
        """Cut off the frame that was written last."""

    def sync(self) -> None:
        """Bring the frames to the disk."""

    def close(self) -> None:
        """Close the file."""


class DCDFile:
    """A CHARMM DCD file; its header holds the number of frames after every frame.

    Parameters
    ----------
    path
        A new file, or one of `n_frames` frames to go on with.
    n_atoms
        Atoms of each frame.
    interval_steps, timestep_ps
        Steps between two frames, and their length.
    periodic
        Whether the frames have a box.
    """

    def __init__(self, path: Path, n_atoms: int, interval_steps: int, timestep_ps: float, periodic: bool,
                 n_frames: int | None = None):
        self._n_atoms, self._periodic, self._interval = n_atoms, periodic, interval_steps
        self._path, self._n_frames = path, n_frames or 0
        self._start = 0  # of the last frame
        if n_frames is not None:
            self._file = path.open("r+b", buffering=0)
            self._count()
            return
        self._file = path.open("xb", buffering=0)
        title = b"ddmd-mpi".ljust(80)
        self._file.write(
            struct.pack("<i4s9if", 84, b"CORD", 0, interval_steps, interval_steps, 0, 0, 0, 0, 0, 0,
                        timestep_ps / DCD_TIME_UNIT_PS)
            + struct.pack("<10i", int(periodic), 0, 0, 0, 0, 0, 0, 0, 0, 24)
            + struct.pack("<3i80s4i", 84, 84, 1, title, 84, 4, n_atoms, 4)
        )  # fmt: skip

    def write(self, positions_nm: np.ndarray, box_nm: np.ndarray | None) -> None:
        """Append a frame, then count it in the header."""
        record = np.empty((3, self._n_atoms + 2), "<f4")
        record[:, 1:-1] = ANGSTROM_PER_NM * positions_nm.T
        record.view("<i4")[:, [0, -1]] = 4 * self._n_atoms
        cell = struct.pack("<i6di", 48, *_cell(box_nm), 48) if self._periodic else b""
        with written(self._path):
            self._start = append_whole(self._file, cell + record.tobytes())
            self._n_frames += 1
            try:
                self._count()
            except OSError:
                self.take_back()
                raise

    def take_back(self) -> None:
        """See :class:`CoordinateFile`."""
        self._n_frames -= 1
        with suppress(OSError):
            self._file.truncate(self._start)
            self._count()

    def _count(self) -> None:
        """Write the number of frames into the header."""
        self._file.seek(8)
        self._file.write(struct.pack("<i", self._n_frames))
        self._file.seek(20)
        self._file.write(struct.pack("<i", self._n_frames * self._interval))

    def close(self) -> None:
        """Close the file."""
        with written(self._path):
            self._file.close()

    def sync(self) -> None:
        """Bring the frames to the disk."""
        with written(self._path):
            os.fsync(self._file.fileno())
        check_linked(self._file, self._path)


def _cell(box_nm: np.ndarray) -> tuple[float, ...]:
    """Lengths, angstrom, and angles, degrees, in the order of a DCD file: a, gamma, b, beta, alpha, c."""
    a, b, c = np.linalg.norm(box_nm, axis=1)
    x, y, z = box_nm / np.array([[a], [b], [c]])
    alpha, beta, gamma = np.degrees(np.arccos([y @ z, x @ z, x @ y]))
    return ANGSTROM_PER_NM * a, gamma, ANGSTROM_PER_NM * b, beta, alpha, ANGSTROM_PER_NM * c


class XTCFile:
    """A compressed GROMACS XTC file, by OpenMM; positions are kept to 0.001 nm.

    OpenMM says nothing of a disk that takes but a part of a frame, so that every frame is looked at once it is written.
    """

    def __init__(self, path: Path, topology: app.Topology, interval_steps: int, timestep_ps: float,
                 n_frames: int | None = None):
        self._path, self._n_atoms, self._begun = path, topology.getNumAtoms(), bool(n_frames)
        self._start = 0  # of the last frame
        self._file = app.XTCFile(str(path), topology, timestep_ps, 0, interval_steps, append=bool(n_frames))

    def write(self, positions_nm: np.ndarray, box_nm: np.ndarray | None) -> None:
        """Append a frame."""
        box = None if box_nm is None else box_nm * unit.nanometer
        self._start = self._path.stat().st_size if self._path.exists() else 0
        try:
            self._file.writeModel(positions_nm, periodicBoxVectors=box)
        except RuntimeError as error:
            raise DiskError(f"{self._path} cannot be written: {error}") from error
        with written(self._path):
            size, ends = self._path.stat().st_size, coordinate_ends(self._path, self._n_atoms, False, 1, self._start)
        if len(ends) == 1 or ends[1] != size:
            self.take_back()
            raise DiskError(f"{self._path} cannot be written: the disk takes no whole frame; it is full, or a quota or "
                            "limit is reached")
        self._begun = True

    def take_back(self) -> None:
        """See :class:`CoordinateFile`."""
        with suppress(OSError):
            os.truncate(self._path, self._start)

    def sync(self) -> None:
        """Bring the frames to the disk."""
        if self._begun:
            with written(self._path), self._path.open("rb") as file:
                os.fsync(file.fileno())

    def close(self) -> None:
        """Nothing is open between frames."""


class Trajectory:
    """Frames of one walker over all its segments: ``sim-0007.dcd``, ``.frames.csv`` and ``.segments.jsonl``.

    A walker that changes its topology has a file for each: ``sim-0007.NAME.dcd``. The index is still one, and says
    which frame of which file a frame is.

    Parameters
    ----------
    directory
        Where the files go; they must not exist, unless the run goes on.
    walker
        Index of the walker.
    topology
        Topology of the frames.
    simulation
        Format, timestep and report interval.
    order_parameters
        Names of the declared order parameters: further columns of the index.
    resume
        Whether to go on with the files, if they exist.
    name
        Name of the topology in a run that has several.

    Attributes
    ----------
    history
        What the files held at the begin.

    Raises
    ------
    RunDirectoryError
        If the files cannot be made or gone on with.
    DiskError
        From every method but this, if the disk refuses; frames and segments are then as before.
    """

    def __init__(
        self,
        directory: Path,
        walker: int,
        topology: app.Topology,
        simulation: SimulationSection,
        order_parameters: Sequence[str] = (),
        resume: bool = False,
        name: str | None = None,
    ):
        self.walker, self.history = walker, History()
        self._stem, self._simulation, self._name = directory / f"sim-{walker:04d}", simulation, name
        self.path = self._path(name)
        frames, segments = self._stem.with_suffix(".frames.csv"), self._stem.with_suffix(".segments.jsonl")
        if resume and frames.exists() and segments.exists():
            self.history = mend(self._stem, self._found(several=name is not None))
        self.n_frames = self.history.n_frames
        self._n_frames = Counter(self.history.of_file)  # of each file
        try:
            if resume and not self.n_frames:  # killed before the first frame was whole
                for path in (self.path, frames, segments):
                    path.unlink(missing_ok=True)
            mode = "a" if self.n_frames else "x"
            self._files: dict[str | None, CoordinateFile] = {name: self._open(name, topology)}
            self._frames, self._segments = LineFile(frames, mode), LineFile(segments, mode)
            if not self.n_frames:
                of_files = () if name is None else FILE_COLUMNS
                self._frames.write(",".join((*FRAME_COLUMNS, *order_parameters, *of_files)) + "\n")
        except (OSError, DiskError) as error:
            raise RunDirectoryError(f"the trajectory {self.path} cannot be made: {reason(error)}") from error
        self._jump: tuple[int, int] | None = None  # first frame of the newest segment that jumps, place of its line

    def __enter__(self) -> Trajectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()

    def change(self, name: str | None, topology: app.Topology) -> None:
        """Go on with frames of the topology of this name, at the end of its file.

        Raises
        ------
        DiskError
            If it has no file yet, and none can be made.
        """
        path = self._path(name)
        if name not in self._files:
            with written(path):
                self._files[name] = self._open(name, topology)
        self.path, self._name = path, name

    def _path(self, name: str | None) -> Path:
        suffix = self._simulation.trajectory_format
        return self._stem.with_suffix(f".{suffix}" if name is None else f".{name}.{suffix}")

    def _found(self, *, several: bool) -> dict[str | None, Path]:
        """The coordinate files that are there, by the name of their topology."""
        if not several:
            return {None: self.path}
        begin, end = f"{self._stem.name}.", f".{self._simulation.trajectory_format}"
        return {path.name.removeprefix(begin).removesuffix(end): path
                for path in self._stem.parent.glob(f"{begin}*{end}")}

    def _open(self, name: str | None, topology: app.Topology) -> CoordinateFile:
        """The coordinate file of this topology: a new one, or the one of earlier sessions."""
        path, n_frames = self._path(name), self._n_frames[name]
        if n_frames and shape(path)[0] != topology.getNumAtoms():
            raise RunDirectoryError(f"the trajectory {path} has frames of {shape(path)[0]} atoms and the system has "
                                    f"{topology.getNumAtoms()}: put the file of this run back, or start a new run")
        return _open(path, topology, self._simulation, n_frames or None)

    def begin_segment(self, segment: int, restart: Mapping[str, Any]) -> None:
        """Record that the frames from here on belong to `segment`.

        Parameters
        ----------
        segment
            Index of the segment, counted from 0.
        restart
            Where it came from: restart_point, decision, source_simulation, source_segment, source_frame,
            velocity_seed, time_ps.
        """
        line = {"simulation": self.walker, "segment": segment, "first_frame": self.n_frames, **restart}
        start = self._segments.write(json.dumps({**line, "start": time.time()}) + "\n")
        self._jump = (self.n_frames, start) if restart.get("restart_point") else None

    def append(
        self,
        positions_nm: np.ndarray,
        time_ps: float,
        segment: int,
        rmsd: float,
        potential_energy: float,
        order_parameters: Sequence[float] = (),
        box: np.ndarray | None = None,
    ) -> int:
        """Write a frame and its row of the index; returns the frame's index.

        A segment whose restart point the disk refuses has not begun: its line goes, too.

        Parameters
        ----------
        positions_nm
            All atoms, nm, shape (n_atoms, 3).
        rmsd, potential_energy
            Angstrom, kJ/mol.
        box
            Box vectors, nm, shape (3, 3); None or zero for none.
        """
        frame, file = self.n_frames, self._files[self._name]
        values = "".join(f",{v:.6g}" for v in order_parameters)
        if self._name is not None:
            values += f",{self._name},{self._n_frames[self._name]}"
        row = f"{frame},{segment},{time_ps:.6f},{rmsd:.4f},{potential_energy:.4f}{values}\n"
        try:
            file.write(positions_nm, box if box is not None and box.any() else None)
            try:
                self._frames.write(row)
            except DiskError:
                file.take_back()
                raise
        except DiskError:
            if self._jump is not None and self._jump[0] == frame:
                self._segments.cut(self._jump[1])
            raise
        self._n_frames[self._name] += 1
        self.n_frames = frame + 1
        return frame

    def sync(self) -> None:
        """Bring all that was written to the disk."""
        for file in (*self._files.values(), self._frames, self._segments):
            file.sync()

    def free(self) -> None:
        """Close the files."""
        with ExitStack() as stack:
            for close in (*(file.close for file in self._files.values()), self._frames.free, self._segments.free):
                stack.callback(close)


def _open(
    path: Path, topology: app.Topology, simulation: SimulationSection, n_frames: int | None
) -> CoordinateFile:
    """A coordinate file of the format that the suffix of `path` names: a new one, or one of so many frames."""
    interval, timestep_ps = simulation.steps_per_report, simulation.timestep_fs * 1e-3
    if path.suffix == ".xtc":
        return XTCFile(path, topology, interval, timestep_ps, n_frames)
    periodic = topology.getPeriodicBoxVectors() is not None
    return DCDFile(path, topology.getNumAtoms(), interval, timestep_ps, periodic, n_frames)


def write_topology(structures: Structures, path: Path) -> None:
    """Write the start as a PDB file: the topology that reads the trajectories."""
    with path.open("w") as file:
        app.PDBFile.writeFile(structures.topology, structures.positions_nm * unit.nanometer, file, keepIds=True)
