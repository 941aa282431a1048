"""A run and its results, in sentences."""

from __future__ import annotations

import numpy as np

from ..analysis.lineage import Segment, ancestry
from ..analysis.records import column, number, table
from ..analysis.run import Run
from ..layout.roles import ROLES
from . import training
from .science import best_frame, native
from .style import duration_scale, simulated_scale
from .tables import latency_words

POPULATION_WARNING = (
    "Steering restarts walkers where the target is near, so the raw frames are not an equilibrium sample: shares of "
    "frames, means and histograms of this run are not populations or free energies. Reweight, for example with a "
    "Markov state model over the segments, before reading thermodynamics from it."
)
STOP_REASONS = {
    "duration": "time limit reached",
    "target_rmsd": "target RMSD reached",
    "arrivals": "enough independent arrivals at the target",
    "rmsd_plateau": "no better RMSD for the set time",
    "coverage_plateau": "no new conformations for the set time",
    "iterations": "all iterations done",
}
UNSTEERED_NOTE = "No walker was restarted by steering (strategy none): this is the plain ensemble for comparison."
GO_NOTE = "This structure-based model tests the steering, not BBA's biophysics."


def title(run: Run) -> str:
    """Name of the run: its use case and directory."""
    return f"{usecase(run)} · {run.directory.resolve().name}"


def usecase(run: Run) -> str:
    """The use case, as far as the files tell."""
    return str(run.summary.get("usecase") or run.setting("run", "usecase") or "unknown use case")


def paragraph(run: Run, segments: list[Segment]) -> list[str]:
    """Sentences: what was run, how it ended, what was sampled, the best structure and where it comes from."""
    return [s for s in (_what(run), _end(run), _sampling(run), training.sentence(run), _best(run, segments)) if s]


def _what(run: Run) -> str:
    mode = run.summary.get("mode") or run.setting("run", "mode", "stream")
    strategy = run.setting("steering", "strategy")
    steering = f", steered by strategy {strategy}" if strategy else ""
    counts = table(run.summary.get("ranks")) or _ranks_from_events(run)
    ranks = ", ".join(f"{counts[role]} {role}" for role in ROLES if counts.get(role))
    if mode == "file":  # all ranks simulate, and some of them play other roles, too
        on = f" on {counts.get('simulation', 0)} ranks" if ranks else ""
    else:
        on = f" on {sum(int(number(counts[r])) for r in ROLES if counts.get(r))} ranks ({ranks})" if ranks else ""
    n_walkers = len({s["walker"] for s in run.segment_lines})
    walkers = f" with {n_walkers} walkers" if n_walkers else ""
    seed = run.setting("run", "seed")
    return f"{usecase(run)} in {mode} mode{steering}{on}{walkers}{f', seed {seed}' if seed is not None else ''}."


def _ranks_from_events(run: Run) -> dict[str, int]:
    return {role: len({e["rank"] for e in run.events if e["role"] == role}) for role in ROLES}


def _end(run: Run) -> str:
    wall = f" after {duration(run.wall)}" if run.wall > 0 else ""
    reason = run.summary.get("stop_reason")
    reason = STOP_REASONS.get(str(reason), reason)
    if run.summary.get("completed") is True:
        return f"The run completed{wall}{f' ({reason})' if reason else ''}."
    if reason:
        return f"The run was stopped{wall} ({reason})."
    return f"The run did not complete: it is still running, or it was killed; the last record is{wall or ' missing'}."


def _sampling(run: Run) -> str:
    simulated = 1000 * number(run.result("simulation", "aggregate_ns"))
    if not simulated >= 0 or run.summary.get("completed") is not True:  # the last summary of a killed run is old
        simulated = run.timeline["aggregate_ps"][-1] if len(run.timeline["aggregate_ps"]) else np.nan
    if not simulated > 0:
        return "No frame was written: no data about what was sampled."
    applied = sum(d.get("outcome") == "applied" for d in run.decisions)
    restarts = f"; {applied} of {len(run.decisions)} restart decisions started one of them" if run.decisions else ""
    latency = latency_words(run)
    delay = f" (decision to first step: {latency})" if latency else ""
    return f"{simulated_time(simulated)} were simulated in {len(run.segment_lines)} segments{restarts}{delay}."


