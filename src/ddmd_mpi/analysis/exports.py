"""What a run hands to other programs: arrays of its stretches, and latents of its frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..frames.block import FrameBlock
from . import coordinates
from .models import TrainedModel

if TYPE_CHECKING:
    from .run import Run

#: The name that stands for all latents of the newest model.
LATENT = "latent"


def arrays(run: Run, columns: Sequence[str]) -> list[np.ndarray]:
    """Columns of the frames, stretch after stretch; see :meth:`.Run.arrays`."""
    values = np.concatenate([of_name for _, of_name in _columns(run, columns)], axis=1)
    return [values[rows] for rows in run.stretches]


def save_arrays(run: Run, path: Path, columns: Sequence[str]) -> None:
    """Write the arrays of a run into one file; see :meth:`.Run.save_arrays`."""
    found = _columns(run, columns)
    names = [name if values.shape[1] == 1 else f"{name}_{i}" for name, values in found for i in range(values.shape[1])]
    first = np.array([rows[0] for rows in run.stretches], int)
    content = {
        # The frames are in the order of their stretches.
        "values": np.concatenate([values for _, values in found], axis=1),
        "lengths": np.array([len(rows) for rows in run.stretches], int),
        "walker": run.frames["walker"][first],
        "segment": run.frames["segment"][first],
        "columns": np.array(names),
        "lag_ps": np.array(run.report_ps),
    }
    try:
        with path.open("wb") as file:
            np.savez(file, **content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def _columns(run: Run, names: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Each column of the frames as float64, shape (n_frames, n)."""
    known = [name for name in run.frames.dtype.names or () if run.frames.dtype[name].kind != "U"]
    if unknown := [name for name in names if name not in (*known, LATENT)] or ([] if names else ["none"]):
        raise InputError(
            f"the frames have no column {unknown[0]} of numbers: name some of {', '.join(known)}, {LATENT}"
        )
    return [
        (name, run.latents().astype(float) if name == LATENT else run.frames[name].astype(float)[:, None])
        for name in names
    ]


def archive(directory: Path) -> Iterator[FrameBlock]:
    """The blocks of all archives of a run."""
    from ..streams.archive import read_archive

    for path in sorted(directory.glob("frames/*.bp")):
        yield from read_archive(path)


def latents(run: Run, trained: TrainedModel) -> np.ndarray:
    """Latents of all frames, file after file."""
    found = np.full((len(run.frames), trained.n_latent), np.nan, np.float32)
    for file in run.trajectories:
        of_file = trained.embed_trajectory(file.path, file.topology)
        coordinates.check_length(file, len(of_file))
        found[file.rows] = of_file[: len(file.rows)]
    return found


def latents_of(run: Run, trained: TrainedModel, rows: np.ndarray) -> np.ndarray:
    """Latents of some frames."""
    positions = run.positions(rows)
    found = np.full((len(rows), trained.n_latent), np.nan, np.float32)
    known = np.isfinite(positions).all(axis=(1, 2))
    found[known] = trained.embed_positions(positions[known])
    return found
