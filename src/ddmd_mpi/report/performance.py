"""Figures of how the machine worked: the timeline of every rank, learning curves, decisions and rounds."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ..analysis.records import Record, column, number
from ..analysis.run import Run
from ..layout.roles import ROLES
from . import style
from .training import joint_rounds, terms

MAX_RANKS = 40
PIXELS = 2500
THIN_SPANS = ("io", "wait")
DASHES = ("-", (0, (3, 1.5)), (0, (1, 1)), (0, (6, 1.5)), (0, (3, 1, 1, 1)))


def timeline(run: Run, path: Path) -> bool:
    """What every rank did, one row per role and rank, spans coloured by name (Fig. 7 of the paper). False: no data."""
    spans = [e for e in run.events if e["name"] in style.SPAN_COLOURS]
    if not spans:
        return False
    rows = shown_ranks(run)
    divisor, unit = style.duration_scale(run.wall)
    with style.figure(path, height=1.5 + max(1.4, 0.36 * len(rows))) as figure:
        axes = figure.add_subplot()
        for y, (role, rank) in enumerate(rows):
            mine = [e for e in spans if (e["role"], e["rank"]) == (role, rank)]
            if mine:
                _rank_row(axes, mine, y, run.start, divisor)
        _restart_marks(axes, run, {rank: y for y, (role, rank) in enumerate(rows) if role == "simulation"}, divisor)
        axes.set_yticks(range(len(rows)), [f"{role} {rank}" for role, rank in rows])
        for label, (role, _) in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_color(style.ROLE_COLOURS.get(role, style.INK))
        names = [n for n in style.SPAN_COLOURS if any(e["name"] == n for e in spans)]
        handles = [Patch(color=style.SPAN_COLOURS[n], label=n.replace("_", " ")) for n in names]
        axes.legend(handles=[*handles, *axes.get_legend_handles_labels()[0]], loc="lower left",
                    bbox_to_anchor=(0, 1), ncols=6, borderaxespad=0.2)  # fmt: skip
        axes.set(xlabel=f"wall time ({unit})", ylim=(len(rows) - 0.4, -0.6))
        axes.set_xlim(0, max(e["end"] for e in spans) / divisor - run.start / divisor)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    return True


def shown_ranks(run: Run) -> list[tuple[str, int]]:
    """(role, rank) of the rows, by role; of roles with many ranks an even choice."""
    rows = []
    known = {(e["role"], e["rank"]) for e in run.events}
    for role in [*ROLES, *sorted({role for role, _ in known} - set(ROLES))]:
        ranks = sorted(rank for name, rank in known if name == role)
        rows += [(role, ranks[i]) for i in style.thin(len(ranks), MAX_RANKS)]
    return rows


def _rank_row(axes: Axes, spans: list[Record], y: int, origin: float, divisor: float) -> None:
    """One rank's spans: bars in one lane per walker, io and waiting as a thin line below."""
    walkers = walker_lanes(spans)
    longest = (max(e["end"] for e in spans) - origin) / divisor
    for name in sorted({e["name"] for e in spans}, key=lambda n: n not in ("start", "wait")):
        own = [e for e in spans if e["name"] == name]
        lanes = walkers if name == "segment" else {None: (-0.4, 0.64)}
        for walker, (top, height) in lanes.items():
            drawn = [e for e in own if walker is None or e.get("walker") == walker]
            bars = merged([(e["start"] - origin, e["end"] - origin) for e in drawn], divisor)
            wide = (bars[:, 1] > 0.005 * longest) & (len(lanes) <= 12)
            bars[:, 1] = np.maximum(bars[:, 1], 0.0012 * longest)
            place = (y + 0.26, 0.12) if name in THIN_SPANS else (y + top, height)
            axes.broken_barh(
                bars.tolist(), place, facecolor=style.SPAN_COLOURS.get(name, style.OTHER_COLOUR), zorder=3,
                edgecolor=["white" if w else "none" for w in wide], linewidth=0.6,
            )  # fmt: skip


def walker_lanes(spans: list[Record]) -> dict[int | None, tuple[float, float]]:
    """(top, height) of each walker's lane in the row of its rank, relative to the row."""
    walkers = sorted({e["walker"] for e in spans if e["name"] == "segment" and "walker" in e}) or [None]
    height = 0.64 / len(walkers)
    return {walker: (-0.4 + i * height, height) for i, walker in enumerate(walkers)}


