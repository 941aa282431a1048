"""Curves of several runs as one line with a band: for pages of several runs, and for studies over seeds."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

#: Percentiles of the runs between which a band lies, by its name.
BANDS = {"interquartile range": (25.0, 75.0), "95 % of the runs": (2.5, 97.5)}
QUARTILES = "interquartile range"
#: Of the first arms, of as many others, ...
MARKERS = ("", "o", "s", "^")
#: Okabe and Ito's colours and a dash each, so that lines can be told apart in grey, too.
LINES = (
    ("#0072B2", "-"),
    ("#D55E00", (0, (5, 1.5))),
    ("#009E73", (0, (1.5, 1))),
    ("#CC79A7", (0, (6, 1.5, 1.5, 1.5))),
    ("#E69F00", (0, (3, 1))),
    ("#56B4E9", (0, (8, 2))),
    ("#1F2933", (0, (1, 2))),
)


def on_grid(x: np.ndarray, y: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The curve of one run at the places of a grid: its last value until then.

    Parameters
    ----------
    x, y
        Ascending places and values, shape (n,), such as simulated times and the best RMSD until then.
    grid
        Ascending places, shape (n_grid,).

    Returns
    -------
    ndarray, float64, shape (n_grid,)
        NaN before the first place and beyond the last one, where the run says nothing.
    """
    at = np.searchsorted(x, grid, side="right") - 1
    known = (at >= 0) & (grid <= x[-1]) if len(x) else np.zeros(len(grid), bool)
    return np.where(known, np.asarray(y, float)[np.maximum(at, 0)] if len(x) else np.nan, np.nan)


def middle_and_band(curves: np.ndarray, band: str = QUARTILES) -> np.ndarray:
    """Median, lower and upper end of the band of curves: shape (3, n_grid); NaN where a curve has no value.

    Parameters
    ----------
    curves
        One row per run, shape (n_runs, n_grid), for example of :func:`on_grid`.
    band
        A name of :data:`BANDS`.
    """
    low, high = BANDS[band]
    return np.percentile(curves, (50.0, low, high), axis=0)


def draw_band(
    axes: Axes, grid: np.ndarray, curves: np.ndarray, label: str, index: int = 0, band: str = QUARTILES
) -> None:
    """Draw the runs of one arm: their median as a line, and a band, as far as all of them go.

    Parameters
    ----------
    axes
        Where to draw.
    grid
        Places, shape (n_grid,).
    curves
        One row per run, shape (n_runs, n_grid). One run is a line without a band.
    label
        Name of the arm; the number of runs is added.
    index
        Which of :data:`LINES`, another one for each arm; further arms have the same lines with :data:`MARKERS`.
    band
        A name of :data:`BANDS`.
    """
    colour, dashes = LINES[index % len(LINES)]
    middle, low, high = middle_and_band(curves, band)
    if len(curves) > 1:
        axes.fill_between(grid, low, high, color=colour, alpha=0.2, linewidth=0)
    marker = MARKERS[index // len(LINES) % len(MARKERS)]
    axes.plot(
        grid,
        middle,
        color=colour,
        linestyle=dashes,
        linewidth=1.8,
        marker=marker,
        markersize=4,
        markevery=0.1,
        label=f"{label} (n = {len(curves)})",
    )
