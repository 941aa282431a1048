"""Totals over all sessions of a run that was resumed: sums of the status records of those before."""

from __future__ import annotations

from typing import Any

import numpy as np

from .status import STATUS_DTYPE, best_frame, of_role

#: Fields whose totals the ranks find again in the run's own records, so that their records hold all sessions.
FOUND_AGAIN = {
    "simulation": "frames ns segments iterations failures earlier_ns",
    "aggregation": "archived",
    "training": "rounds samples iterations",
    "inference": "decisions delivered stale failed rounds iterations",
}
#: Fields that are no sums.
LAST = (
    "state", "activity", "time", "version", "loss", "validation_loss", "window", "outliers", "eps", "data_parallel",
    "silent", "stop", "wants_stop", "refusal", "best_rmsd", "best_simulation", "best_frame", "latency_p50_ms",
    "latency_p99_ms", "latency_max_ms", "apply_p50_ms", "apply_p99_ms", "apply_max_ms", "peak_mb", "within", "pid",
)  # fmt: skip
LARGEST = ("max_queue", "hop_queue")


def carried_by(records: np.ndarray, roles: tuple[str, ...], before: dict[str, Any] | None) -> dict[str, Any]:
    """What a later session adds to its own records: by role the sums over this session's ranks and those before.

    Parameters
    ----------
    records, roles
        The newest status record of every seat, and its role.
    before
        The same of the sessions before, None for none.
    """
    best = best_frame(records, roles)
    return {role: _carried(of_role(records, roles, role), role, best, (before or {}).get(role))
            for role in dict.fromkeys(roles)}


def _carried(records: np.ndarray, role: str, best: tuple | None, before: dict[str, Any] | None) -> dict[str, Any]:
    earlier = record_of(before)
    total = {}
    for name in STATUS_DTYPE.names:
        if name in LAST or name in FOUND_AGAIN.get(role, "").split():
            continue
        if name in LARGEST:
            total[name] = np.maximum(records[name].max(axis=0, initial=0), earlier[name]).tolist()
        else:
            total[name] = (records[name].sum(axis=0) + earlier[name]).tolist()
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
            record["best_rmsd"], record["best_simulation"], record["best_frame"] = value
        elif name in STATUS_DTYPE.names:
            record[name] = value
    return record


def with_carried(
    records: np.ndarray, roles: tuple[str, ...], carried: dict[str, Any] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The records and their roles with one more for every role that earlier sessions had."""
    if not carried:
        return records, roles
    return np.concatenate([records, [record_of(c) for c in carried.values()]]), (*roles, *carried)