def merged(spans: list[tuple[float, float]], divisor: float) -> np.ndarray:
    """(start, width) of the spans in units of `divisor`; those too close for the eye are one, shape (n, 2)."""
    begin, end = np.array(sorted(spans)).reshape(-1, 2).T / divisor
    if len(begin) < PIXELS // 4:
        return np.column_stack([begin, end - begin])
    cell = (end.max() - begin.min()) / PIXELS
    opens = np.flatnonzero(np.append(True, begin[1:] - np.maximum.accumulate(end)[:-1] > cell))
    last = np.maximum.reduceat(end, opens)
    return np.column_stack([begin[opens], last - begin[opens]])


def _restart_marks(axes: Axes, run: Run, rows: dict[int, int], divisor: float) -> None:
    """A mark in the walker's lane for the first step of every applied decision."""
    lane = {}
    for rank, y in rows.items():
        lanes = walker_lanes([e for e in run.spans("segment") if e["rank"] == rank])
        lane.update({walker: y + top + height / 2 for walker, (top, height) in lanes.items()})
    marks = [
        ((d["first_step"] - run.start) / divisor, lane[d["walker"]])
        for d in run.decisions
        if number(d.get("first_step")) > 0 and d.get("walker") in lane
    ]
    if marks:
        times, heights = zip(*marks, strict=True)
        axes.scatter(times, heights, marker=">", s=16, color=style.ACCENT, linewidth=0.4,
                     edgecolor="white", zorder=6, label="restart")  # fmt: skip


def learning(run: Run, path: Path) -> bool:
    """Loss, validation loss and terms over all epochs, versions marked. False: no data."""
    epochs = run.spans("epoch")
    records = epochs or run.models
    if not np.isfinite(column(records, "loss")).any():
        return False
    x, parts = np.arange(1, len(records) + 1), terms(epochs)
    with style.figure(path, height=5.6 if parts else 3.6) as figure:
        ratios = [3, 2] if parts else [1]
        stack = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
        colour = style.ROLE_COLOURS["training"]
        losses = {"training loss": column(records, "loss"), "validation loss": column(records, "validation_loss")}
        _curves(stack[0], x, losses, ((colour, "-"), (style.INK, (0, (3, 1.5)))), "loss per frame")
        if parts:
            _curves(stack[1], x, parts, [(colour, dashes) for dashes in DASHES], "terms per frame")
        if epochs:
            _version_marks(stack, run, epochs)
        stack[-1].set_xlabel("epoch, counted over all rounds" if epochs else "model version")
        stack[-1].set_xlim(0.5, len(x) + 0.5)
    return True


def _curves(axes: Axes, x: np.ndarray, curves: dict[str, np.ndarray], looks: Iterable[tuple], label: str) -> None:
    """Named curves; the axis is logarithmic if it must be."""
    for (name, values), (colour, dashes) in zip(curves.items(), looks, strict=False):
        axes.plot(x, values, color=colour, linewidth=1.6, linestyle=dashes, marker="o", markersize=2.5,
                  label=name.replace("_", " "))  # fmt: skip
    known = np.concatenate([values[np.isfinite(values)] for values in curves.values()])
    if known.min() > 0 and known.max() > 20 * known.min():
        axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.legend(loc="upper right", ncols=len(curves))


def _version_marks(stack: np.ndarray, run: Run, epochs: list[Record]) -> None:
    """A line where each round of training ended, with the version that it published."""
    first = [spans[0] for spans in joint_rounds(run)]
    versions = {r.get("round"): number(r.get("version")) for r in first if r.get("published")}
    ends = [i for i, (e, n) in enumerate(pairwise(epochs)) if e.get("round") != n.get("round")]
    ends = [*ends, len(epochs) - 1]
    labelled = set(style.thin(len(ends), 24).tolist())
    for axes in stack:
        for end in ends:
            axes.axvline(end + 1.5, color=style.FAINT, linewidth=0.8, zorder=0)
    for i, end in enumerate(ends):
        version = versions.get(epochs[end].get("round"), 0.0)
        if version > 0 and i in labelled:
            stack[0].annotate(
                f"v{version:.0f}", (end + 1.5, 1), xycoords=("data", "axes fraction"), xytext=(-2, 1),
                textcoords="offset points", ha="right", fontsize=8, color=style.ROLE_COLOURS["training"],
            )  # fmt: skip


