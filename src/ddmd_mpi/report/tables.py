"""Tables of a run as CSV files, units in the names of their columns."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ..analysis.lineage import Segment
from ..analysis.records import Record, number, table
from ..analysis.run import Run
from ..layout.roles import ROLES
from .performance import latencies_ms
from .style import milliseconds
from .training import joint_rounds

ITERATION = {"simulation": "segment", "aggregation": "block", "training": "train_round", "inference": "inference_round"}
Rows = list[dict[str, object]]


def role_table(run: Run) -> Rows:
    """Iterations of every role (Table II of the paper): from the summary, else from the events."""
    reported = table(run.summary.get("roles"))
    rows = []
    for role in ROLES:
        figures = table(reported.get(role)) or _role_from_events(run, role)
        if figures:
            ranks = run.result("ranks", role) or len({e["rank"] for e in run.events if e["role"] == role})
            rows.append({
                "role": role,
                "ranks": ranks or "",
                "iteration": ITERATION[role],
                "iterations": figures.get("iterations"),
                "iterations_per_hour": figures.get("iterations_per_hour"),
                "mean_s": figures.get("mean_s"),
                "busy_fraction": figures.get("busy_fraction"),
            })  # fmt: skip
    return rows


def _role_from_events(run: Run, role: str) -> Record:
    spans = [e for e in run.spans(ITERATION[role]) if e["role"] == role]
    if not spans or not run.wall > 0:
        return {}
    ranks = {e["rank"] for e in spans}
    counted = [spans_of[0] for spans_of in joint_rounds(run)] if role == "training" else spans
    lengths = [e["end"] - e["start"] for e in counted]
    busy = sum(covered([(e["start"], e["end"]) for e in spans if e["rank"] == rank]) for rank in ranks)
    return {
        "iterations": len(counted),
        "iterations_per_hour": 3600 * len(counted) / run.wall,
        "mean_s": float(np.mean(lengths)),
        "busy_fraction": min(1.0, busy / (run.wall * len(ranks))),
    }


def covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of the spans."""
    total, reached = 0.0, -np.inf
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def decision_table(run: Run) -> Rows:
    """One row per restart decision."""
    rows = []
    for d in run.decisions:
        source, replaced = table(d.get("source")), table(d.get("replaced"))
        taken = 1000 * (number(d.get("first_step")) - number(d.get("decided")))
        rows.append({
            "decision": d["decision"],
            "decided_s": number(d.get("decided")) - run.start,
            "outcome": d.get("outcome"),
            "latency_ms": taken,
            "walker": d.get("walker"),
            "segment": d.get("segment"),
            "source_walker": source.get("walker"),
            "source_segment": source.get("segment"),
            "source_frame": source.get("frame"),
            "source_topology": source.get("topology"),
            "source_rmsd_angstrom": source.get("rmsd_angstrom"),
            "source_score": source.get("score"),
            "replaced_rmsd_angstrom": replaced.get("rmsd_angstrom"),
            "replaced_score": replaced.get("score"),
            "strategy": d.get("strategy"),
            "model_version": d.get("model_version"),
            "outlier_method": d.get("outlier_method"),
            "eps": d.get("eps"),
            "velocity_seed": d.get("velocity_seed"),
        })  # fmt: skip
    return rows


def segment_table(run: Run, segments: list[Segment]) -> Rows:
    """One row per segment, with its parent and what it reached."""
    lowest: dict[tuple[int, int], float] = {}
    frames = run.timeline
    names = zip(frames["walker"].tolist(), frames["segment"].tolist(), strict=True)
    for name, rmsd, repeat in zip(names, frames["rmsd_angstrom"].tolist(), frames["restart_point"], strict=True):
        if not repeat and rmsd == rmsd:
            lowest[name] = min(rmsd, lowest.get(name, np.inf))
    ended = {(e.get("walker"), e.get("segment")): e for e in run.spans("segment")}
    rows = []
    for s in segments:
        end = ended.get((s.walker, s.segment), {})
        rows.append({
            "walker": s.walker,
            "segment": s.segment,
            "started_s": s.start - run.start,
            "wall_s": number(end.get("end")) - number(end.get("start")),
            "time_ps": s.time_ps,
            "first_frame": s.first_frame,
            "frames": s.n_frames,
            "restart_point": s.restart_point,
            "decision": s.decision,
            "parent_walker": s.parent.walker if s.parent else None,
            "parent_segment": s.parent.segment if s.parent else None,
            "parent_frame": s.parent.frame if s.parent else None,
            "velocity_seed": s.velocity_seed,
            "topology": s.topology,
            "best_rmsd_angstrom": lowest.get((s.walker, s.segment)),
            "end_reason": end.get("reason"),
        })  # fmt: skip
    return rows


def record_table(records: list[Record], start: float) -> Rows:
    """Records as rows: the plain values of each, in the order in which the keys first appear.

    Unix times are given as seconds since `start`.
    """
    clocks = {"time": "time_s", "created": "created_s"}
    keys = dict.fromkeys(k for r in records for k, v in r.items() if not isinstance(v, dict | list))
    return [{clocks.get(k, k): number(r.get(k)) - start if k in clocks else r.get(k) for k in keys} for r in records]


def latency_words(run: Run) -> str:
    """Median, 99th percentile and maximum of the restart latency in words, empty without restarts."""
    values = latencies_ms(run)
    if not len(values):
        return ""
    p50, p99 = np.percentile(values, [50, 99])
    return f"p50 {milliseconds(p50)}, p99 {milliseconds(p99)}, max {milliseconds(values.max())}"


def write_csv(path: Path, rows: Rows) -> None:
    """Write rows with the same keys; a missing value is an empty cell."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({k: cell(v) for k, v in row.items()} for row in rows)


def cell(value: object) -> str:
    """One value as text: floats with six digits (Unix times to the millisecond), nothing for none or NaN."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 1e6 else f"{value:.6g}"
    return str(value)
