"""Frames of a run, evenly chosen so that their coordinates can be read in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import RunDirectoryError
from .run import Run

MOST_FRAMES = 20_000
#: What is read of trajectory files at most, in bytes of these files.
MOST_BYTES = 500_000_000


@dataclass(frozen=True)
class Sample:
    """Some simulated frames of a run.

    Parameters
    ----------
    rows
        Rows of :attr:`.Run.frames`, ascending, shape (n,).
    positions_nm
        Positions of the descriptor atoms, nm, shape (n, n_residues, 3).
    n_simulated
        Frames that the run has simulated.
    """

    rows: np.ndarray
    positions_nm: np.ndarray
    n_simulated: int

    def thinned(self, most: int) -> Sample:
        """At most this many of the frames, evenly chosen."""
        kept = even(len(self.rows), most)
        return Sample(self.rows[kept], self.positions_nm[kept], self.n_simulated)

    @property
    def words(self) -> str:
        """How many of the frames these are, in words."""
        n = len(self.rows)
        return "all frames" if n == self.n_simulated else f"{n:,} of {self.n_simulated:,} frames"


def sample(run: Run, most: int = MOST_FRAMES) -> Sample:
    """Evenly chosen frames of a run with the positions of their descriptor atoms.

    Raises
    ------
    RunDirectoryError
        If no frame was simulated, or no trajectory file has one.
    InputError
        If a library is missing.
    """
    simulated = np.flatnonzero(~run.frames["restart_point"])
    if not len(simulated):
        raise RunDirectoryError(f"{run.directory} has no simulated frames yet")
    nbytes = sum(file.path.stat().st_size for file in run.trajectories)
    affordable = int(len(run.frames) * MOST_BYTES / max(1, nbytes))
    rows = simulated[even(len(simulated), max(1, min(most, affordable)))]
    positions = run.positions(rows)
    known = np.isfinite(positions).all(axis=(1, 2)) if positions.shape[1] else np.zeros(len(rows), bool)
    if not known.any():
        raise RunDirectoryError(f"{run.directory} has no trajectory files with frames of the run")
    return Sample(rows[known], positions[known], len(simulated))


def even(n: int, most: int) -> np.ndarray:
    """At most `most` indices, evenly spread over range(n)."""
    return np.arange(0, n, max(1, -(-n // most)))
