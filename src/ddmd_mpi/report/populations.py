"""Figures of free energies and implied timescales, each with its interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..analysis.populations import Populations
from . import style

COLOURS = {
    "msm": style.ROLE_COLOURS["simulation"],
    "riteweight": style.ROLE_COLOURS["aggregation"],
    "msm_twice": style.ROLE_COLOURS["training"],
    "msm_late": style.ROLE_COLOURS["inference"],
}
NAMES = {
    "msm": "Markov state model",
    "riteweight": "RiteWeight",
    "msm_twice": "Markov state model, twice the lag",
    "msm_late": "Markov state model, late in the stretches",
}


def draw_free_energies(found: Populations, path: Path) -> None:
    """Free energy along each coordinate by all methods, with 95 % intervals."""
    with style.figure(path, height=1.0 + 3.0 * len(found.edges)) as figure:
        panels = figure.subplots(len(found.edges), 1, squeeze=False)[:, 0]
        for axes, (name, edges) in zip(panels, found.edges.items(), strict=True):
            centres = (edges[1:] + edges[:-1]) / 2
            for method, answer in found.answers.items():
                with np.errstate(divide="ignore"):
                    energy = -np.log(answer.profiles[name] / answer.profiles[name][:, 0].max())
                energy[~np.isfinite(energy[:, 0])] = np.nan
                top = np.nanmax(energy[:, 0]) + 3.0
                high = np.where(np.isinf(energy[:, 1]), top, energy[:, 1])
                axes.fill_between(centres, energy[:, 2], high, color=COLOURS[method], alpha=0.25, linewidth=0)
                axes.plot(centres, energy[:, 0], color=COLOURS[method], label=NAMES[method])
            axes.set(xlabel=name, ylabel="free energy (kT)")
            axes.legend(loc="upper right")
        panels[0].set_title(_verdict(found))


def draw_timescales(found: Populations, path: Path) -> None:
    """The slowest implied timescale over the lag, with 95 % intervals."""
    lags = np.array([point.lag_ps for point in found.scan])
    values = np.array([point.timescale_ps[:3] for point in found.scan])
    with style.figure(path) as figure:
        axes = figure.add_subplot()
        axes.fill_between(lags, values[:, 1], values[:, 2], color=COLOURS["msm"], alpha=0.25, linewidth=0)
        axes.plot(lags, values[:, 0], marker="o", color=COLOURS["msm"], label="slowest implied timescale")
        axes.plot(lags, lags, color=style.FAINT, linestyle="--", label="the lag itself")
        axes.axvline(found.lag_ps, color=style.ACCENT, linewidth=1.0, label="chosen lag")
        axes.set(xlabel="lag (ps)", ylabel="timescale (ps)", yscale="log", title=_verdict(found))
        axes.legend(loc="best")


def _verdict(found: Populations) -> str:
    return "converged" if found.converged else f"not enough data: {found.missing[0]}"
