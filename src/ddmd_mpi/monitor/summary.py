"""``status.json`` and ``summary.json``: what a run does and did, from the records of its ranks and its sessions."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..layout.links import STREAM_KINDS
from ..layout.roles import ROLES
from .status import (
    FIELD,
    FIELDS,
    REDUCE,
    STATUS_DTYPE,
    Activity,
    DataParallel,
    Reduction,
    State,
    StopReason,
    best_frame,
    counts_over,
    of_role,
    over_ranks,
)

#: The counts of the live view: the role and the field that each comes from.
VIEWED = {
    "frames": ("simulation", "frames"),
    "segments": ("simulation", "segments"),
    "failures": ("simulation", "failures"),
    "preparing": ("simulation", "preparing"),
    "received": ("aggregation", "frames"),
    "blocks": ("aggregation", "blocks"),
    "silent": ("aggregation", "silent"),
    "archived": ("aggregation", "archived"),
    "training_rounds": ("training", "rounds"),
    "version": ("training", "version"),
    "samples": ("training", "samples"),
    "inference_rounds": ("inference", "rounds"),
    "window": ("inference", "window"),
    "outliers": ("inference", "outliers"),
    "decisions": ("inference", "decisions"),
    "instant_decisions": ("inference", "instant"),
    "restarts": ("inference", "delivered"),
}
WARNING = (
    "Restarts bias the populations: frames of a steered run are not an equilibrium sample, "
    "so counts and histograms of them are not probabilities."
)


def view(records: np.ndarray, roles: tuple[str, ...], facts: dict[str, Any], left_s: float) -> dict[str, Any]:
    """The live view of a run as plain numbers: the content of ``status.json``."""
    by_role = {role: of_role(records, roles, role) for role in ROLES}
    simulation, training, best = by_role["simulation"], by_role["training"], best_frame(records, roles)
    return {
        **facts,
        "time": time.time(),
        "left_s": max(0.0, left_s),
        "done": bool((records["state"] == State.DONE).all()),
        "activities": {r: _activities(of_role(records, roles, r)) for r in dict.fromkeys(roles)},
        "ns": float(over_ranks(simulation, "ns")),
        **{key: int(over_ranks(by_role[role], name)) for key, (role, name) in VIEWED.items()},
        "prepares": np.unique(simulation["prepares"][simulation["preparing"] > 0]).astype(int).tolist(),
        "dropped": int(over_ranks(records, "dropped")),
        "loss": _finite(over_ranks(training, "loss")),
        "data_parallel": DataParallel(int(over_ranks(training, "data_parallel"))).word,
        "best_rmsd_angstrom": None if best is None else best[0],
        "best_walker": None if best is None else best[1],
    }


def _activities(records: np.ndarray) -> dict[str, int]:
    names, counts = np.unique(records["activity"].astype(int), return_counts=True)
    return {Activity(n).name.lower(): int(c) for n, c in zip(names, counts, strict=True)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def summarise(
    records: np.ndarray,
    roles: tuple[str, ...],
    facts: dict[str, Any],
    carried: dict[str, Any] | None = None,
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
    n_ranks, stop = facts.get("n_ranks", len(records)), StopReason(int(over_ranks(records, "stop")))
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
        "stop_reason": stop.word,
        "unfinished": facts.get("unfinished", ""),
        "note": facts["note"],
        "warning": WARNING if facts["strategy"] != "none" else "",
        "roles": {role: _role(by_role[role], wall) for role in ROLES},
        "memory": _memory(by_role, facts["mode"]),
        "simulation": {
            "walkers": facts["walkers"],
            "lost_ranks": facts.get("lost_ranks", []),
            "lost_walkers": facts.get("lost_walkers", []),
            **_simulation(by_role["simulation"]),
            "archived": int(over_ranks(by_role["aggregation"], "archived")),
        },
        "aggregation": _aggregation(by_role["aggregation"]),
        "steering": {"strategy": facts["strategy"], **_steering(by_role["inference"])},
        "streams": _streams(records, by_role, rank_s),
        "training": _training(by_role["training"]),
        "inference": _inference(by_role["inference"]),
        "science": {**_best(best_frame(records, roles), facts["trajectory"]), "target": facts["target"]},
    }


def _role(records: np.ndarray, wall: float) -> dict[str, Any]:
    """Table II's row of one role: iterations are segments, blocks, training rounds and inference rounds."""
    iterations = float(over_ranks(records, "iterations"))
    return {
        "iterations": int(iterations),
        "iterations_per_hour": iterations * 3600 / wall if wall else 0.0,
        "mean_s": float(over_ranks(records, "iteration_s")) / iterations if iterations else None,
        "busy_fraction": _fraction(records, "busy_s"),
    }


def _memory(by_role: dict[str, np.ndarray], mode: str) -> dict[str, Any]:
    """Peaks of the ranks' resident memory, MB; in file mode every rank has a record as a simulation, among others."""
    ranks = [by_role["simulation"]] if mode == "file" else list(by_role.values())
    return {
        "peak_mb_total": float(sum(over_ranks(records, "peak_mb") for records in ranks)),
        "peak_mb_of_a_rank": {role: float(by_role[role]["peak_mb"].max(initial=0)) for role in ROLES},
    }


def _steering(inference: np.ndarray) -> dict[str, Any]:
    sums = counts_over(inference, "decisions", "delivered", "stale", "failed")
    known = sums["delivered"] > 0

    def percentiles(kind: str) -> dict[str, float | None]:
        return {p: float(over_ranks(inference, f"{kind}_{p}_ms")) if known else None for p in ("p50", "p99", "max")}

    return {
        **sums,
        "instant_decisions": int(over_ranks(inference, "instant")),
        "latency_ms": percentiles("latency"),
        "apply_ms": percentiles("apply"),
    }


