"""Runs in arms: those whose settings differ in nothing but the seed are repetitions of one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..analysis.records import Record
from ..analysis.run import Run

#: Settings in which the runs of one arm may differ.
OF_A_RUN = {"run.seed", "run.duration", "run.margin", "run.drain"}
#: Settings that name an arm first.
FIRST = ("steering.strategy", "training.model", "system.name")
MOST_NAMED, LONGEST = 3, 60


@dataclass(frozen=True)
class Arm:
    """Runs with the same settings."""

    name: str
    runs: list[Run]


def arms(runs: list[Run]) -> list[Arm]:
    """The arms of some runs in the order in which they appear, each named by the settings in which it differs."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(sorted(plain(run.settings).items())), []).append(run)
    settings = [dict(key) for key in groups]
    keys = sorted(set().union(*settings) if settings else set(), key=lambda key: (_place(key), key))
    differing = [key for key in keys if len({s.get(key) for s in settings}) > 1]
    names = [_name(s, differing) for s in settings]
    twice = {name for name in names if names.count(name) > 1}
    names = [f"{name} ({i + 1})" if name in twice else name for i, name in enumerate(names)]
    return [Arm(name, members) for name, members in zip(names, groups.values(), strict=True)]


def plain(settings: Record) -> dict[str, str]:
    """The settings that tell arms apart, as text by ``section.key``."""
    return {
        f"{section}.{key}": str(value)
        for section, values in settings.items()
        if isinstance(values, dict) and section != "output"
        for key, value in values.items()
        if f"{section}.{key}" not in OF_A_RUN
    }


def _place(key: str) -> int:
    return FIRST.index(key) if key in FIRST else len(FIRST)


def _name(settings: dict[str, str], differing: list[str]) -> str:
    if not settings:
        return "unknown settings"
    if not differing:
        return settings.get(FIRST[0], "all runs")
    said = [f"{key.partition('.')[2]} {settings.get(key, 'unset')}"[:LONGEST] for key in differing[:MOST_NAMED]]
    return ", ".join([*said, *(["…"] if len(differing) > MOST_NAMED else [])])


def best_so_far(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Aggregate simulated times, ps, and the lowest RMSD until then, angstrom; empty if no frame has one."""
    frames = run.timeline
    rows = np.flatnonzero(~frames["restart_point"] & np.isfinite(frames["rmsd_angstrom"]))
    return frames["aggregate_ps"][rows], np.minimum.accumulate(frames["rmsd_angstrom"][rows])
