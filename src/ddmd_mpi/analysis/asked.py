"""The question for the estimators: which frames, coordinates and regions of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .exports import LATENT
from .populations import Question
from .regions import Region
from .run import Run
from .transitions import Stretches, stretches

#: Latents along which profiles are given.
N_LATENT_PROFILES = 2
#: Into how many parts of equal simulated time a run is divided: restarts may be frequent in some and rare in others.
N_PHASES = 10
#: The default target, angstrom, and how far the default source is from the target structure in units of that.
TARGET_ANGSTROM, SOURCE_FACTOR = 3.0, 2.0


def default_coordinates(run: Run) -> list[str]:
    """RMSD, and the fraction of native contacts if it is recorded."""
    return ["rmsd_angstrom", *([run.native_contacts] if run.native_contacts else [])]


def default_regions(run: Run) -> tuple[Region, Region]:
    """Source and target: further from the target structure than twice the target RMSD, and nearer than it."""
    declared = run.setting("run", "target_rmsd_angstrom")
    limit = float(declared) if isinstance(declared, int | float) and declared > 0 else TARGET_ANGSTROM
    return Region("rmsd_angstrom", low=SOURCE_FACTOR * limit), Region("rmsd_angstrom", high=limit)


def ask(
    run: Run, coordinates: Sequence[str], source: Region, target: Region, topology: str | None = None
) -> tuple[Stretches, Question]:
    """The stretches of a run with their coordinates, and the question.

    Parameters
    ----------
    coordinates
        Columns of the frames, or :data:`.exports.LATENT`.
    topology
        Name of the topology in a run of several.

    Raises
    ------
    InputError
        If a column does not exist or has no values, the regions overlap, or the topology must be named.
    """
    frames = run.frames
    if not len(frames):
        raise InputError(f"{run.directory} has no frames yet")
    columns, profiled = _columns(run, coordinates)
    chosen = frames["topology"] == _topology(run, topology)
    features = np.where(chosen[:, None], np.column_stack(columns), np.nan)
    if not np.isfinite(features).all(axis=1).any():
        raise InputError(f"no frame of {run.directory} has values of {', '.join(coordinates)}: name other coordinates")
    begins = frames["restart_point"] | (np.diff(frames["walker"], prepend=-1) != 0)
    ended = np.diff(frames["walker"], append=-1) != 0
    data = stretches(features, begins, ended, _origins(run), _phases(frames["aggregate_ps"]))
    inside = [region.holds(_column(run, region.column))[data.rows] for region in (source, target)]
    if (inside[0] & inside[1]).any():
        raise InputError(f"the regions {source} and {target} overlap: no passage leads from one to the other")
    values = {name: column[data.rows] for name, column in profiled.items()}
    return data, Question(inside[0], inside[1], values, run.report_ps)


def _phases(aggregate_ps: np.ndarray) -> np.ndarray:
    """Which part of the run each frame belongs to, by the time that all walkers have simulated until then."""
    until = np.maximum(np.nanmax(aggregate_ps), 1e-300)
    return np.clip(np.nan_to_num(aggregate_ps) / until * N_PHASES, 0, N_PHASES - 1).astype(int)


def _origins(run: Run) -> np.ndarray:
    """The row that each restart point repeats, -1 for any other row and for one whose source is not known."""
    origin = np.full(len(run.frames), -1)
    for segment in run.segments:
        if segment.restart_point and segment.parent is not None:
            row = run.row(segment.walker, segment.first_frame)
            source = run.row(segment.parent.walker, segment.parent.frame)
            if row is not None and source is not None:
                origin[row] = source
    return origin


def _columns(run: Run, coordinates: Sequence[str]) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The features, and the coordinates along which free energies are given."""
    columns: list[np.ndarray] = []
    profiled: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(coordinates):
        if name == LATENT:
            latents = run.latents().astype(float)
            columns += list(latents.T)
            profiled |= {f"{LATENT}_{i}": latents[:, i] for i in range(min(N_LATENT_PROFILES, latents.shape[1]))}
        else:
            columns.append(_column(run, name))
            profiled[name] = columns[-1]
    return columns, profiled


def _column(run: Run, name: str) -> np.ndarray:
    known = [
        n for n in run.frames.dtype.names or () if run.frames.dtype[n].kind == "f" and n not in ("wall", "time_ps")
    ]
    if name not in known:
        raise InputError(f"there is no coordinate {name}: name some of {', '.join(known)}, {LATENT}")
    return run.frames[name]


def _topology(run: Run, name: str | None) -> str:
    """The topology whose frames count."""
    known = np.unique(run.frames["topology"]).tolist()
    if name is None and len(known) == 1:
        return str(known[0])
    if name not in known:
        raise InputError(f"{run.directory} has frames of the topologies {', '.join(known)}: name one with --topology")
    return str(name)
