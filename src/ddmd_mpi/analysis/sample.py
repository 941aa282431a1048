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
    share
        Fraction of the simulated frames that these are.
    """

    rows: np.ndarray
    positions_nm: np.ndarray
    share: float

    def thinned(self, most: int) -> Sample:
        """At most this many of the frames, evenly chosen."""
        kept = even(len(self.rows), most)
        return Sample(self.rows[kept], self.positions_nm[kept], self.share * len(kept) / len(self.rows))

    @property
    def words(self) -> str:
        """What part of the frames these are, in words."""
        return "all frames" if self.share >= 1 else f"every {_ordinal(round(1 / self.share))} frame"


def sample(run: Run, most: int = MOST_FRAMES) -> Sample:
    """Evenly chosen frames of a run with the positions of their descriptor atoms.

    Raises
    ------
    RunDirectoryError
        If no trajectory file has a frame.
    InputError
        If a library is missing.
    """
    simulated = np.flatnonzero(~run.frames["restart_point"])
    nbytes = sum(file.path.stat().st_size for file in run.trajectories)
    affordable = int(len(run.frames) * MOST_BYTES / max(1, nbytes))
    rows = simulated[even(len(simulated), max(1, min(most, affordable)))]
    positions = run.positions(rows)
    known = np.isfinite(positions).all(axis=(1, 2)) if positions.shape[1] else np.zeros(len(rows), bool)
    if not known.any():
        raise RunDirectoryError(f"{run.directory} has no trajectory files with frames of the run")
    return Sample(rows[known], positions[known], len(rows) / len(simulated))


def even(n: int, most: int) -> np.ndarray:
    """At most `most` indices, evenly spread over range(n)."""
    return np.arange(0, n, max(1, -(-n // most)))


def _ordinal(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")
