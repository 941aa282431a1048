"""The numbers of each trial, and the curves of each arm, from the outcomes of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..report.tables import Rows
from .coverage import coverage_curve, reach, states_of_trials
from .outcome import Outcome
from .study_file import Study, System

#: Points of a curve.
N_GRID = 200
#: Shares of the states whose first passage is timed.
SHARES = (0.5, 0.8)
AGGREGATE, PER_WALKER = "aggregate", "per walker"
AXES = {AGGREGATE: "aggregate simulated time (ns)", PER_WALKER: "simulated time per walker (ns)"}
RMSD, COVERAGE = "best_rmsd_angstrom", "coverage"


@dataclass(frozen=True)
class Measured:
    """What was measured of the trials of one system.

    Parameters
    ----------
    rows
        The numbers of each trial, a row of ``trials.csv`` each.
    curves
        Of each arm, by the quantity, the time axis and the arm: one row per seed, shape (n_seeds, N_GRID).
    grids
        Times of the curves, ns, by the time axis.
    """

    system: System
    n_states: int
    exact: bool
    rows: Rows
    outcomes: Sequence[Outcome]
    curves: dict[tuple[str, str, str], np.ndarray]
    grids: dict[str, np.ndarray]

    def values(self, arm: str, quantity: str) -> dict[int, float]:
        """A number of the trials of an arm, by seed."""
        return {_whole(row["seed"]): _number(row[quantity]) for row in self.rows if row["arm"] == arm}

    @property
    def arms(self) -> list[str]:
        """Arms with a trial, as the study lists them."""
        return list(dict.fromkeys(str(row["arm"]) for row in self.rows))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else -1


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else np.nan


def passage_name(limit_angstrom: float) -> str:
    """The column of the first passage to an RMSD."""
    return f"passage_ns_to_{limit_angstrom:g}_angstrom"


def share_name(share: float) -> str:
    """The column of the first time with a share of the states."""
    return f"passage_ns_to_coverage_{100 * share:.0f}"


def quantities(system: System) -> dict[str, str]:
    """The quantities in which arms are compared, and how a table heads them."""
    return {
        RMSD: "best RMSD (Å)",
        "coverage_half": "coverage at half time",
        COVERAGE: "coverage at the end",
        **{passage_name(limit): f"ns to {limit:g} Å" for limit in system.passages_angstrom},
        **{share_name(share): f"ns to {100 * share:.0f} % coverage" for share in SHARES},
    }


def measure(study: Study, system: System, outcomes: Sequence[Outcome]) -> Measured:
    """Measure the finished trials of a system, at least one."""
    states, n_states = states_of_trials(outcomes)
    longest = {AGGREGATE: system.aggregate_ns, PER_WALKER: max(o.time_ps.max() for o in outcomes) / 1000.0}
    grids = {axis: np.linspace(0.0, end, N_GRID) for axis, end in longest.items()}
    rows: Rows = []
    curves: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for outcome, visited in zip(outcomes, states, strict=True):
        for axis, grid in grids.items():
            order, times = outcome.order(per_walker=axis == PER_WALKER)
            best = np.minimum.accumulate(outcome.rmsd_angstrom[order])
            covered = coverage_curve(visited[order], n_states)
            for quantity, curve in ((RMSD, best), (COVERAGE, covered)):
                key = (quantity, axis, outcome.trial.arm)
                curves.setdefault(key, []).append(at_grid(times, curve, grid))
            if axis == AGGREGATE:
                rows.append(_row(outcome, times, covered))
    place = {arm: i for i, arm in enumerate(study.arms)}
    rows.sort(key=lambda row: (place[str(row["arm"])], _whole(row["seed"])))
    stacked = {key: np.array(found) for key, found in curves.items()}
    return Measured(system, n_states, bool(outcomes[0].facts["states"]), rows, outcomes, stacked, grids)


def at_grid(times: np.ndarray, curve: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The last value of a curve until each time of a grid: NaN before the first one; after the last one it stays."""
    at = np.searchsorted(times, grid * (1 + 1e-9), side="right") - 1
    return np.where(at >= 0, curve[np.maximum(at, 0)], np.nan)


def _row(outcome: Outcome, times: np.ndarray, covered: np.ndarray) -> dict[str, object]:
    trial, facts = outcome.trial, outcome.facts
    half = covered[times <= trial.system.aggregate_ns / 2]
    return {
        "system": trial.system.name,
        "arm": trial.arm,
        "seed": trial.seed,
        RMSD: float(outcome.rmsd_angstrom.min()),
        "coverage_half": float(half[-1]) if len(half) else 0.0,
        COVERAGE: float(covered[-1]),
        **{passage_name(limit): outcome.passage_ns(limit) for limit in trial.system.passages_angstrom},
        **{share_name(share): reach(times, covered, share) for share in SHARES},
        **{key: facts[key] for key in ("restarts", "rounds", "model_versions", "walkers", "aggregate_ns", "steps")},
        "frames": len(outcome.rmsd_angstrom),
        **{key: facts[key] for key in ("wall_s", "sessions", "stop_reason")},
        "version": facts["versions"].get("ddmd-mpi"),
    }
