"""``summary.json``: what a run did, from the records of its ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from .status import STOP_REASONS, best_frame, of_role

ROLES = ("simulation", "aggregation", "training", "inference")
WARNING = (
    "Restarts bias the populations: frames of a steered run are no equilibrium sample, "
    "so counts and histograms of them are not probabilities."
)


def summarise(records: np.ndarray, roles: tuple[str, ...], facts: dict[str, Any]) -> dict[str, Any]:
    """Everything of ``summary.json``.

    Parameters
    ----------
    records
        The ranks' newest status records, shape (n_ranks,).
    roles
        The ranks' roles.
    facts
        usecase, mode, completed, strategy, target, note and the trajectories' file pattern.
    """
    by_role = {role: of_role(records, roles, role) for role in ROLES}
    simulation, training, inference = by_role["simulation"], by_role["training"], by_role["inference"]
    wall = float(records["wall_s"].max())
    best = best_frame(records, roles)
    return {
        "usecase": facts["usecase"],
        "mode": facts["mode"],
        "ranks": {role: len(by_role[role]) for role in ROLES},
        "wall_s": wall,
        "completed": facts["completed"],
        "stop_reason": _stop_reason(records),
        "note": facts["note"],
        "warning": WARNING if facts["strategy"] != "none" else "",
        "roles": {role: _role(by_role[role]) for role in ROLES},
        "simulation": {
            "aggregate_ns": float(simulation["ns"].sum()),
            "ns_per_day": float(simulation["ns"].sum()) * 86400 / wall if wall else 0.0,
            "walkers": facts["walkers"],
            "segments": int(simulation["segments"].sum()),
            "frames": int(simulation["frames"].sum()),
            "failures": int(simulation["failures"].sum()),
        },
        "aggregation": {
            "frames_archived": int(by_role["aggregation"]["frames"].sum()),
            "frames_refused": int(by_role["aggregation"]["failures"].sum()),
            "silent_simulations": int(by_role["aggregation"]["silent"].sum()),
        },
        "steering": {"strategy": facts["strategy"], **_steering(inference)},
        "streams": {
            "bytes": int(records["bytes"].sum()),
            "simulation_io_fraction": _fraction(simulation, "io_s"),
            "total_io_fraction": _fraction(records, "io_s"),
            "max_queue": int(records["max_queue"].max(initial=0)),
            "dropped_blocks": int(records["dropped"].sum()),
        },
        "training": {
            "rounds": int(training["rounds"].sum()),
            "samples_seen": int(training["samples"].sum()),
            "last_loss": _number(training["loss"]),
            "last_validation_loss": _number(training["validation_loss"]),
            "versions": int(training["version"].max(initial=0)),
            "data_parallel": "none",
        },
        "inference": {
            "rounds": int(inference["rounds"].sum()),
            "outliers_last": int(inference["outliers"].max(initial=0)),
            "eps_last": _number(inference["eps"]),
        },
        "science": {
            "best_rmsd_angstrom": None if best is None else round(best[0], 3),
            "best_rmsd_source": None if best is None else _source(best, facts["trajectory"]),
            "target": facts["target"],
        },
    }


def _role(records: np.ndarray) -> dict[str, Any]:
    """Table II's row of one role: iterations are segments, blocks, training rounds and inference rounds."""
    iterations, wall = float(records["iterations"].sum()), float(records["wall_s"].max(initial=0))
    return {
        "iterations": int(iterations),
        "iterations_per_hour": iterations * 3600 / wall if wall else 0.0,
        "mean_s": float(records["iteration_s"].sum()) / iterations if iterations else None,
        "busy_fraction": _fraction(records, "busy_s"),
    }


def _steering(inference: np.ndarray) -> dict[str, Any]:
    sums = {name: int(inference[name].sum()) for name in ("decisions", "delivered", "stale", "failed")}
    known = sums["delivered"] > 0

    def percentiles(kind: str) -> dict[str, float | None]:
        return {p: float(inference[f"{kind}_{p}_ms"].max()) if known else None for p in ("p50", "p99", "max")}

    return {**sums, "latency_ms": percentiles("latency"), "apply_ms": percentiles("apply")}


def _fraction(records: np.ndarray, name: str) -> float:
    wall = float(records["wall_s"].sum())
    return float(records[name].sum()) / wall if wall else 0.0


def _number(values: np.ndarray) -> float | None:
    value = float(values.max(initial=0))
    return value if np.isfinite(value) else None


def _source(best: tuple[float, int, int], trajectory: str) -> dict[str, Any]:
    return {"simulation": best[1], "frame": best[2], "trajectory": trajectory.format(best[1])}


def _stop_reason(records: np.ndarray) -> str:
    return STOP_REASONS[int(records["stop"].max(initial=0))]
