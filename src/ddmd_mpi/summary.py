"""``summary.json``: what a run did, from the records of its ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .status import DATA_PARALLEL, STOP_REASONS, best_frame, of_role
from .totals import with_carried
from .wiring import KINDS

ROLES = ("simulation", "aggregation", "training", "inference")
WARNING = (
    "Restarts bias the populations: frames of a steered run are no equilibrium sample, "
    "so counts and histograms of them are not probabilities."
)


def summarise(
    records: np.ndarray, roles: tuple[str, ...], facts: dict[str, Any], carried: dict[str, Any] | None = None,
    earlier_s: float = 0.0,
) -> dict[str, Any]:
    """Everything of ``summary.json``.

    Parameters
    ----------
    records
        The ranks' newest status records, shape (n_ranks,).
    roles
        The ranks' roles.
    facts
        usecase, mode, completed, strategy, target, note, the trajectories' file pattern and, where ranks have several
        records, n_ranks.
    carried, earlier_s
        What earlier sessions of a resumed run have done, by role, and their wall time.
    """
    ranks = {role: roles.count(role) for role in ROLES}
    n_ranks, stop = facts.get("n_ranks", len(records)), int(records["stop"].max(initial=0))
    wall, rank_s = float(records["wall_s"].max()) + earlier_s, float(records["wall_s"].mean()) * n_ranks
    of_ranks = ("simulation",) if facts["mode"] == "file" else ROLES  # in file mode every rank has several records
    rank_s += sum(c["wall_s"] for role, c in (carried or {}).items() if role in of_ranks)
    records, roles = with_carried(records, roles, carried)
    by_role = {role: of_role(records, roles, role) for role in ROLES}
    return {
        "usecase": facts["usecase"],
        "mode": facts["mode"],
        "ranks": ranks,
        "wall_s": wall,
        "sessions": facts["session"] + 1,
        "completed": facts["completed"],
        "stop_reason": STOP_REASONS[stop],
        "note": facts["note"],
        "warning": WARNING if facts["strategy"] != "none" else "",
        "roles": {role: _role(by_role[role], wall) for role in ROLES},
        "memory": _memory(by_role, facts["mode"]),
        "simulation": {"walkers": facts["walkers"],
                       "lost_ranks": facts.get("lost_ranks", []), "lost_walkers": facts.get("lost_walkers", []),
                       **_simulation(by_role["simulation"])},
        "aggregation": _aggregation(by_role["aggregation"]),
        "steering": {"strategy": facts["strategy"], **_steering(by_role["inference"])},
        "streams": _streams(records, by_role, rank_s),
        "training": _training(by_role["training"]),
        "inference": _inference(by_role["inference"]),
        "science": {**_best(best_frame(records, roles), facts["trajectory"]), "target": facts["target"]},
    }


def _role(records: np.ndarray, wall: float) -> dict[str, Any]:
    """Table II's row of one role: iterations are segments, blocks, training rounds and inference rounds."""
    iterations = float(records["iterations"].sum())
    return {
        "iterations": int(iterations),
        "iterations_per_hour": iterations * 3600 / wall if wall else 0.0,
        "mean_s": float(records["iteration_s"].sum()) / iterations if iterations else None,
        "busy_fraction": _fraction(records, "busy_s"),
    }


def _memory(by_role: dict[str, np.ndarray], mode: str) -> dict[str, Any]:
    """Peaks of the ranks' resident memory, MB; in file mode every rank has a record as a simulation, among others."""
    ranks = [by_role["simulation"]] if mode == "file" else list(by_role.values())
    return {
        "peak_mb_total": float(sum(records["peak_mb"].sum() for records in ranks)),
        "peak_mb_of_a_rank": {role: float(by_role[role]["peak_mb"].max(initial=0)) for role in ROLES},
    }