def latencies_ms(run: Run) -> np.ndarray:
    """Milliseconds from each applied decision to the first step from it."""
    taken = column(run.decisions, "first_step") - column(run.decisions, "decided")
    return 1000 * taken[np.isfinite(taken) & (taken >= 0)]


def latency(run: Run, path: Path) -> bool:
    """Histogram of the time from a decision to the first step from it. False: no data."""
    values = latencies_ms(run)
    if not len(values):
        return False
    low, high = max(values.min(), 1e-2), max(values.max(), 1e-1)
    edges = np.geomspace(low * 0.8, high * 1.25, 31)
    with style.figure(path, height=3.2) as figure:
        axes = figure.add_subplot()
        colour = style.ROLE_COLOURS["inference"]
        axes.hist(np.maximum(values, low), edges.tolist(), color=colour, edgecolor="white", linewidth=0.6)
        for share, name in ((50, "p50"), (99, "p99")):
            x = np.percentile(values, share)
            axes.axvline(x, color=style.INK, linewidth=1.2, linestyle=(0, (4, 2)))
            axes.annotate(f"{name} {style.milliseconds(x)}", (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
                          textcoords="offset points", ha="center", fontsize=9)  # fmt: skip
        axes.set(xscale="log", xlabel="decision taken → first MD step from it (ms)", ylabel="restarts")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return True


def rounds(run: Run, path: Path) -> bool:
    """Outliers, eps and restarts of every inference round. False: no data."""
    if not run.rounds:
        return False
    x = column(run.rounds, "round")
    x = np.where(np.isfinite(x), x, np.arange(1, len(x) + 1))
    panels = {
        "outliers\n(% of window)": 100 * column(run.rounds, "outliers") / column(run.rounds, "frames"),
        "eps\n(latent distance)": column(run.rounds, "eps"),
        "restarts\ndecided": column(run.rounds, "decisions"),
    }
    panels = {label: values for label, values in panels.items() if np.nansum(values) > 0}
    if not panels:
        return False
    with style.figure(path, height=0.8 + 1.4 * len(panels)) as figure:
        stack = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (label, values) in zip(stack, panels.items(), strict=True):
            axes.set_ylabel(label)
            if label.startswith("restarts"):
                axes.bar(x, np.nan_to_num(values), color=style.ACCENT, width=0.8)
                axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
                continue
            _dots(axes, x, values, np.array([r.get("method") == "lof" for r in run.rounds]))
            if label.startswith("outliers"):
                _wanted_band(axes, run)
        stack[-1].set_xlabel("inference round")
        stack[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        stack[-1].set_xlim(x.min() - 0.6, max(x.max(), x.min() + 9) + 0.6)
    return True


def _dots(axes: Axes, x: np.ndarray, values: np.ndarray, fallback: np.ndarray) -> None:
    """Values by round; rounds whose outliers are LOF's, since DBSCAN gave too few, are hollow."""
    colour = style.ROLE_COLOURS["inference"]
    axes.plot(x, values, color=colour, linewidth=1.0, alpha=0.6)
    axes.plot(x[~fallback], values[~fallback], "o", color=colour, markersize=4)
    label = "outliers by LOF (too few by DBSCAN)" if fallback.any() else None
    axes.plot(x[fallback], values[fallback], "o", color=colour, markerfacecolor="white", markersize=4, label=label)


def _wanted_band(axes: Axes, run: Run) -> None:
    low = 100 * number(run.setting("steering", "outlier_fraction_min"))
    high = 100 * number(run.setting("steering", "outlier_fraction_max"))
    if low >= 0 and high > low:
        band = f"wanted: {low:g}–{high:g} %"
        axes.axhspan(low, high, color=style.ROLE_COLOURS["inference"], alpha=0.12, linewidth=0, label=band)
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.35 * high if high > low else 0))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", ncols=2)
