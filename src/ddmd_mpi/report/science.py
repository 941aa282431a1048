"""Figures of what was sampled: RMSD over simulated time, its distribution by round, the lineage of the segments."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from . import style
from .lineage import Segment, ancestry
from .read import Run, column, number

MOST_POINTS = 2000
MOST_RIDGES = 8
MOST_WALKERS = 48
RMSD_LABEL = "Cα RMSD to the target (Å)"


def sampled(run: Run) -> np.ndarray:
    """Indices of the frames that were simulated and have an RMSD (restart points repeat another frame)."""
    return np.flatnonzero(~run.frames["restart_point"] & np.isfinite(run.frames["rmsd_angstrom"]))


def restart_points(run: Run) -> np.ndarray:
    """Indices of the frames that a restart decision put first in a segment."""
    first = {(s["simulation"], s.get("first_frame")) for s in run.segments if number(s.get("decision")) >= 0}
    names = zip(run.frames["simulation"].tolist(), run.frames["frame"].tolist(), strict=True)
    return np.flatnonzero([name in first for name in names] & run.frames["restart_point"])


def best_frame(run: Run) -> int | None:
    """Index of the frame with the lowest RMSD, None without frames."""
    rows = sampled(run)
    return int(rows[np.argmin(run.frames["rmsd_angstrom"][rows])]) if len(rows) else None


def progress(run: Run, path: Path) -> bool:
    """Best and per-walker RMSD over aggregate simulated time (Fig. 6 of the paper). False: no data."""
    rows = sampled(run)
    if not len(rows):
        return False
    scale, unit = style.simulated_scale(run.frames["aggregate_ps"][-1])
    aggregate, rmsd = run.frames["aggregate_ps"] / scale, run.frames["rmsd_angstrom"]
    best = np.minimum.accumulate(rmsd[rows])
    with style.figure(path) as figure:
        axes = figure.add_subplot()
        _walker_lines(axes, run, aggregate)
        restarts = restart_points(run)
        axes.scatter(
            aggregate[restarts], rmsd[restarts], s=16, marker="v", color=style.ACCENT, alpha=0.8, linewidth=0,
            zorder=4, label=f"restart ({len(restarts)})",
        )  # fmt: skip
        axes.step(aggregate[rows], best, where="post", color=style.INK, linewidth=2.2, zorder=5, label="best so far")
        at = rows[np.argmin(rmsd[rows])]
        axes.annotate(
            f"{rmsd[at]:.2f} Å", (aggregate[at], rmsd[at]), xytext=(0, -5), textcoords="offset points", ha="center",
            va="top", fontweight="bold", zorder=6,
        )  # fmt: skip
        _native_band(axes, run)
        axes.set(xlabel=f"aggregate simulated time ({unit})", ylabel=RMSD_LABEL, xlim=(0, aggregate[-1]))
        axes.set_ylim(0, np.quantile(rmsd[rows], 0.999) * 1.08)
        axes.legend(loc="upper right", ncols=4)
    return True


def _walker_lines(axes: Axes, run: Run, aggregate: np.ndarray) -> None:
    """One faint line per walker, broken where it was restarted."""
    walkers = np.unique(run.frames["simulation"])
    alpha = float(np.clip(4 / len(walkers), 0.06, 0.55))
    colours = mpl.colormaps["tab20b"](np.linspace(0, 1, max(2, len(walkers))))
    for walker, colour in zip(walkers, colours, strict=False):
        mine = np.flatnonzero(run.frames["simulation"] == walker)
        mine = np.sort(mine)[style.thin(len(mine), MOST_POINTS)]
        rmsd = run.frames["rmsd_angstrom"][mine].copy()
        begins = np.flatnonzero(run.frames["restart_point"][mine])
        x, y = np.insert(aggregate[mine], begins, np.nan), np.insert(rmsd, begins, np.nan)
        label = f"{len(walkers)} walkers" if walker == walkers[0] else None
        axes.plot(x, y, color=colour, linewidth=0.8, alpha=alpha, label=label)


def _native_band(axes: Axes, run: Run) -> None:
    """Shade what counts as folded, if the run has a target RMSD."""
    limit = number(run.setting("run", "target_rmsd_angstrom"))
    if limit > 0:
        axes.axhspan(0, limit, color=style.ROLE_COLOURS["training"], alpha=0.13, linewidth=0, zorder=0)
        axes.annotate(
            f"target ≤ {limit:g} Å", (1, limit), xycoords=("axes fraction", "data"), xytext=(-4, -3),
            textcoords="offset points", ha="right", va="top", color="#00664A", fontsize=9,
        )  # fmt: skip


def iterations(run: Run, rows: np.ndarray) -> tuple[list[np.ndarray], list[str], str]:
    """Frames `rows` in groups by inference round, at most MOST_RIDGES: the groups, their labels and what they are.

    A frame belongs to the round that ended next after it was made; without rounds, or without wall times, the
    groups are equal parts of the aggregate simulated time.
    """
    ends = np.sort(column(run.rounds, "time"))
    wall = run.frames["wall"][rows]
    if np.isfinite(ends).any() and np.isfinite(wall).all():
        of_round = np.searchsorted(ends[np.isfinite(ends)], wall)
        n = int(of_round.max()) + 1
        edges = np.unique(np.linspace(0, n, min(n, MOST_RIDGES) + 1).round().astype(int))
        groups = [rows[(of_round >= a) & (of_round < b)] for a, b in zip(edges[:-1], edges[1:], strict=True)]
        labels = [f"{a}" if b - a == 1 else f"{a}–{b - 1}" for a, b in zip(edges[:-1], edges[1:], strict=True)]
        kept = [(g, label) for g, label in zip(groups, labels, strict=True) if len(g)]
        return [g for g, _ in kept], [label for _, label in kept], "restart rounds so far"
    groups = [g for g in np.array_split(rows, MOST_RIDGES) if len(g)]
    scale, unit = style.simulated_scale(run.frames["aggregate_ps"][-1])
    labels = [f"{run.frames['aggregate_ps'][g[-1]] / scale:.3g}" for g in groups]
    return groups, labels, f"until aggregate time ({unit})"


def histograms(run: Run, path: Path) -> bool:
    """RMSD distribution by inference round, one ridge per group of rounds (Fig. 3 of the paper). False: no data."""
    rows = sampled(run)
    if not len(rows):
        return False
    groups, labels, meaning = iterations(run, rows)
    rmsd = run.frames["rmsd_angstrom"]
    edges = np.linspace(0, rmsd[rows].max() * 1.02, 81)
    colours = mpl.colormaps[style.ITERATIONS](np.linspace(0.05, 0.95, len(groups)))
    with style.figure(path, height=1.6 + 0.45 * len(groups)) as figure:
        axes = figure.add_subplot()
        _native_band_upright(axes, run)
        for level, (group, colour) in enumerate(zip(groups, colours, strict=True)):
            density = smooth(np.histogram(rmsd[group], edges)[0])
            height = 1.7 * density / max(density.max(), 1e-12)
            centres, base, z = (edges[1:] + edges[:-1]) / 2, -level, 10 + 2 * level
            axes.fill_between(centres, base, base + height, color=colour, alpha=0.8, linewidth=0, zorder=z)
            axes.plot(centres, base + height, color="white", linewidth=1.2, zorder=z + 1)
            median = np.median(rmsd[group])
            axes.plot([median, median], [base, base + 0.3], color="white", linewidth=1.6, zorder=z + 1)
            axes.annotate(
                f"median {median:.1f} Å · {len(group):,} frames", (1, base + 0.12), xycoords=("axes fraction", "data"),
                ha="right", fontsize=8, color="#52606D", zorder=100,
            )  # fmt: skip
        axes.set_yticks(-np.arange(len(groups)), labels)
        axes.set(xlabel=RMSD_LABEL, ylabel=meaning, xlim=(0, edges[-1]))
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    return True


def smooth(counts: np.ndarray) -> np.ndarray:
    """Counts as a density, smoothed over about three bins."""
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.3) ** 2)
    density = np.convolve(counts, kernel / kernel.sum(), mode="same")
    return density / max(density.sum(), 1e-12)


def _native_band_upright(axes: Axes, run: Run) -> None:
    limit = number(run.setting("run", "target_rmsd_angstrom"))
    if limit > 0:
        axes.axvspan(0, limit, color=style.ROLE_COLOURS["training"], alpha=0.13, linewidth=0, zorder=0)


def lineage_tree(run: Run, segments: list[Segment], path: Path) -> bool:
    """Each walker's RMSD over wall time as a strip, restarts as links from source to child. False: no data."""
    known = [s for s in segments if s.start > 0]
    rows = sampled(run)
    if not known or not len(rows) or not np.isfinite(run.frames["wall"][rows]).any():
        return False
    best = best_frame(run)
    source = (int(run.frames["simulation"][best]), int(run.frames["frame"][best]))
    way = ancestry(segments, *source)
    walkers = shown_walkers(run, [s.simulation for s in way])
    lane = {w: y for y, w in enumerate(walkers)}
    origin, (divisor, unit) = run.start, style.duration_scale(run.wall)
    rmsd = run.frames["rmsd_angstrom"]
    with style.figure(path, height=1.5 + max(1.6, 0.34 * len(walkers))) as figure:
        axes = figure.add_subplot()
        colours = Normalize(0, np.quantile(rmsd[rows], 0.98))
        for walker, y in lane.items():
            mine = rows[run.frames["simulation"][rows] == walker]
            mine = mine[style.thin(len(mine), MOST_POINTS)]
            t = (run.frames["wall"][mine] - origin) / divisor
            points = np.column_stack([t, np.full(len(t), y)])
            strip = LineCollection(
                np.stack([points[:-1], points[1:]], axis=1), cmap=style.RMSD_COLOURS, norm=colours, linewidth=9
            )
            strip.set_array(rmsd[mine][1:])
            axes.add_collection(strip)
        figure.colorbar(strip, ax=axes, label=RMSD_LABEL, pad=0.01, aspect=30)
        _links(axes, run, known, lane, set(zip(way[1:], way[:-1], strict=True)), divisor)
        at = ((run.frames["wall"][best] - origin) / divisor, lane[source[0]])
        axes.plot(*at, marker="*", color=style.ACCENT, markersize=14, markeredgecolor="white", zorder=9)
        axes.set_yticks(list(lane.values()), [str(w) for w in lane])
        axes.set(xlabel=f"wall time ({unit})", ylabel="walker", ylim=(len(lane) - 0.4, -0.6))
        axes.set_xlim(0, np.nanmax(run.frames["wall"][rows] - origin) / divisor * 1.01)
        axes.grid(visible=False, axis="y")
    return True


