"""What a finished trial leaves for the comparison: its frames in the order of time, in one small file."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..analysis import Run, open_run
from ..analysis.frame_table import order_of_time
from ..analysis.markov_model import MarkovModel, read_model, states_of
from ..analysis.records import table
from ..errors import RunDirectoryError
from ..rundir.disk import disk_errors
from ..rundir.files import parse_object
from ..rundir.npz import read_npz
from ..structure.contacts import round_positions
from .trials import PS_PER_NS, Trial

#: What a run directory may lose once its trial is distilled.
HEAVY = ("trajectories", "frames", "segments", "aggregated", "restarts", "models", "checkpoints", "streams", "events")
CURE = "restore its files, or delete it to have the trial run again"
FS_PER_NS = 1e6
#: The unit of stored positions, 0.01 Å.
NM_PER_UNIT = 0.001


@dataclass(frozen=True)
class Outcome:
    """The frames that a trial simulated, in the order of the wall time at which they were made.

    Parameters
    ----------
    time_ps, aggregate_ps
        Simulated time of the frame's walker, and of all walkers until then, ps, shape (n_frames,).
    rmsd_angstrom
        To the target, shape (n_frames,).
    states
        State of each frame of a Markov model, shape (n_frames,); empty where there is no such model.
    positions
        Descriptor atoms, centred, in 0.01 Å, int16, shape (n_frames, n_residues, 3); empty where there are states.
    facts
        Numbers and words of the run as a whole.
    """

    trial: Trial
    time_ps: np.ndarray
    aggregate_ps: np.ndarray
    rmsd_angstrom: np.ndarray
    states: np.ndarray
    positions: np.ndarray
    facts: dict[str, Any]

    def order(self, *, per_walker: bool) -> tuple[np.ndarray, np.ndarray]:
        """Frames along a time axis, and their times, ns: that of each walker, or of all walkers together."""
        time = self.time_ps if per_walker else self.aggregate_ps
        order = np.argsort(time, kind="stable")
        return order, time[order] / PS_PER_NS

    def passage_ns(self, limit_angstrom: float) -> float:
        """Aggregate time of the first frame within an RMSD, ns; infinite if there is none."""
        within = self.rmsd_angstrom <= limit_angstrom
        return float(self.aggregate_ps[within].min()) / PS_PER_NS if within.any() else np.inf


def distil(trial: Trial, *, keep_run: bool = True) -> None:
    """Write ``result.npz`` of a finished trial.

    Raises
    ------
    DDMDError
        If the run directory lacks what a run leaves, or is damaged.
    """
    try:
        content = _content(trial)
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise RunDirectoryError(f"{trial.run} is damaged ({error}): {CURE}") from error
    path = trial.directory / "result.npz"
    with disk_errors(path):
        temporary = path.with_name(".result.npz")
        with temporary.open("wb") as file:
            np.savez(file, **content)
        temporary.replace(path)
    if not keep_run:
        for name in HEAVY:
            shutil.rmtree(trial.run / name, ignore_errors=True)


def _content(trial: Trial) -> dict[str, Any]:
    """The arrays of ``result.npz``."""
    run = open_run(trial.run)
    frames = run.frames
    chosen = order_of_time(frames)
    chosen = chosen[~frames["restart_point"][chosen] & np.isfinite(frames["rmsd_angstrom"][chosen])]
    if not len(chosen):
        raise RunDirectoryError(f"{trial.run} has no frames with an RMSD: a study needs a target, and some reports")
    positions = run.positions(chosen)
    known = np.isfinite(positions).all(axis=(1, 2)) & (positions.shape[1] > 0)
    if not known.all():
        raise RunDirectoryError(
            f"{trial.run} is damaged: {np.sum(~known)} of {len(known)} frames of its index have no positions in its "
            f"trajectories: {CURE}"
        )
    model = _model(run)
    states = np.empty(0, np.int32) if model is None else states_of(model, positions).astype(np.int32)
    return {
        "time_ps": frames["time_ps"][chosen],
        "aggregate_ps": frames["aggregate_ps"][chosen],
        "rmsd_angstrom": frames["rmsd_angstrom"][chosen],
        "states": states,
        "positions": np.array([round_positions(x) for x in positions] if model is None else [], np.int16),
        "facts": np.array(json.dumps({**_facts(run), "states": 0 if model is None else model.n_states})),
    }


def _model(run: Run) -> MarkovModel | None:
    """The Markov model that a run moves on, if it does."""
    named = run.setting("emulation", "markov_model")
    return None if named is None else read_model(run.directory / named)


def _facts(run: Run) -> dict[str, Any]:
    """What ``summary.json`` and ``environment.json`` say, as far as a study tells of it."""
    simulated = run.result("simulation", "aggregate_ns", 0.0)
    timestep = run.setting("simulation", "timestep_fs")
    return {
        "walkers": run.result("simulation", "walkers"),
        "aggregate_ns": simulated,
        "steps": round(simulated * FS_PER_NS / timestep),
        "restarts": run.result("steering", "delivered"),
        "stale": run.result("steering", "stale"),
        "rounds": run.result("roles", "inference", {}).get("iterations"),
        "model_versions": run.result("training", "versions"),
        "wall_s": run.summary.get("wall_s"),
        "sessions": run.summary.get("sessions"),
        "stop_reason": run.summary.get("stop_reason"),
        "host": run.environment.get("host"),
        "versions": table(run.environment.get("versions")),
        "timestep_fs": timestep,
        "report_ps": run.report_ps,
        "note": run.summary.get("note", ""),
    }


def read_outcome(trial: Trial, *, keep_run: bool = True) -> Outcome:
    """The outcome of a finished trial.

    Raises
    ------
    DDMDError
        If it cannot be read.
    """
    path = trial.directory / "result.npz"
    if not path.is_file():
        distil(trial, keep_run=keep_run)
    try:
        parts = read_npz(path)
        facts = parse_object(str(parts.pop("facts")))
        return Outcome(trial=trial, facts=facts, **parts)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunDirectoryError(f"{path} cannot be read ({error}): delete it to have it made again") from error
