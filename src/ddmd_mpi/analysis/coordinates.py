"""The trajectory files of a run: which frames each one has, and their coordinates."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RunDirectoryError
from ..structure.periodic import bring_together
from .libraries import needed
from .models import Descriptor, descriptor_of

if TYPE_CHECKING:
    import MDAnalysis
    import mdtraj

FORMATS = ("dcd", "xtc")


@dataclass(frozen=True)
class TrajectoryFile:
    """The frames of one walker in one topology.

    Parameters
    ----------
    walker
        Index of the walker.
    path, topology
        The coordinates, and the PDB file of their atoms.
    rows
        Rows of :attr:`.Run.frames`, in the order of the file.
    """

    walker: int
    path: Path
    topology: Path
    rows: np.ndarray


def trajectory_files(directory: Path, frames: np.ndarray, topologies: dict[str, Path]) -> list[TrajectoryFile]:
    """The trajectory files that there are, by walker and topology; one without a topology is left out."""
    found = []
    for walker in np.unique(frames["walker"]).tolist():
        rows = np.flatnonzero(frames["walker"] == walker)
        stem = directory / "trajectories" / f"sim-{walker:04d}"
        for suffix in FORMATS:
            for path in sorted(stem.parent.glob(f"{stem.name}*.{suffix}")):
                name = path.name.removeprefix(stem.name).removesuffix(f".{suffix}").removeprefix(".")
                chosen = name or (next(iter(topologies)) if len(topologies) == 1 else str(frames["topology"][rows[0]]))
                if chosen in topologies:
                    own = rows if not name else rows[frames["topology"][rows] == name]
                    found.append(TrajectoryFile(walker, path, topologies[chosen], own))
    return found


def check_length(file: TrajectoryFile, n_frames: int) -> None:
    """Refuse a trajectory that has fewer frames than its index; one more is a frame that is being written.

    Raises
    ------
    RunDirectoryError
    """
    if n_frames < len(file.rows):
        raise RunDirectoryError(
            f"{file.path} has {n_frames} frames and its index has {len(file.rows)}: restore the file of this run"
        )


def universe(files: list[TrajectoryFile]) -> MDAnalysis.Universe:
    """The frames of these files, one file after the other."""
    with needed("a universe needs MDAnalysis"):
        import MDAnalysis
    with readable(files[0].path):
        found = MDAnalysis.Universe(str(files[0].topology), [str(file.path) for file in files])
    expected = sum(len(file.rows) for file in files)
    if len(found.trajectory) != expected:
        raise RunDirectoryError(
            f"the trajectories in {files[0].path.parent} have {len(found.trajectory)} frames and their index has "
            f"{expected}: try again if the run is writing, else restore the files of this run"
        )
    return found


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What a reader raises for a damaged file, as one sentence."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, TypeError, LookupError) as error:
        raise RunDirectoryError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


@contextmanager
def _silence() -> Iterator[None]:
    """Drop what MDTraj's C code prints of every DCD file that it opens."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def read_piece(file: TrajectoryFile, first: int, n_frames: int, topology: mdtraj.Topology) -> mdtraj.Trajectory:
    """Consecutive frames of a file, from row `first` of the file.

    Raises
    ------
    RunDirectoryError
        If the file does not have them.
    """
    import mdtraj

    with readable(file.path), _silence():
        reader: Any = mdtraj.open(str(file.path))
        with reader:
            reader.seek(first)
            piece: mdtraj.Trajectory = reader.read_as_traj(topology, n_frames=n_frames)
    if piece.n_frames != n_frames:
        raise RunDirectoryError(
            f"{file.path} ends before frame {first + n_frames - 1}, which its index has: restore the file of this run"
        )
    return piece


def positions(files: list[TrajectoryFile], descriptor: Descriptor, rows: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Positions of the descriptor atoms, nm, shape (n_rows, n_residues, 3), float32; NaN where no file has the frame.

    Molecules lie as the features of the run have them, see :func:`.bring_together`.

    Raises
    ------
    InputError, RunDirectoryError
    """
    found: np.ndarray | None = None
    atoms: dict[Path, tuple[list[int], np.ndarray]] = {}
    for file in files:
        own = np.flatnonzero(np.isin(rows, file.rows))
        if not len(own):
            continue
        if file.topology not in atoms:
            atoms[file.topology] = descriptor_of(file.topology, descriptor)
        chosen, molecules = atoms[file.topology]
        found = np.full((len(rows), len(chosen), 3), np.nan, np.float32) if found is None else found
        if len(chosen) != found.shape[1]:
            raise RunDirectoryError(
                f"{file.topology} has {len(chosen)} descriptor atoms, and other topologies of the run have "
                f"{found.shape[1]}: their frames cannot be compared"
            )
        found[own] = _read_atoms(file, frames["frame_in_file"][rows[own]], chosen, molecules)
    return np.full((len(rows), 0, 3), np.nan, np.float32) if found is None else found


def _read_atoms(file: TrajectoryFile, places: np.ndarray, atoms: list[int], molecules: np.ndarray) -> np.ndarray:
    """Positions of some atoms in the frames at these places of a file, molecules brought together, nm; NaN beyond."""
    with needed("reading trajectories needs MDTraj"):
        import mdtraj
    found = np.full((len(places), len(atoms), 3), np.nan, np.float32)
    with readable(file.path), _silence():
        reader: Any = mdtraj.open(str(file.path))
        with reader:
            nm = 0.1 if reader.distance_unit == "angstroms" else 1.0
            for i in np.flatnonzero(places < len(reader)):
                reader.seek(int(places[i]))
                x, *others = reader.read(n_frames=1, atom_indices=atoms)
                found[i] = bring_together(x[0] * nm, molecules, _box(others, nm))
    return found


def _box(values: list[Any], nm: float) -> np.ndarray:
    """Box vectors of a frame, nm, shape (3, 3), zero for none: the last of what MDTraj's readers return."""
    from mdtraj.utils import lengths_and_angles_to_box_vectors

    if values[-1] is None:
        return np.zeros((3, 3))
    if len(values) == 2:  # a DCD file has lengths and angles, an XTC file times, steps and vectors
        lengths, angles = values
        return np.stack(lengths_and_angles_to_box_vectors(*lengths[0] * nm, *angles[0]))
    return np.asarray(values[-1][0])
