"""A walker's own trajectory: coordinates in DCD or XTC, and an index of its frames and segments beside it.

Frames are written completely and at once, so that MDTraj and MDAnalysis read the file while it grows.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..config.dynamics import SimulationSection
from ..errors import DiskError, RunDirectoryError
from ..rundir.disk import LineFile, disk_errors
from ..rundir.files import reason
from .coordinate_files import CoordinateFile, open_file
from .prepared import AnyParticles
from .trajectory_repair import History, mend, shape

FRAME_COLUMNS = ("frame", "segment", "time_ps", "rmsd_angstrom", "potential_energy_kj_mol")
FILE_COLUMNS = ("topology", "frame_in_file")  # if there are several files


class Trajectory:
    """Frames of one walker over all its segments: ``sim-0007.dcd``, ``.frames.csv`` and ``.segments.jsonl``.

    A walker that changes its topology has a file for each: ``sim-0007.NAME.dcd``. The index is still one, and says
    which frame of which file a frame is.

    Parameters
    ----------
    directory
        Where the files go; they must not exist, unless the run is resumed.
    walker
        Index of the walker.
    structures
        The molecule of the frames, or its Structures.
    simulation
        Format, timestep and report interval.
    order_parameters
        Names of the declared order parameters: further columns of the index.
    resume
        Whether to append to the files, if they exist.
    name
        Name of the topology in a run that has several.

    Attributes
    ----------
    history
        What the files held at the start.

    Raises
    ------
    RunDirectoryError
        If the files cannot be created or appended to.
    DiskError
        From every method but this, if the disk refuses; frames and segments are then as before.
    """

    def __init__(
        self,
        directory: Path,
        walker: int,
        structures: AnyParticles,
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
            self._files: dict[str | None, CoordinateFile] = {name: self._open(name, structures)}
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

    def change(self, name: str | None, structures: AnyParticles) -> None:
        """Continue with frames of the topology of this name, at the end of its file.

        Raises
        ------
        DiskError
            If it has no file yet, and none can be made.
        """
        path = self._path(name)
        if name not in self._files:
            with disk_errors(path):
                self._files[name] = self._open(name, structures)
        self.path, self._name = path, name

    def _path(self, name: str | None) -> Path:
        suffix = self._simulation.trajectory_format
        return self._stem.with_suffix(f".{suffix}" if name is None else f".{name}.{suffix}")

    def _found(self, *, several: bool) -> dict[str | None, Path]:
        """The coordinate files that are there, by the name of their topology."""
        if not several:
            return {None: self.path}
        begin, end = f"{self._stem.name}.", f".{self._simulation.trajectory_format}"
        return {
            path.name.removeprefix(begin).removesuffix(end): path for path in self._stem.parent.glob(f"{begin}*{end}")
        }

    def _open(self, name: str | None, structures: AnyParticles) -> CoordinateFile:
        """The coordinate file of this topology: a new one, or the one of earlier sessions."""
        path, n_frames = self._path(name), self._n_frames[name]
        if n_frames and shape(path)[0] != structures.n_atoms:
            raise RunDirectoryError(
                f"the trajectory {path} has frames of {shape(path)[0]} atoms and the system has "
                f"{structures.n_atoms}: restore the file of this run, or start a new run"
            )
        return open_file(path, structures, self._simulation, n_frames or None)

    def begin_segment(self, segment: int, restart: Mapping[str, Any]) -> None:
        """Record that the frames from here on belong to `segment`.

        Parameters
        ----------
        segment
            Index of the segment, counted from 0.
        restart
            Where it came from: restart_point, decision, source_walker, source_segment, source_frame,
            velocity_seed, time_ps.
        """
        start = self._segments.write(self._line(segment, self.n_frames, restart))
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

        A segment whose restart point the disk refuses has not started: its line goes, too.

        Parameters
        ----------
        positions_nm
            All atoms, nm, shape (n_atoms, 3).
        rmsd, potential_energy
            Angstrom, kJ/mol.
        box
            Box vectors, nm, shape (3, 3); None or zero for none.
        """
        row = self._rows([segment], [time_ps], [rmsd], [potential_energy], [order_parameters])
        return self._write(positions_nm, time_ps, row, 1, box)

    def append_all(
        self,
        positions_nm: np.ndarray,
        times_ps: np.ndarray,
        segments: np.ndarray,
        rmsd: np.ndarray,
        potential_energy: np.ndarray,
        order_parameters: np.ndarray,
        box: np.ndarray | None = None,
        begun: Sequence[tuple[int, int, Mapping[str, Any]]] = (),
    ) -> int:
        """As :meth:`append`, of consecutive frames, each with its own values; the first one's index.

        Parameters
        ----------
        positions_nm
            Shape (n_frames, n_atoms, 3).
        segments, times_ps, rmsd, potential_energy
            Shape (n_frames,).
        begun
            The segments that start on the way, none by a jump: segment, first frame, and where it came from, as in
            :meth:`begin_segment`.
        """
        columns = (values.tolist() for values in (segments, times_ps, rmsd, potential_energy, order_parameters))
        rows, n_frames = self._rows(*columns), len(times_ps)
        if not begun:
            return self._write(positions_nm, times_ps, rows, n_frames, box)
        start = self._segments.write("".join([self._line(*segment) for segment in begun]))
        try:
            first = self._write(positions_nm, times_ps, rows, n_frames, box)
        except DiskError:
            self._segments.cut(start)
            raise
        self._jump = None
        return first

    def _line(self, segment: int, first_frame: int, restart: Mapping[str, Any]) -> str:
        line = {"walker": self.walker, "segment": segment, "first_frame": first_frame, **restart, "start": time.time()}
        return json.dumps(line) + "\n"

    def _rows(
        self,
        segments: Sequence[int],
        times_ps: Sequence[float],
        rmsd: Sequence[float],
        potential_energy: Sequence[float],
        order_parameters: Sequence[Sequence[float]],
    ) -> str:
        """Rows of the index of the next frames."""
        n, values = len(times_ps), list(zip(*order_parameters, strict=True))
        columns = [range(self.n_frames, self.n_frames + n), segments, times_ps, rmsd, potential_energy, *values]
        row = "%d,%d,%.6f,%.4f,%.4f" + ",%.6g" * len(values)
        if self._name is not None:
            row += f",{self._name.replace('%', '%%')},%d"
            columns.append(range(self._n_frames[self._name], self._n_frames[self._name] + n))
        return (row + "\n") * n % tuple(chain.from_iterable(zip(*columns, strict=True)))

    def _write(
        self, positions_nm: np.ndarray, times_ps: float | np.ndarray, rows: str, n_frames: int, box: np.ndarray | None
    ) -> int:
        frame, file = self.n_frames, self._files[self._name]
        try:
            file.write(positions_nm, box if box is not None and box.any() else None, times_ps)
            try:
                self._frames.write(rows)
            except DiskError:
                file.take_back()
                raise
        except DiskError:
            if self._jump is not None and self._jump[0] == frame:
                self._segments.cut(self._jump[1])
            raise
        self._n_frames[self._name] += n_frames
        self.n_frames = frame + n_frames
        return frame

    def sync(self) -> None:
        """Bring all that was written to the disk."""
        for file in self._files.values():
            file.sync()
        for lines in (self._frames, self._segments):
            lines.sync()

    def free(self) -> None:
        """Close the files."""
        with ExitStack() as stack:
            for close in (*(file.close for file in self._files.values()), self._frames.free, self._segments.free):
                stack.callback(close)
