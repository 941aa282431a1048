"""Figures of what was sampled: RMSD over simulated time, its distribution by round, the lineage of the segments."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from ..analysis.lineage import Segment, ancestry
from ..analysis.records import column, number
from ..analysis.run import Run
from . import style

MAX_POINTS = 2000
MAX_RIDGES = 8
MAX_WALKERS = 48
RMSD_LABEL = "Cα RMSD to the target (Å)"


def sampled(run: Run) -> np.ndarray:
    """Indices of the frames that were simulated and have an RMSD (restart points repeat another frame)."""
    return np.flatnonzero(~run.timeline["restart_point"] & np.isfinite(run.timeline["rmsd_angstrom"]))


def restart_points(run: Run) -> np.ndarray:
    """Indices of the frames that a restart decision put first in a segment."""
    first = {(s["walker"], s.get("first_frame")) for s in run.segment_lines if number(s.get("decision")) >= 0}
    names = zip(run.timeline["walker"].tolist(), run.timeline["frame"].tolist(), strict=True)
    return np.flatnonzero([name in first for name in names] & run.timeline["restart_point"])


def best_frame(run: Run) -> int | None:
    """Index of the frame with the lowest RMSD, None without frames."""
    rows = sampled(run)
    return int(rows[np.argmin(run.timeline["rmsd_angstrom"][rows])]) if len(rows) else None


def native(run: Run) -> np.ndarray:
    """Fraction of native contacts of every frame of the timeline, NaN if it is not recorded."""
    if not run.native_contacts:
        return np.full(len(run.timeline), np.nan)
    return run.timeline[run.native_contacts]


def progress(run: Run, path: Path) -> bool:
    """Best and per-walker RMSD over aggregate simulated time (Fig. 6 of the paper). False: no data."""
    rows = sampled(run)
    if not len(rows):
        return False
    scale, unit = style.simulated_scale(run.timeline["aggregate_ps"][-1])
    aggregate, rmsd = run.timeline["aggregate_ps"] / scale, run.timeline["rmsd_angstrom"]
    best = np.minimum.accumulate(rmsd[rows])
    with style.figure(path) as figure:
        axes = figure.add_subplot()
        _walker_lines(axes, run, aggregate)
        restarts = restart_points(run)
        _restart_drops(axes, run, aggregate, restarts)
        axes.step(aggregate[rows], best, where="post", color=style.INK, linewidth=2.2, zorder=5, label="best so far")
        at = rows[np.argmin(rmsd[rows])]
        axes.annotate(
            f"{rmsd[at]:.2f} Å", (aggregate[at], rmsd[at]), xytext=(0, -5), textcoords="offset points", ha="center",
            va="top", fontweight="bold", zorder=6,
        )  # fmt: skip
        _native_band(axes, run)
        axes.set(xlabel=f"aggregate simulated time ({unit})", ylabel=RMSD_LABEL, xlim=(0, aggregate[-1]))
        axes.set_ylim(0, np.quantile(rmsd[rows], 0.999) * 1.08)
        for handle in axes.legend(loc="upper right", ncols=4).legend_handles:
            if handle is not None:
                handle.set_alpha(1.0)
    return True


def _walker_lines(axes: Axes, run: Run, aggregate: np.ndarray) -> None:
    """One faint line per walker, broken where it was restarted."""
    walkers = np.unique(run.timeline["walker"])
    alpha = float(np.clip(4 / len(walkers), 0.06, 0.55))
    colours = style.WALKERS(np.linspace(0, 1, len(walkers)))
    for walker, colour in zip(walkers, colours, strict=False):
        mine = np.flatnonzero(run.timeline["walker"] == walker)
        mine = np.sort(mine)[style.thin(len(mine), MAX_POINTS)]
        rmsd = run.timeline["rmsd_angstrom"][mine].copy()
        begins = np.flatnonzero(run.timeline["restart_point"][mine])
        x, y = np.insert(aggregate[mine], begins, np.nan), np.insert(rmsd, begins, np.nan)
        label = f"{len(walkers)} walkers" if walker == walkers[0] else None
        axes.plot(x, y, color=colour, linewidth=0.8, alpha=alpha, label=label)


def _restart_drops(axes: Axes, run: Run, aggregate: np.ndarray, restarts: np.ndarray) -> None:
    """A line for every restart, from the RMSD that was left to the one that is started from."""
    rmsd, walker, frame = (run.timeline[name] for name in ("rmsd_angstrom", "walker", "frame"))
    row = {name: i for i, name in enumerate(zip(walker.tolist(), frame.tolist(), strict=True))}
    left = [row.get((walker[i], frame[i] - 1), i) for i in restarts]
    drops = [[(aggregate[i], rmsd[before]), (aggregate[i], rmsd[i])] for i, before in zip(restarts, left, strict=True)]
    alpha = float(np.clip(60 / max(1, len(drops)), 0.15, 0.8))
    axes.add_collection(LineCollection(drops, colors=style.ACCENT, linewidth=0.8, alpha=0.6 * alpha, zorder=3))
    axes.scatter(
        aggregate[restarts], rmsd[restarts], s=20, marker="v", color=style.ACCENT, alpha=alpha, linewidth=0, zorder=6,
        label=f"restarts ({len(restarts)})",
    )  # fmt: skip


def native_contacts(run: Run, path: Path) -> bool:
    """RMSD and fraction of native contacts of every frame, coloured by simulated time. False: no data."""
    rows = sampled(run)
    fraction = native(run)
    rows = rows[np.isfinite(fraction[rows])]
    if not len(rows):
        return False
    scale, unit = style.simulated_scale(run.timeline["aggregate_ps"][-1])
    shown = rows[style.thin(len(rows), MAX_POINTS)]
    rmsd = run.timeline["rmsd_angstrom"]
    with style.figure(path) as figure:
        axes = figure.add_subplot()
        points = axes.scatter(
            rmsd[shown],
            fraction[shown],
            c=run.timeline["aggregate_ps"][shown] / scale,
            s=9,
            linewidth=0,
            cmap=style.ITERATIONS,
            alpha=0.7,
        )
        figure.colorbar(points, ax=axes, label=f"aggregate simulated time ({unit})", pad=0.01, aspect=30)
        at = rows[np.argmin(rmsd[rows])]
        axes.plot(
            rmsd[at],
            fraction[at],
            marker="*",
            color=style.ACCENT,
            markersize=14,
            markeredgecolor="white",
            linestyle="none",
            label="lowest RMSD",
        )
        _native_band(axes, run, upright=True)
        axes.set(xlabel=RMSD_LABEL, ylabel="fraction of native contacts", ylim=(-0.02, 1.02))
        axes.set_xlim(0, np.quantile(rmsd[rows], 0.999) * 1.08)
        axes.legend(loc="upper right")
    return True


def _native_band(axes: Axes, run: Run, *, upright: bool = False) -> None:
    """Shade what counts as folded, if the run has a target RMSD."""
    limit = number(run.setting("run", "target_rmsd_angstrom"))
    if limit > 0:
        span = axes.axvspan if upright else axes.axhspan
        span(0, limit, color=style.TARGET, linewidth=0, zorder=0, label=f"target: ≤ {limit:g} Å")


def round_of(run: Run, wall: np.ndarray) -> np.ndarray:
    """How many inference rounds were done at these Unix times; NaN where the time is unknown, or without rounds."""
    ends = np.sort(column(run.rounds, "time"))
    ends = ends[np.isfinite(ends)]
    return np.where(np.isfinite(wall) & (len(ends) > 0), np.searchsorted(ends, wall), np.nan)


def iterations(run: Run, rows: np.ndarray) -> tuple[list[np.ndarray], list[str], str]:
    """Frames `rows` in groups by inference round, at most MAX_RIDGES: the groups, their labels and what they are.

    A frame belongs to the round that ended next after it was made; without rounds, or without wall times, the
    groups are equal parts of the aggregate simulated time.
    """
    of_round = round_of(run, run.timeline["wall"][rows])
    if np.isfinite(of_round).all():
        n = int(of_round.max()) + 1
        edges = np.unique(np.linspace(0, n, min(n, MAX_RIDGES) + 1).round().astype(int))
        groups = [rows[(of_round >= a) & (of_round < b)] for a, b in pairwise(edges)]
        labels = [f"{a}" if b - a == 1 else f"{a}–{b - 1}" for a, b in pairwise(edges)]
        kept = [(g, label) for g, label in zip(groups, labels, strict=True) if len(g)]
        return [g for g, _ in kept], [label for _, label in kept], "inference rounds done"
    groups = [g for g in np.array_split(rows, MAX_RIDGES) if len(g)]
    scale, unit = style.simulated_scale(run.timeline["aggregate_ps"][-1])
    labels = [f"{run.timeline['aggregate_ps'][g[-1]] / scale:.3g}" for g in groups]
    return groups, labels, f"until aggregate time ({unit})"


def histograms(run: Run, path: Path) -> bool:
    """RMSD distribution by inference round, one ridge per group of rounds (Fig. 3 of the paper). False: no data."""
    rows = sampled(run)
    if not len(rows):
        return False
    groups, labels, meaning = iterations(run, rows)
    rmsd = run.timeline["rmsd_angstrom"]
    lowest = rmsd[rows].min() - 0.5
    edges = np.linspace(lowest if lowest > 2 else 0, rmsd[rows].max() * 1.02, 81)
    colours = mpl.colormaps[style.ITERATIONS](np.linspace(0.05, 0.95, len(groups)))
    with style.figure(path, height=1.6 + 0.45 * len(groups)) as figure:
        axes = figure.add_subplot()
        _native_band(axes, run, upright=True)
        for level, (group, colour) in enumerate(zip(groups, colours, strict=True)):
            density = smooth(np.histogram(rmsd[group], edges)[0])
            height = 1.7 * density / max(density.max(), 1e-12)
            centres, base, z = (edges[1:] + edges[:-1]) / 2, -level, 10 + 2 * level
            axes.fill_between(centres, base, base + height, color=colour, alpha=0.8, linewidth=0, zorder=z)
            outline = np.where(density > 0, base + height, np.nan)
            axes.plot(centres, outline, color="white", linewidth=1.2, zorder=z + 1)
            axes.plot(np.median(rmsd[group]), base, "|", color=style.INK, markersize=9, markeredgewidth=2, zorder=90)
        axes.set_yticks(-np.arange(len(groups)), labels)
        notes = [f"{np.median(rmsd[g]):.1f} Å · {len(g):,} frames" for g in groups]
        right = axes.secondary_yaxis("right")
        right.set_yticks(-np.arange(len(groups)), notes, fontsize=8.5)
        right.tick_params(length=0)
        right.spines["right"].set_visible(False)
        axes.annotate("median", (1, 0.99), xycoords="axes fraction", xytext=(4, 0), textcoords="offset points",
                      va="top", fontsize=8.5, color="#52606D", annotation_clip=False)  # fmt: skip
        axes.set(xlabel=RMSD_LABEL, ylabel=meaning, xlim=(edges[0], edges[-1]))
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    return True


def smooth(counts: np.ndarray) -> np.ndarray:
    """Counts as a density, smoothed over about three bins."""
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.3) ** 2)
    density = np.convolve(counts, kernel / kernel.sum(), mode="same")
    return density / max(density.sum(), 1e-12)


def lineage_tree(
    run: Run, segments: list[Segment], path: Path, end: tuple[int, int] | None = None, most: int = MAX_WALKERS
) -> bool:
    """Each walker's RMSD over wall time as a strip, restarts as links from source to child. False: no data.

    Parameters
    ----------
    path
        PNG or SVG.
    end
        Walker and frame whose route is highlighted; by default those of the lowest RMSD.
    most
        How many walkers are drawn at most.
    """
    known = [s for s in segments if s.start > 0]
    rows = sampled(run)
    if not known or not len(rows) or not np.isfinite(run.timeline["wall"][rows]).any():
        return False
    best = best_frame(run) if end is None else row_of_frame(run, *end)
    source = (int(run.timeline["walker"][best]), int(run.timeline["frame"][best]))
    way = ancestry(segments, *source)
    walkers = shown_walkers(run, [s.walker for s in way], most)
    lane = {w: y for y, w in enumerate(walkers)}
    divisor, unit = style.duration_scale(run.wall)
    row_height = 0.38 if len(walkers) <= 12 else 0.2
    with style.figure(path, height=1.5 + max(1.6, row_height * len(walkers))) as figure:
        axes = figure.add_subplot()
        strip = _strips(axes, run, lane, divisor, linewidth=25 * row_height)
        figure.colorbar(strip, ax=axes, label=RMSD_LABEL, pad=0.01, aspect=30)
        _links(axes, run, known, lane, set(zip(way[1:], way[:-1], strict=True)), divisor)
        at = ((run.timeline["wall"][best] - run.start) / divisor, lane[source[0]])
        axes.plot(*at, marker="*", color=style.ACCENT, markersize=14, markeredgecolor="white", zorder=9)
        axes.set_yticks(list(lane.values()), [str(w) for w in lane])
        n_walkers = len(np.unique(run.timeline["walker"]))
        label = "walker" if n_walkers == len(walkers) else f"walker ({len(walkers)} of {n_walkers} shown)"
        axes.set(xlabel=f"wall time ({unit})", ylabel=label, ylim=(len(lane) - 0.4, -0.6))
        axes.set_xlim(0, np.nanmax(run.timeline["wall"][rows] - run.start) / divisor * 1.01)
        axes.grid(visible=False, axis="y")
    return True


def _strips(axes: Axes, run: Run, lane: dict[int, int], divisor: float, linewidth: float) -> LineCollection:
    """One strip per walker, coloured by the RMSD of its frames."""
    rows, rmsd = sampled(run), run.timeline["rmsd_angstrom"]
    pieces, values = [], []
    for walker, y in lane.items():
        mine = rows[run.timeline["walker"][rows] == walker]
        mine = mine[style.thin(len(mine), MAX_POINTS)]
        t = (run.timeline["wall"][mine] - run.start) / divisor
        points = np.column_stack([t, np.full(len(t), y)])
        pieces.append(np.stack([points[:-1], points[1:]], axis=1))
        values.append(rmsd[mine][1:])
    colours = Normalize(rmsd[rows].min(), np.quantile(rmsd[rows], 0.98))
    strips = LineCollection(np.concatenate(pieces), cmap=style.RMSD_COLOURS, norm=colours, linewidth=linewidth)
    strips.set_array(np.concatenate(values))
    axes.add_collection(strips)
    return strips


def row_of_frame(run: Run, walker: int, frame: int) -> int:
    """Row in the timeline of a frame that the run has."""
    return int(np.flatnonzero((run.timeline["walker"] == walker) & (run.timeline["frame"] == frame))[0])


def shown_walkers(run: Run, wanted: list[int], most: int = MAX_WALKERS) -> list[int]:
    """At most this many walkers to draw: those wanted, and others evenly chosen."""
    walkers = np.unique(run.timeline["walker"]).astype(int)
    wanted = [w for w in dict.fromkeys(wanted) if w in walkers]
    others = np.setdiff1d(walkers, wanted)
    room = max(0, most - len(wanted))
    return sorted([*wanted, *others[style.thin(len(others), room)].tolist()]) if room else sorted(wanted)


def _links(axes: Axes, run: Run, segments: list[Segment], lane: dict[int, int], way: set, divisor: float) -> None:
    """Draw a link for every restart, the ones on the way to the best frame in front."""
    wall = _wall_of_frames(run)
    starts = {(child.walker, child.segment): parent for child, parent in way}
    restarted = [(s, s.parent) for s in segments if s.restarted and s.parent is not None]
    alpha = float(np.clip(40 / max(1, len(restarted)), 0.12, 0.7))
    for s, parent in restarted:
        ends = (parent.walker in lane, s.walker in lane)
        from_wall = wall.get((parent.walker, parent.frame), np.nan)
        if not all(ends) or not np.isfinite(from_wall):
            continue
        chosen = starts.get((s.walker, s.segment)) == parent
        x = (np.array([from_wall, s.start]) - run.start) / divisor
        y = [lane[parent.walker], lane[s.walker]]
        axes.annotate(
            "", (x[1], y[1]), xytext=(x[0], y[0]), zorder=8 if chosen else 5,
            arrowprops={
                "arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 10 if chosen else 6,
                "color": style.ACCENT if chosen else style.INK, "linewidth": 2.0 if chosen else 0.7,
                "alpha": 1.0 if chosen else alpha,
                "connectionstyle": f"arc3,rad={-0.35 if y[0] == y[1] else 0.12 / abs(y[0] - y[1])}",
            },
        )  # fmt: skip


def _wall_of_frames(run: Run) -> dict[tuple[int, int], float]:
    columns = (run.timeline[name].tolist() for name in ("walker", "frame", "wall"))
    return {(int(s), int(f)): w for s, f, w in zip(*columns, strict=True)}