def _simulation(records: np.ndarray) -> dict[str, Any]:
    """Totals of the ensemble; ns/day is the sum over ranks of what each integrates in a day."""
    began = records[records["busy_s"] > 0]
    ns_per_day = float(((began["ns"] - began["earlier_ns"]) / began["busy_s"]).sum()) * 86400
    counts = counts_over(records, "segments", "frames", "failures")
    return {"aggregate_ns": float(over_ranks(records, "ns")), "ns_per_day": ns_per_day, **counts}


def _aggregation(records: np.ndarray) -> dict[str, Any]:
    names = {"frames_archived": "archived", "frames_refused": "failures", "silent_simulations": "silent"}
    return {key: int(over_ranks(records, name)) for key, name in names.items()}


def _streams(records: np.ndarray, by_role: dict[str, np.ndarray], wall: float) -> dict[str, Any]:
    def by_hop(name: str, kind: type = int) -> dict[str, Any]:
        return dict(zip(STREAM_KINDS, map(kind, over_ranks(records, name)), strict=True))

    return {
        "bytes": int(over_ranks(records, "bytes")),
        "simulation_io_fraction": _fraction(by_role["simulation"], "io_s"),
        "total_io_fraction": float(over_ranks(records, "io_s")) / wall if wall else 0.0,
        "max_queue": int(over_ranks(records, "max_queue")),
        "dropped_blocks": int(over_ranks(records, "dropped")),
        "io_fraction": {role: _fraction(by_role[role], "io_s") for role in ROLES},
        "bytes_by_hop": by_hop("hop_bytes"),
        "blocks_by_hop": by_hop("hop_blocks"),
        "max_queue_by_hop": by_hop("hop_queue"),
        "dropped_by_hop": by_hop("hop_dropped"),
        "waited_by_hop": by_hop("hop_waited"),
        "wait_s_by_hop": by_hop("hop_wait_s", float),
    }


def _training(records: np.ndarray) -> dict[str, Any]:
    return {
        "rounds": int(over_ranks(records, "rounds")),
        "samples_seen": int(over_ranks(records, "samples")),
        "last_loss": _last(records, "loss"),
        "last_validation_loss": _last(records, "validation_loss"),
        "versions": int(over_ranks(records, "version")),
        "data_parallel": DataParallel(int(over_ranks(records, "data_parallel"))).word,
    }


def _inference(records: np.ndarray) -> dict[str, Any]:
    return {
        "rounds": int(over_ranks(records, "rounds")),
        "outliers_last": int(over_ranks(records, "outliers")),
        "eps_last": _last(records, "eps"),
    }


def _best(best: tuple[float, int, int] | None, trajectory: str) -> dict[str, Any]:
    if best is None:
        return {"best_rmsd_angstrom": None, "best_rmsd_source": None}
    rmsd, walker, frame = best
    source = {"walker": walker, "frame": frame, "trajectory": trajectory.format(walker)}
    return {"best_rmsd_angstrom": round(rmsd, 3), "best_rmsd_source": source}


def _fraction(records: np.ndarray, name: str) -> float:
    wall = float(over_ranks(records, "wall_s"))
    return float(over_ranks(records, name)) / wall if wall else 0.0


def _last(records: np.ndarray, name: str) -> float | None:
    """The value of the ranks that have had a round, None before the first."""
    values = records[name][(records["rounds"] > 0) & np.isfinite(records[name])]
    return float(values.max()) if len(values) else None


def carried_by(records: np.ndarray, roles: tuple[str, ...], before: dict[str, Any] | None) -> dict[str, Any]:
    """What a later session adds to its own records: by role the sums over this session's ranks and those before.

    Parameters
    ----------
    records, roles
        The newest status record of every slot, and its role.
    before
        The same of the sessions before, None for none.
    """
    best = best_frame(records, roles)
    return {
        role: _carried(of_role(records, roles, role), role, best, (before or {}).get(role))
        for role in dict.fromkeys(roles)
    }


def _carried(records: np.ndarray, role: str, best: tuple | None, before: dict[str, Any] | None) -> dict[str, Any]:
    earlier = record_of(before)
    total: dict[str, Any] = {}
    for field in FIELDS:
        if field.sessions is Reduction.NONE or role in field.restored:
            continue
        both = REDUCE[field.sessions](over_ranks(records, field.name), earlier[field.name])
        total[field.name] = both.tolist()
    known = [tuple(b) for b in (best, (before or {}).get("best")) if b is not None]
    if role == "aggregation" and known:
        total["best"] = list(min(known))
    return total


def record_of(carried: dict[str, Any] | None) -> np.ndarray:
    """A status record of what earlier sessions have done in a role, shape ()."""
    record = np.zeros((), STATUS_DTYPE)
    record["best_rmsd"] = np.nan
    for name, value in (carried or {}).items():
        if name == "best":
            record["best_rmsd"], record["best_walker"], record["best_frame"] = value
        elif name in FIELD:
            record[name] = value
    return record


def with_carried(
    records: np.ndarray, roles: tuple[str, ...], carried: dict[str, Any] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The records and their roles with one more for every role that earlier sessions had."""
    if not carried:
        return records, roles
    return np.concatenate([records, [record_of(c) for c in carried.values()]]), (*roles, *carried)
