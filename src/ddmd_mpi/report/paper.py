"""Iterations of the roles beside those of the paper (its Table II)."""

from __future__ import annotations

import numpy as np

from ..analysis.records import column, number
from ..analysis.run import Run
from .tables import Rows, role_table
from .training import round_table

SOURCE = (
    "Columns S and F are DeepDriveMD-S and -F in Table II of Brace et al., Coupling streaming AI and HPC ensembles to "
    "achieve 100–1000× faster biomolecular simulations (IPDPS 2022): FSD-EY, 120 simulations of 10 ns on 30 nodes of "
    "Lassen, a GPU each. Rates are per walker, per aggregation rank, and of all training and all inference. If system, "
    "segments or machine are others, compare the ratios between roles, not the times."
)
#: Quantity, DeepDriveMD-S, DeepDriveMD-F.
PAPER = {
    "simulation: time of an iteration (s)": ("576", "591"),
    "simulation: iterations/h": ("5.9", "3.9"),
    "aggregation: time of an iteration (s)": ("3.2", "none"),
    "aggregation: iterations/h": ("1091", "none"),
    "aggregation: tasks": ("10", "none"),
    "training: time of an iteration (s)": ("216", "282"),
    "training: iterations/h": ("16.7", "2.0"),
    "training: samples of an iteration": ("20K", "24K; 48K"),
    "training: epochs of an iteration": ("50", "15; 20"),
    "inference: time of an iteration (s)": ("13", "111"),
    "inference: iterations/h": ("277", "3.7"),
    "inference: samples of an iteration": ("20K", "24K; 48K"),
    "inference: outliers": ("1000–5000", "500–700"),
}


def paper_table(run: Run) -> Rows:
    """One row per quantity of Table II; empty if no role has finished an iteration."""
    roles = {str(row["role"]): row for row in role_table(run)}
    if not any(number(row["iterations"]) > 0 for row in roles.values()):
        return []
    own = {
        f"{role}: {words}": _rounded(row[key], divisor)
        for role, row in roles.items()
        for words, key, divisor in (
            ("time of an iteration (s)", "mean_s", 1.0),
            ("iterations/h", "iterations_per_hour", _tasks(run, role, row)),
        )
    }
    rounds = round_table(run)
    own |= {
        "aggregation: tasks": _rounded(roles.get("aggregation", {}).get("ranks")),
        "training: samples of an iteration": _span(column(rounds, "window")),
        "training: epochs of an iteration": _span(column(rounds, "epochs")),
        "inference: samples of an iteration": _span(column(run.rounds, "frames")),
        "inference: outliers": _span(column(run.rounds, "outliers")),
    }
    return [
        {"quantity": name, "this run": own.get(name) or "none", "S": streaming, "F": files}
        for name, (streaming, files) in PAPER.items()
    ]


def _tasks(run: Run, role: str, row: dict[str, object]) -> float:
    """By how many tasks a rate of all of them is divided: a walker is a simulation task."""
    if role == "simulation":
        return float(len({s["walker"] for s in run.segment_lines}) or 1)
    return max(1.0, number(row["ranks"])) if role == "aggregation" else 1.0


def _rounded(value: object, divisor: float = 1.0) -> str:
    return f"{number(value) / divisor:.3g}" if number(value) > 0 else ""


def _span(values: np.ndarray) -> str:
    """Smallest and largest value in words."""
    known = values[np.isfinite(values)]
    if not len(known):
        return ""
    low, high = int(known.min()), int(known.max())
    return f"{low}" if low == high else f"{low}–{high}"
