"""Restarts as flows: how the walkers move between bands of RMSD, from one group of inference rounds to the next."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Curve

from ..analysis.records import column, number
from ..analysis.run import Run
from . import style
from .tables import Rows

MAX_COLUMNS, N_BANDS = 8, 5
OWN, RESTARTED = style.ROLE_COLOURS["simulation"], style.SPAN_COLOURS["io"]
CAPTION = (
    "Each column is a time, and the height of a block the number of walkers in a band of RMSD then. Ribbons lead to "
    "where these walkers are at the next time: by their own dynamics (blue), or with a restart in between (orange)."
)


class Flows(NamedTuple):
    """Walkers by band of RMSD at some times, and how they moved.

    Parameters
    ----------
    edges
        Of the bands, angstrom, shape (n_bands + 1,).
    rounds
        Inference rounds done at each time, shape (n_times,).
    counts
        Walkers from band to band, without and with a restart in between: shape (n_times - 1, n_bands, n_bands, 2).
    """

    edges: np.ndarray
    rounds: np.ndarray
    counts: np.ndarray


def flows(run: Run) -> Flows | None:
    """How the walkers moved; None without inference rounds and RMSD at two times."""
    ends = np.sort(column(run.rounds, "time"))
    ends = ends[np.isfinite(ends)]
    frames = run.frames[np.isfinite(run.frames["rmsd_angstrom"]) & np.isfinite(run.frames["wall"])]
    if not len(ends) or not len(frames):
        return None
    rounds = np.unique(np.linspace(0, len(ends), min(MAX_COLUMNS, len(ends) + 1)).round().astype(int))
    first = frames["wall"].min()
    times = np.array([first if n == 0 else ends[n - 1] for n in rounds])
    walkers = np.unique(frames["walker"])
    # At the first time a walker counts with its first frame.
    rmsd = np.array([_at(frames[frames["walker"] == w], times) for w in walkers])
    restarts = [(s["walker"], number(s.get("start"))) for s in run.segment_lines if number(s.get("decision")) >= 0]
    edges = np.unique((2 * np.quantile(rmsd, np.linspace(0, 1, N_BANDS + 1)[1:-1])).round() / 2)
    edges = np.array([0.0, *edges[edges > 0], np.inf])
    band = np.searchsorted(edges, rmsd, side="right") - 1
    restarted = np.zeros((len(walkers), len(times) - 1), int)
    for walker, start in restarts:
        between = np.searchsorted(times, start, side="left") - 1
        if 0 <= between < len(times) - 1 and walker in walkers:
            restarted[np.searchsorted(walkers, walker), between] = 1
    counts = np.zeros((len(times) - 1, len(edges) - 1, len(edges) - 1, 2), int)
    for i in range(len(times) - 1):
        np.add.at(counts[i], (band[:, i], band[:, i + 1], restarted[:, i]), 1)
    return Flows(edges, rounds, counts) if len(times) > 1 else None


def _at(frames: np.ndarray, times: np.ndarray) -> np.ndarray:
    """RMSD of a walker's newest frame at each time."""
    order = np.argsort(frames["wall"], kind="stable")
    at = np.searchsorted(frames["wall"][order], times, side="right") - 1
    return frames["rmsd_angstrom"][order][np.maximum(at, 0)]


def flow_table(run: Run) -> Rows:
    """One row for each ribbon of the figure."""
    found = flows(run)
    if found is None:
        return []
    return [
        {
            "from_round": int(found.rounds[i]),
            "to_round": int(found.rounds[i + 1]),
            "from_rmsd_angstrom": band_name(found.edges, a),
            "to_rmsd_angstrom": band_name(found.edges, b),
            "restarted": bool(restarted),
            "walkers": int(found.counts[i, a, b, restarted]),
        }
        for i, a, b, restarted in np.argwhere(found.counts > 0).tolist()
    ]


def band_name(edges: np.ndarray, i: int) -> str:
    """A band in words, such as 2–3.5."""
    low, high = edges[i], edges[i + 1]
    return f"> {low:g}" if np.isinf(high) else f"{low:g}–{high:g}"


def restart_flows(run: Run, path: Path) -> bool:
    """Walkers between bands of RMSD as ribbons. False: no data."""
    found = flows(run)
    if found is None:
        return False
    n_walkers, n_bands = int(found.counts[0].sum()), len(found.edges) - 1
    gap = 0.06 * n_walkers
    colours = mpl.colormaps[style.RMSD_COLOURS](np.linspace(0.0, 0.95, n_bands))
    with style.figure(path, height=4.6) as figure:
        axes = figure.add_subplot()
        totals = [*found.counts.sum(axis=(2, 3)), found.counts[-1].sum(axis=(0, 2))]
        # The lowest band is at the bottom.
        bottoms = [np.cumsum([0, *(total + gap)])[:-1] for total in totals]
        for i, counts in enumerate(found.counts):
            _ribbons(axes, i, counts, bottoms[i].astype(float), bottoms[i + 1].astype(float))
        for i, (total, bottom) in enumerate(zip(totals, bottoms, strict=True)):
            axes.bar(np.full(n_bands, i), total, 0.12, bottom, color=colours, zorder=4)
        axes.set_xticks(range(len(totals)), [str(n) for n in found.rounds])
        axes.set(xlabel="inference rounds done", yticks=[], xlim=(-0.2, len(totals) - 0.8))
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
        handles = [
            Patch(color=OWN, alpha=0.45, label="own dynamics"),
            Patch(color=RESTARTED, alpha=0.6, label="restarted"),
        ]
        bands = [Patch(color=colours[b], label=f"{band_name(found.edges, b)} Å") for b in range(n_bands)]
        axes.legend(handles=[*handles, *bands], loc="lower left", bbox_to_anchor=(0, 1), ncols=len(bands) + 2)
    return True


def _ribbons(axes: Axes, x: int, counts: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """The walkers between two times; `left` and `right` are the bottoms of the bands, which are filled up here."""
    for a, b, restarted in np.argwhere(counts > 0).tolist():
        n = int(counts[a, b, restarted])
        low, high = (left[a], right[b]), (left[a] + n, right[b] + n)
        left[a] += n
        right[b] += n
        near, far, middle = x + 0.06, x + 0.94, x + 0.5
        points = [
            (near, low[0]), (middle, low[0]), (middle, low[1]), (far, low[1]), (far, high[1]), (middle, high[1]),
            (middle, high[0]), (near, high[0]), (near, low[0]),
        ]  # fmt: skip
        codes = [Curve.MOVETO, *[Curve.CURVE4] * 3, Curve.LINETO, *[Curve.CURVE4] * 3, Curve.CLOSEPOLY]
        colour, alpha = (RESTARTED, 0.6) if restarted else (OWN, 0.45)
        axes.add_patch(
            PathPatch(Curve(points, codes), facecolor=colour, alpha=alpha, linewidth=0, zorder=2 + restarted)
        )