def shown_walkers(run: Run, wanted: list[int]) -> list[int]:
    """At most MOST_WALKERS walkers to draw: those wanted, and others evenly chosen."""
    walkers = np.unique(run.frames["simulation"]).astype(int)
    wanted = [w for w in dict.fromkeys(wanted) if w in walkers]
    others = np.setdiff1d(walkers, wanted)
    room = max(0, MOST_WALKERS - len(wanted))
    return sorted([*wanted, *others[style.thin(len(others), room)].tolist()]) if room else sorted(wanted)


def _links(axes: Axes, run: Run, segments: list[Segment], lane: dict[int, int], way: set, divisor: float) -> None:
    """Draw a link for every restart, the ones on the way to the best frame in front."""
    wall = _wall_of_frames(run)
    starts = {(child.simulation, child.segment): parent for child, parent in way}
    restarted = [s for s in segments if s.restarted and s.parent is not None]
    alpha = float(np.clip(40 / max(1, len(restarted)), 0.12, 0.7))
    for s in restarted:
        ends = (s.parent.simulation in lane, s.simulation in lane)
        from_wall = wall.get((s.parent.simulation, s.parent.frame), np.nan)
        if not all(ends) or not np.isfinite(from_wall):
            continue
        chosen = starts.get((s.simulation, s.segment)) == s.parent
        x = (np.array([from_wall, s.start]) - run.start) / divisor
        y = [lane[s.parent.simulation], lane[s.simulation]]
        axes.annotate(
            "", (x[1], y[1]), xytext=(x[0], y[0]), zorder=8 if chosen else 5,
            arrowprops={
                "arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 10 if chosen else 6,
                "color": style.ACCENT if chosen else style.INK, "linewidth": 2.0 if chosen else 0.7,
                "alpha": 1.0 if chosen else alpha,
                "connectionstyle": "arc3,rad=0.12" if y[0] != y[1] else "arc3,rad=-0.35",
            },
        )  # fmt: skip


def _wall_of_frames(run: Run) -> dict[tuple[int, int], float]:
    columns = (run.frames[name].tolist() for name in ("simulation", "frame", "wall"))
    return {(int(s), int(f)): w for s, f, w in zip(*columns, strict=True)}
