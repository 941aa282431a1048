"""Figures of the conformations themselves: the latent space of a model, and the states of a reference over time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.coverage import States, coverage, states
from ..analysis.lineage import founders
from ..analysis.run import Run
from ..analysis.sample import Sample
from . import style
from .bands import LINES
from .projections import project
from .science import RMSD_LABEL, round_of

MOST_LATENTS = 4000
#: Founders with a colour of their own; the others are grey.
N_FOUNDERS = 6


def latent_space(run: Run, sampled: Sample, path: Path, version: int | None = None, projection: str = "pca") -> str:
    """Frames in the latent space of a model, coloured by RMSD, round and lineage: the caption.

    Parameters
    ----------
    version
        Of the model; the newest one by default.
    projection
        One of :data:`.projections.PROJECTIONS`.

    Raises
    ------
    DDMDError
        If there is no such model, or it cannot be read.
    """
    some = sampled.thinned(MOST_LATENTS)
    trained = run.model(version)
    latents = trained.embed_positions(some.positions_nm).astype(float)
    known = np.isfinite(latents).all(axis=1)
    rows, (points, labels, words) = some.rows[known], project(latents[known], projection)
    with style.figure(path, width=10.5, height=4.3) as figure:
        panels = figure.subplots(1, 3, sharex=True, sharey=True)
        _coloured(figure, panels[0], points, run.frames["rmsd_angstrom"][rows], RMSD_LABEL, style.RMSD_COLOURS)
        _coloured(
            figure,
            panels[1],
            points,
            round_of(run, run.frames["wall"][rows]),
            "inference rounds done",
            style.ITERATIONS,
        )
        _by_founder(panels[2], run, points, rows)
        for axes in panels:
            axes.set(xlabel=labels[0], xticks=[], yticks=[])
        panels[0].set_ylabel(labels[1])
    return (
        f"{words} of the latents of version {trained.version}, {some.words}. Left: by "
        "RMSD. Middle: by the inference rounds that were done when the frame was made. Right: by the walker whose "
        "start the frame descends from; the star is the frame with the lowest RMSD. Frames without a value are grey."
    )


def _coloured(figure: Figure, axes: Axes, points: np.ndarray, values: np.ndarray, label: str, colours: str) -> None:
    """The points coloured by value, those without one below the others in grey."""
    good = np.isfinite(values)
    axes.scatter(points[~good, 0], points[~good, 1], s=5, linewidth=0, color=style.FAINT)
    if good.any():
        shown = axes.scatter(
            points[good, 0], points[good, 1], c=values[good], s=6, linewidth=0, cmap=colours, alpha=0.8
        )
        figure.colorbar(shown, ax=axes, label=label, location="top", aspect=25, pad=0.02)


def _by_founder(axes: Axes, run: Run, points: np.ndarray, rows: np.ndarray) -> None:
    """The points coloured by the founder of their lineage, and the best of them."""
    of_segment = founders(run.segments)
    names = zip(run.frames["walker"][rows].tolist(), run.frames["segment"][rows].tolist(), strict=True)
    of_row = np.array([of_segment.get(name, -1) for name in names])
    most = [founder for founder, _ in Counter(of_row[of_row >= 0].tolist()).most_common(N_FOUNDERS)]
    others = ~np.isin(of_row, most)
    axes.scatter(
        points[others, 0],
        points[others, 1],
        s=5,
        linewidth=0,
        color=style.FAINT,
        label="others" if others.any() else None,
    )
    for founder, (colour, _) in zip(most, LINES, strict=False):
        own = points[of_row == founder]
        axes.scatter(own[:, 0], own[:, 1], s=6, linewidth=0, color=colour, alpha=0.8, label=f"walker {founder}")
    rmsd = run.frames["rmsd_angstrom"][rows]
    if np.isfinite(rmsd).any():
        best = points[np.nanargmin(rmsd)]
        axes.plot(best[0], best[1], marker="*", color=style.INK, markersize=13, markeredgecolor="white")
    axes.legend(loc="lower left", ncols=2, markerscale=3, handletextpad=0.1, columnspacing=1, fontsize=8)


def coverage_over_time(run: Run, sampled: Sample, path: Path, reference: States | None = None) -> str:
    """Share of the states of a reference that the run has visited, over its simulated time: the caption.

    Parameters
    ----------
    reference
        The run itself by default.

    Raises
    ------
    DDMDError
        If the run has too few frames to define states, or the reference is of another system.
    """
    known = states(sampled.positions_nm, "the run itself") if reference is None else reference
    times, shares = coverage(known, sampled, run.frames["aggregate_ps"][sampled.rows])
    scale, unit = style.simulated_scale(times[-1])
    with style.figure(path, height=3.6) as figure:
        axes = figure.add_subplot()
        axes.step(times / scale, 100 * shares, where="post", color=LINES[0][0], linewidth=2.0)
        axes.annotate(f"{100 * shares[-1]:.0f} %", (times[-1] / scale, 100 * shares[-1]), xytext=(-2, -4),
                      textcoords="offset points", ha="right", va="top", fontweight="bold")  # fmt: skip
        axes.set(xlabel=f"aggregate simulated time ({unit})", ylabel=f"visited of {len(known)} states (%)")
        axes.set(xlim=(0, times[-1] / scale), ylim=(0, 104))
    return coverage_caption(known, sampled.words, own=reference is None)


def coverage_caption(known: States, words: str, *, own: bool) -> str:
    """What the states are, and what coverage of them means."""
    itself = " They say how soon the run went where it went, not what it missed." if own else ""
    return (
        f"A state is one of {len(known)} k-means clusters of the shapes (distances between descriptor atoms) of "
        f"{known.name}.{itself} A state counts as visited once a frame is nearest to it ({words})."
    )