def _best(run: Run, segments: list[Segment]) -> str:
    at = best_frame(run)
    if at is None:
        best = number(run.result("science", "best_rmsd_angstrom"))
        return f"The lowest Cα RMSD to the target is {best:.2f} Å." if best >= 0 else ""
    rmsd, walker, frame, segment = (run.timeline[name][at] for name in ("rmsd_angstrom", "walker", "frame", "segment"))
    restarts = len({(s.walker, s.segment) for s in way_of(segments, int(walker), int(frame)) if s.restarted})
    way = f", reached through {restarts} restart{'s' if restarts > 1 else ''}" if restarts else ""
    return (
        f"The best structure is {rmsd:.2f} Å (Cα RMSD) from the target: frame {int(frame)} of "
        f"{trajectory(run, int(walker))} (walker {int(walker)}, segment {int(segment)}){way}.{_native(run, at)}"
    )


def _native(run: Run, best: int) -> str:
    """What the frame nearest the target keeps of the target's contacts: a low RMSD alone is not a fold."""
    fraction = native(run)
    if not np.isfinite(fraction[best]):
        return ""
    return (
        f" It has {100 * fraction[best]:.0f} % of the native contacts; the most that any frame has are "
        f"{100 * np.nanmax(fraction):.0f} %."
    )


def way_of(segments: list[Segment], walker: int, frame: int) -> list[Segment]:
    """The segments that lead to a frame, oldest first."""
    by_name = {(s.walker, s.segment): s for s in segments}
    way = [by_name.get((p.walker, p.segment)) for p in ancestry(segments, walker, frame)]
    return [s for s in way if s is not None]


def trajectory(run: Run, walker: int) -> str:
    """Path of a walker's trajectory in the run directory; of its index where it has a file for each topology."""
    if len(run.setting("system", "complexes") or ()) > 1:
        return f"trajectories/sim-{walker:04d}.frames.csv"
    suffix = run.setting("simulation", "trajectory_format", "dcd")
    return f"trajectories/sim-{walker:04d}.{suffix}"


def warnings(run: Run) -> list[str]:
    """What a reader must know before using the numbers."""
    go = GO_NOTE if run.setting("system", "model") == "go" else ""
    note = str(run.summary.get("note") or run.setting("system", "note") or go)
    steered = any(d.get("outcome") == "applied" for d in run.decisions)
    plain = run.setting("steering", "strategy") == "none"
    about = POPULATION_WARNING if steered or not plain else UNSTEERED_NOTE
    return [w for w in (note, about) if w]


def captions(run: Run) -> dict[str, str]:
    """One sentence per figure: what to see in it."""
    stale = sum(d.get("outcome") not in ("applied", None) for d in run.decisions)
    rounds = len(run.rounds)
    fraction = column(run.rounds, "outliers") / column(run.rounds, "frames")
    last = f" In the last round {100 * fraction[-1]:.0f} % of the window were outliers." if _finite(fraction) else ""
    return {
        "progress": "Thin lines: every walker, in the order in which the frames were made. Thick: the lowest RMSD so "
        "far. Triangles: restarts, at the RMSD they start from.",
        "native_contacts": "Each point is a frame. Contacts are counted softly between Cα atoms (Best, Hummer and "
        "Eaton, 2013). A structure is folded if its RMSD is low and the fraction is near 1.",
        "histograms": "Each ridge is the distribution of the frames made between restart rounds, early above, late "
        "below; the black tick is its median. Not an equilibrium distribution.",
        "lineage": "One strip per walker, coloured by RMSD. Arrows lead from a source frame to the segment that "
        "restarted from it; the red ones lead to the best structure (star).",
        "timeline": "One row per rank; a simulation rank has one lane per walker. Triangles: first steps after a "
        "restart.",
        "learning": "Loss per frame over all epochs, and below what the model says it is made of; a vertical line ends "
        "each round of training and carries the version it published.",
        "latency": f"Time from a decision to the first MD step from it; {len(run.decisions)} decisions, {stale} of "
        "them not applied. It contains the wait for the walker's next report.",
        "rounds": f"{rounds} inference rounds.{last}",
    }


def _finite(values: np.ndarray) -> bool:
    return len(values) > 0 and bool(np.isfinite(values[-1]))


def duration(seconds: float) -> str:
    """Seconds in words, such as 3.1 min."""
    divisor, unit = duration_scale(seconds)
    return f"{seconds / divisor:.3g} {unit}"


def simulated_time(picoseconds: float) -> str:
    """Picoseconds in words, such as 0.35 ns."""
    scale, unit = simulated_scale(10 * picoseconds)
    return f"{picoseconds / scale:.3g} {unit}"
