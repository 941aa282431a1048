"""The look of every figure: one colour per role everywhere, units on every axis, little ink."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

#: Okabe and Ito's palette, safe for the colour-blind (https://jfly.uni-koeln.de/color/).
ROLE_COLOURS = {"simulation": "#0072B2", "aggregation": "#E69F00", "training": "#009E73", "inference": "#B5539A"}
SPAN_COLOURS = {
    "segment": ROLE_COLOURS["simulation"],
    "block": ROLE_COLOURS["aggregation"],
    "train_round": ROLE_COLOURS["training"],
    "inference_round": ROLE_COLOURS["inference"],
    "start": "#B9C2CC",
    "io": "#D55E00",
    "wait": "#E4E8EC",
}
OTHER_COLOUR = "#7A8794"
INK, FAINT, ACCENT, TARGET = "#1F2933", "#C4CCD4", "#D62828", "#DDF1E1"
WALKERS = LinearSegmentedColormap.from_list("walkers", ["#7FBCE6", ROLE_COLOURS["simulation"], "#003E66"])
ITERATIONS = "viridis_r"  # early pale, late dark
RMSD_COLOURS = "viridis"  # near the target dark, far from it pale

SETTINGS: dict[Any, object] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8794A1",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E9EDF1",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": "#52606D",
    "ytick.color": "#52606D",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "path.simplify": True,
    "agg.path.chunksize": 10_000,
}


@contextmanager
def figure(path: Path, width: float = 9.0, height: float = 4.2) -> Iterator[Figure]:
    """A figure (inches) that is saved to `path` as PNG when the block ends."""
    with mpl.rc_context():
        mpl.rcdefaults()  # the user's are for other figures: text.usetex needs LaTeX
        mpl.rcParams.update(SETTINGS)
        canvas = FigureCanvasAgg(Figure(figsize=(width, height), layout="constrained"))
        yield canvas.figure
        canvas.figure.savefig(path, dpi=150, facecolor="white")


def duration_scale(longest: float) -> tuple[float, str]:
    """Divisor and unit for times of seconds up to `longest`."""
    for divisor, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if longest >= 3 * divisor:
            return divisor, unit
    return 1.0, "s"


def simulated_scale(longest_ps: float) -> tuple[float, str]:
    """Divisor and unit for simulated times of picoseconds up to `longest_ps`."""
    for divisor, unit in ((1e6, "µs"), (1e3, "ns")):
        if longest_ps >= divisor:
            return divisor, unit
    return 1.0, "ps"


def milliseconds(value: float) -> str:
    """A latency in words, such as 24 ms or 5.1 s."""
    return f"{value:.3g} ms" if value < 999.5 else f"{value / 1000:.3g} s"


def thin(n: int, most: int) -> np.ndarray:
    """At most `most` indices, evenly spread over range(n), both ends kept."""
    return np.arange(n) if n <= most else np.unique(np.linspace(0, n - 1, most).round().astype(int))
