"""How many walkers each ligand had, round after round: the data of Fig. 4 of the paper."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from ..analysis.records import number, table
from ..analysis.run import Run
from . import style
from .tables import Rows

CAPTION = (
    "Above: complexes that have walkers. Below: the walkers of each complex, once the restarts of a round are done; "
    "round 0 is the start."
)
MAX_NAMES = 40


class Pruning(NamedTuple):
    """Complexes, rounds, and the walkers of each, shape (n_rounds, n_complexes); round 0 is the start."""

    names: list[str]
    rounds: np.ndarray
    walkers: np.ndarray


def pruning(run: Run) -> Pruning | None:
    """Walkers per complex and round; None for a run of one topology, or without rounds."""
    rounds = [(number(r.get("round")), table(r.get("walkers_per_ligand"))) for r in run.rounds]
    rounds = [(n, counts) for n, counts in rounds if n > 0 and counts]
    if not rounds:
        return None
    names = list(rounds[0][1])
    began = Counter(s.get("topology") for s in run.segment_lines if s["segment"] == 0)
    walkers = [[began.get(name, 0) for name in names]]
    walkers += [[int(np.nan_to_num(number(counts.get(name)))) for name in names] for _, counts in rounds]
    return Pruning(names, np.array([0, *(int(n) for n, _ in rounds)]), np.array(walkers))


def ligand_table(run: Run) -> Rows:
    """One row per round: how many complexes have walkers, and how many each has."""
    found = pruning(run)
    if found is None:
        return []
    return [
        {
            "round": int(n),
            "complexes_with_walkers": int((row > 0).sum()),
            **dict(zip(found.names, row.tolist(), strict=True)),
        }
        for n, row in zip(found.rounds, found.walkers, strict=True)
    ]


def ligands(run: Run, path: Path) -> bool:
    """Complexes that are left, and the walkers of each, over the rounds. False: no data."""
    found = pruning(run)
    if found is None:
        return False
    n_names = len(found.names)
    with style.figure(path, height=2.2 + min(6.0, 0.25 * n_names)) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.3, max(2.0, min(6.0, 0.25 * n_names))))
        kept = (found.walkers > 0).sum(axis=1)
        above.step(found.rounds, kept, where="mid", color=style.ROLE_COLOURS["inference"], linewidth=2.0)
        above.set(ylabel="complexes\nwith walkers", ylim=(0, 1.1 * n_names))
        above.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        edges = np.concatenate([found.rounds - 0.5, found.rounds[-1:] + 0.5])
        shown = below.pcolormesh(edges, np.arange(n_names + 1) - 0.5, found.walkers.T, cmap="Blues", vmin=0)
        if n_names <= MAX_NAMES:
            below.set_yticks(range(n_names), found.names, fontsize=8)
        below.set(xlabel="inference round", ylabel="" if n_names <= MAX_NAMES else "complex")
        below.invert_yaxis()
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.colorbar(shown, ax=below, label="walkers", ticks=MaxNLocator(integer=True))
    return True
