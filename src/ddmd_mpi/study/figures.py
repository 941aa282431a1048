"""The figures of a study, each with bands over seeds: analogues of Figs. 3, 5 and 6 of the paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..report import style
from ..report.bands import draw_band, middle_and_band
from .measures import AXES, COVERAGE, RMSD, Measured

#: Parts of the time whose distributions are compared, and bins of RMSD.
N_PARTS, N_BINS = 4, 40
PART_COLOURS = ("#B9C2CC", "#56B4E9", "#0072B2", "#003E66")  # early pale, late dark
COLUMNS = 3
LABELS = {RMSD: "lowest Cα RMSD so far (Å)", COVERAGE: "share of the states visited"}


def over_time(m: Measured, quantity: str, path: Path) -> None:
    """A quantity over both time axes: the median of each arm, and its quartiles over the seeds (Figs. 5 and 6)."""
    with style.figure(path, width=11.0, height=4.6) as figure:
        panels = figure.subplots(1, len(AXES), sharey=True)
        for axes, (axis, label) in zip(panels, AXES.items(), strict=True):
            for index, arm in enumerate(m.arms):
                draw_band(axes, m.grids[axis], m.curves[quantity, axis, arm], arm, index)
            axes.set(xlabel=label, xlim=(0, m.grids[axis][-1]))
        panels[0].set(ylabel=LABELS[quantity])
        panels[0].set_ylim(bottom=0)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(m.arms)))


def histograms(m: Measured, path: Path) -> None:
    """RMSD distributions in successive parts of the time, a panel for each arm (Fig. 3)."""
    highest = max(float(np.quantile(o.rmsd_angstrom, 0.999)) for o in m.outcomes)
    edges = np.linspace(0.0, highest, N_BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    n_rows = -(-len(m.arms) // COLUMNS)
    with style.figure(path, width=11.0, height=0.8 + 2.3 * n_rows) as figure:
        panels = figure.subplots(n_rows, min(COLUMNS, len(m.arms)), sharex=True, sharey=True, squeeze=False).ravel()
        for axes, arm in zip(panels, m.arms, strict=False):
            mine = [o for o in m.outcomes if o.trial.arm == arm]
            for part, colour in enumerate(PART_COLOURS):
                found = np.array([densities(o.aggregate_ps, o.rmsd_angstrom, edges)[part] for o in mine])
                middle, low, high = middle_and_band(found)
                axes.fill_between(centres, low, high, color=colour, alpha=0.35, linewidth=0)
                axes.plot(centres, middle, color=colour, linewidth=1.6, label=f"part {part + 1} of {N_PARTS}")
            axes.set_title(arm)
        for axes in panels[len(m.arms) :]:
            axes.set_axis_off()
        figure.supxlabel("Cα RMSD to the target (Å)", fontsize=10)
        figure.supylabel("probability density (1/Å)", fontsize=10)
        panels[0].legend(loc="upper right", fontsize=8)


def densities(aggregate_ps: np.ndarray, rmsd_angstrom: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Distribution of the RMSD in successive parts of the aggregate time, shape (N_PARTS, n_bins)."""
    part = np.minimum((N_PARTS * aggregate_ps / aggregate_ps.max() * (1 - 1e-12)).astype(int), N_PARTS - 1)
    counts = [np.histogram(rmsd_angstrom[part == i], edges)[0] for i in range(N_PARTS)]
    return np.array([c / max(1, c.sum()) / np.diff(edges) for c in counts])
