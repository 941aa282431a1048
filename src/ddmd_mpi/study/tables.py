"""Tables of a study: every trial, the arms as in Table I of the paper, and their comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..analysis.intervals import Interval
from ..report.bands import middle_and_band
from ..report.tables import Rows
from .measures import COVERAGE, RMSD, Measured, quantities
from .statistics import Comparison, compare, holm

COMPARED = ("difference", "effect", "paired")


def arm_table(measured: Sequence[Measured]) -> Rows:
    """One row per system, arm and quantity: mean, standard deviation, extremes, median; n counts what was reached."""
    rows: Rows = []
    for m in measured:
        for arm in m.arms:
            for quantity in quantities(m.system):
                values = np.array(list(m.values(arm, quantity).values()))
                known = values[np.isfinite(values)]
                rows.append({
                    "system": m.system.name,
                    "arm": arm,
                    "quantity": quantity,
                    "trials": len(values),
                    "n": len(known),
                    "mean": _of(np.mean, known),
                    "sd": float(known.std(ddof=1)) if len(known) > 1 else None,
                    "min": _of(np.min, known),
                    "max": _of(np.max, known),
                    "median": _of(np.median, values),
                })  # fmt: skip
    return rows


def _of(function: object, values: np.ndarray) -> float | None:
    return float(function(values)) if len(values) and callable(function) else None


def comparisons(measured: Sequence[Measured], reference: str) -> Rows:
    """One row per system, arm and quantity: the arm against the reference; see :class:`.statistics.Comparison`."""
    rows: Rows = []
    for m in measured:
        others = [arm for arm in m.arms if arm != reference]
        if reference not in m.arms or not others:
            continue
        for quantity in quantities(m.system):
            base = m.values(reference, quantity)
            found = [compare(m.values(arm, quantity), base) for arm in others]
            corrected = holm(np.array([c.p_rank for c in found]))
            rows += [
                {
                    "system": m.system.name,
                    "quantity": quantity,
                    "arm": arm,
                    "reference": reference,
                    **_cells(c, float(p)),
                }
                for arm, c, p in zip(others, found, corrected, strict=True)
            ]
    return rows


def _cells(c: Comparison, p_holm: float) -> dict[str, object]:
    def ends(name: str, found: Interval) -> dict[str, object]:
        return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}

    return {
        "n": c.n,
        "n_reference": c.n_reference,
        **ends("difference", c.difference),
        **ends("effect", c.effect),
        "p_rank": c.p_rank,
        "p_rank_holm": p_holm,
        "n_pairs": c.n_pairs,
        **ends("paired_difference", c.paired),
        "p_paired": c.p_paired,
    }


def curve_table(measured: Sequence[Measured]) -> Rows:
    """The curves of the figures: median and quartiles over the seeds."""
    rows: Rows = []
    for m in measured:
        for (quantity, axis, arm), curves in m.curves.items():
            for time, *values in zip(m.grids[axis], *middle_and_band(curves), strict=True):
                if np.isfinite(values).all():
                    row = dict(zip(("median", "low", "high"), values, strict=True))
                    rows.append({"system": m.system.name, "arm": arm, "quantity": quantity, "axis": axis,
                                 "time_ns": time, "n": len(curves), **row})  # fmt: skip
    return rows


def overview(m: Measured, tests: Rows) -> Rows:
    """The table for readers, one row per arm: mean ± standard deviation, extremes, passages, and p-values."""
    rows: Rows = []
    p_of = {(t["arm"], t["quantity"]): t["p_rank"] for t in tests if t["system"] == m.system.name}
    for arm in m.arms:
        row: dict[str, object] = {"arm": arm, "n": len(m.values(arm, RMSD))}
        for quantity, heading in quantities(m.system).items():
            values = np.array(list(m.values(arm, quantity).values()))
            if quantity.startswith("passage"):
                row[heading] = passage(values)
            else:
                row[heading] = spread(values)
            if quantity == RMSD:
                row |= {"min": f"{values.min():.2f}", "max": f"{values.max():.2f}"}
            if quantity in (RMSD, COVERAGE):
                p = p_of.get((arm, quantity))
                row[f"p{'' if quantity == RMSD else ' (coverage)'}"] = "" if p is None else p_value(p)
        restarts = list(m.values(arm, "restarts").values())
        rows.append({**row, "restarts": f"{np.mean(restarts):.0f}"})
    return rows


def spread(values: np.ndarray) -> str:
    """Mean ± standard deviation."""
    sd = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{sd}"


def passage(values: np.ndarray) -> str:
    """The median, and how many have got there: more than half of them must have, else it is not known."""
    reached = int(np.isfinite(values).sum())
    median = np.median(values)
    return f"{median:.3g} ({reached} of {len(values)})" if np.isfinite(median) else f"- ({reached} of {len(values)})"


def p_value(p: object) -> str:
    """A p-value in two digits."""
    return f"{p:.2g}" if isinstance(p, float) and p == p else ""


def markdown(rows: Rows) -> str:
    """Rows as a table of Markdown."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([str(v) for v in row.values()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
