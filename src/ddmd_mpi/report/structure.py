"""The best structure on the target: a picture, and in the page a view that can be turned."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from ..analysis.best_structure import BestStructure
from ..analysis.run import Run
from . import style

#: 3Dmol.js (BSD-3-Clause), if it was installed: ``make viewer``.
LIBRARY = Path(__file__).with_name("vendor") / "3Dmol-min.js"
LICENSE = LIBRARY.with_name("3Dmol-min.js.LICENSE.txt")
BEST, TARGET = style.ROLE_COLOURS["simulation"], style.ROLE_COLOURS["aggregation"]
TURNED = "Drag to turn, scroll or pinch to zoom; in print it is a picture."
NO_VIEWER = "3Dmol.js is not installed, so this is a picture only: make viewer installs it."


@dataclass(frozen=True)
class Viewer:
    """What the page needs for a view that can be turned."""

    library: str
    license: str
    content: str


def viewer(found: BestStructure) -> Viewer | None:
    """The library and the structures, ready to stand in a script; None if the library was not installed."""
    if not (LIBRARY.is_file() and LICENSE.is_file()):
        return None
    texts = {"best": found.frame, "target": found.target}
    content = {name: path.read_text(encoding="utf-8") for name, path in texts.items() if path is not None}
    content |= {"bestColour": BEST, "targetColour": TARGET}
    library, terms = (path.read_text(encoding="utf-8") for path in (LIBRARY, LICENSE))
    return Viewer(library, terms.replace("--", "- -"), json.dumps(content).replace("<", "\\u003c"))


def best_structure(run: Run, found: BestStructure, path: Path) -> str:
    """The chain of descriptor atoms from two sides, on that of the target: the caption."""
    target = found.descriptor_nm if found.target_nm is None else found.target_nm
    centre = target.mean(axis=0)
    axes_of_target = np.linalg.svd(target - centre, full_matrices=False)[2]
    chains = [(10 * (found.descriptor_nm - centre) @ axes_of_target.T, BEST, "best structure")]
    if found.target_nm is not None:
        chains.insert(0, (10 * (target - centre) @ axes_of_target.T, TARGET, "target"))
    with style.figure(path, height=4.6) as figure:
        for axes, sides in zip(figure.subplots(1, 2, sharex=True), ((0, 1, 2), (0, 2, 1)), strict=True):
            for chain, colour, label in chains:
                _chain(axes, chain[:, list(sides)], colour, label)
            axes.set(aspect="equal", xlabel="Å", ylabel="Å")
            axes.autoscale_view()
        figure.axes[0].legend(loc="best")
    row = run.frames[found.row]
    on = (
        f" (blue), superposed on the target (orange) with {found.rmsd_angstrom:.2f} Å"
        if found.target
        else "; the run names no target"
    )
    return f"Frame {row['frame']} of walker {row['walker']}{on}."


def _chain(axes: Axes, points: np.ndarray, colour: str, label: str) -> None:
    """A chain seen along its third coordinate: what is near is thick and drawn last."""
    middles = (points[1:, 2] + points[:-1, 2]) / 2
    order = np.argsort(middles)
    pieces = np.stack([points[:-1, :2], points[1:, :2]], axis=1)[order]
    widths = np.interp(middles[order], [points[:, 2].min(), points[:, 2].max() + 1e-9], [1.2, 4.5])
    axes.add_collection(LineCollection(list(pieces), colors=colour, linewidths=widths.tolist(), capstyle="round"))
    axes.plot(points[0, 0], points[0, 1], "o", color=colour, markersize=7, label=label)