def _steering(inference: np.ndarray) -> dict[str, Any]:
    sums = {name: int(inference[name].sum()) for name in ("decisions", "delivered", "stale", "failed")}
    known = sums["delivered"] > 0

    def percentiles(kind: str) -> dict[str, float | None]:
        return {p: float(inference[f"{kind}_{p}_ms"].max()) if known else None for p in ("p50", "p99", "max")}

    return {**sums, "latency_ms": percentiles("latency"), "apply_ms": percentiles("apply")}


def _simulation(records: np.ndarray) -> dict[str, Any]:
    """Totals of the ensemble; ns/day is the sum over ranks of what each integrates in a day."""
    began = records[records["busy_s"] > 0]
    ns_per_day = float(((began["ns"] - began["earlier_ns"]) / began["busy_s"]).sum()) * 86400
    counts = {name: int(records[name].sum()) for name in ("segments", "frames", "failures")}
    return {"aggregate_ns": float(records["ns"].sum()), "ns_per_day": ns_per_day, **counts}


def _aggregation(records: np.ndarray) -> dict[str, Any]:
    names = {"frames_archived": "archived", "frames_refused": "failures", "silent_simulations": "silent"}
    return {key: int(records[name].sum()) for key, name in names.items()}


def _streams(records: np.ndarray, by_role: dict[str, np.ndarray], wall: float) -> dict[str, Any]:
    def by_hop(name: str, kind: type = int, over: Callable = np.sum) -> dict[str, Any]:
        return dict(zip(KINDS, map(kind, over(records[name], axis=0, initial=0)), strict=True))

    return {
        "bytes": int(records["bytes"].sum()),
        "simulation_io_fraction": _fraction(by_role["simulation"], "io_s"),
        "total_io_fraction": float(records["io_s"].sum()) / wall if wall else 0.0,
        "max_queue": int(records["max_queue"].max(initial=0)),
        "dropped_blocks": int(records["dropped"].sum()),
        "io_fraction": {role: _fraction(by_role[role], "io_s") for role in ROLES},
        "bytes_by_hop": by_hop("hop_bytes"),
        "blocks_by_hop": by_hop("hop_blocks"),
        "max_queue_by_hop": by_hop("hop_queue", over=np.max),
        "dropped_by_hop": by_hop("hop_dropped"),
        "waited_by_hop": by_hop("hop_waited"),
        "wait_s_by_hop": by_hop("hop_wait_s", float),
    }


def _training(records: np.ndarray) -> dict[str, Any]:
    return {
        "rounds": int(records["rounds"].sum()),
        "samples_seen": int(records["samples"].sum()),
        "last_loss": _last(records, "loss"),
        "last_validation_loss": _last(records, "validation_loss"),
        "versions": int(records["version"].max(initial=0)),
        "data_parallel": DATA_PARALLEL[int(records["data_parallel"].max(initial=0))],
    }


def _inference(records: np.ndarray) -> dict[str, Any]:
    return {
        "rounds": int(records["rounds"].sum()),
        "outliers_last": int(records["outliers"].max(initial=0)),
        "eps_last": _last(records, "eps"),
    }


def _best(best: tuple[float, int, int] | None, trajectory: str) -> dict[str, Any]:
    if best is None:
        return {"best_rmsd_angstrom": None, "best_rmsd_source": None}
    rmsd, simulation, frame = best
    source = {"simulation": simulation, "frame": frame, "trajectory": trajectory.format(simulation)}
    return {"best_rmsd_angstrom": round(rmsd, 3), "best_rmsd_source": source}


def _fraction(records: np.ndarray, name: str) -> float:
    wall = float(records["wall_s"].sum())
    return float(records[name].sum()) / wall if wall else 0.0


def _last(records: np.ndarray, name: str) -> float | None:
    """The value of the ranks that have had a round, None before the first."""
    values = records[name][(records["rounds"] > 0) & np.isfinite(records[name])]
    return float(values.max()) if len(values) else None
