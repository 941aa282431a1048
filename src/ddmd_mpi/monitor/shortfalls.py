"""What a run has not done or has dropped, and which setting would have sufficed: sentences for the summary's note."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..layout.links import STREAM_KINDS, WEIGHTS
from .status import of_role

#: In which durations are said, s.
UNITS = ((3600, "h"), (60, "min"), (1, "s"))


def shortfalls(records: np.ndarray, roles: tuple[str, ...], facts: dict[str, Any]) -> list[str]:
    """Sentences on blocks that were dropped, and on reports, models and restarts that did not come; [] for none.

    Parameters
    ----------
    records, roles
        The ranks' newest status records, shape (n_ranks,), and their roles.
    facts
        mode, strategy, needs_model, model, first_frames, round_frames, archive, walkers: of settings and layout.
    """
    said = [_dropped(records, roles, facts)]
    if not of_role(records, roles, "simulation")["frames"].sum():
        said.append(_no_report(records, roles, facts))
    elif facts["mode"] == "stream" and facts["strategy"] != "none":
        said += [_no_model(records, roles, facts), _no_round(records, roles, facts)]
    return [sentence for sentence in said if sentence]


def _dropped(records: np.ndarray, roles: tuple[str, ...], facts: dict[str, Any]) -> str:
    """Weights that newer ones replace do not count as lost."""
    counts = records["hop_dropped"].sum(axis=0)[: STREAM_KINDS.index(WEIGHTS)].astype(int)
    if not counts.any():
        return ""
    where = ", ".join(f"{name} {n}" for name, n in zip(STREAM_KINDS, counts, strict=False) if n)
    frames, archived = (
        int(of_role(records, roles, role)[name].sum())
        for role, name in (("simulation", "frames"), ("aggregation", "archived"))
    )
    archive = f", and the archive has {archived} of {frames} frames" if facts["archive"] != "none" else ""
    return (
        f"{counts.sum()} blocks of frames were dropped because their reader was too slow ({where}){archive}: raise "
        "streams.queue_blocks and streams.queue_mb, or give the ranks more cores"
    )


def _no_report(records: np.ndarray, roles: tuple[str, ...], facts: dict[str, Any]) -> str:
    simulation = of_role(records, roles, "simulation")
    wall, report_s, preparing = (float(simulation[name].max(initial=0)) for name in ("wall_s", "report_s", "preparing"))
    if not report_s:
        what = (
            f"{int(simulation['preparing'].sum())} of {facts['walkers']} walkers were still being prepared"
            if preparing
            else "no walker had taken a step"
        )
        return (
            f"no walker made a report, because {what} after {_seconds(wall)}: give the run at least twice as long, "
            "or fewer walkers per core"
        )
    enough = wall + report_s * facts["walkers"] / len(simulation)
    return (
        f"no walker made a report, which takes {_seconds(report_s)} here: --duration {_seconds(enough)} would have "
        "been enough for one of each walker, or a shorter simulation.report_interval_ps"
    )


def _no_model(records: np.ndarray, roles: tuple[str, ...], facts: dict[str, Any]) -> str:
    training = of_role(records, roles, "training")
    if facts["model"] == "none" or not facts["needs_model"] or training["version"].max(initial=0) > 0:
        return ""
    window, wall = float(training["window"].sum()), float(training["wall_s"].max(initial=0))
    if window >= facts["first_frames"]:
        if training["rounds"].any():
            return (
                "no round of training was finished and accepted: logs/training-*.log says why, and a longer "
                "--duration may be enough"
            )
        return (
            "the first round of training had not finished: a longer --duration or fewer training.epochs would have "
            "been enough"
        )
    rate = f", or at this rate --duration {_seconds(wall * facts['first_frames'] / window)}," if window else ""
    return (
        f"no model was trained: its first round starts at {facts['first_frames']} frames and {window:.0f} had "
        f"arrived: a smaller training.first_frames{rate} would have been enough to start it"
    )


def _no_round(records: np.ndarray, roles: tuple[str, ...], facts: dict[str, Any]) -> str:
    inference = of_role(records, roles, "inference")
    if inference["rounds"].any() or (not facts["instant_model"] and facts["needs_model"]):
        return ""
    window, wall = float(inference["window"].sum()), float(inference["wall_s"].max(initial=0))
    if window >= facts["round_frames"]:
        return ""
    rate = f" or at this rate --duration {_seconds(wall * facts['round_frames'] / window)}" if window else ""
    return (
        f"no restart was decided: a round of inference needs {facts['round_frames']} new frames and {window:.0f} "
        f"had arrived: a smaller steering.round_reports{rate} would have been enough"
    )


def _seconds(seconds: float) -> str:
    """Seconds as --duration takes them: rounded up to seconds, minutes from two minutes on, hours from two hours on."""
    unit, name = next((unit, name) for unit, name in UNITS if seconds >= 2 * unit or unit == 1)
    return f"{math.ceil(seconds / unit)}{name}"
