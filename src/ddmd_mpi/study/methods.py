"""What a stranger needs to repeat a study: a paragraph of methods, and a manifest of versions, seeds and hashes."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..rundir.directory import versions
from ..rundir.files import sha256_of
from .figures import N_PARTS
from .measures import Measured
from .outcome import Outcome
from .statistics import N_SAMPLES
from .study_file import Study
from .trials import Trial

PACKAGE = Path(__file__).resolve().parents[1]


def methods(study: Study, measured: Sequence[Measured], failures: dict[str, str]) -> str:
    """The paragraph, from what was done and not from what was planned."""
    sentences = [_of_system(m) for m in measured]
    others = max(len(m.arms) for m in measured) - 1
    if others:
        sentences.append(
            f"Arms were compared with {study.reference} by two-sided Mann-Whitney U tests, given as they are and with "
            f"Holm's correction for {others} arm{'s' if others > 1 else ''}, with Cliff's delta as the size of the "
            "effect; trials of the same seed were compared by two-sided Wilcoxon signed-rank tests. A passage that a "
            "trial did not reach counts as later than all others. Intervals are 95 %, percentiles of "
            f"{N_SAMPLES:,} bootstrap samples of the seeds."
        )
    sentences.append(
        f"Bands show the quartiles over the seeds; histograms show {N_PARTS} equal parts of the aggregate time."
    )
    if failures:
        sentences.append(f"{len(failures)} trials failed and are left out: {'; '.join(failures)}.")
    return " ".join(sentences)


def _of_system(m: Measured) -> str:
    facts = m.outcomes[0].facts
    walkers = sorted({o.facts["walkers"] for o in m.outcomes})
    found = sorted({str(o.facts["versions"].get("ddmd-mpi")) for o in m.outcomes})
    counts = sorted({len(m.values(arm, "seed")) for arm in m.arms})
    states = (
        f"the {m.n_states} states of the Markov model"
        if m.exact
        else f"{m.n_states} k-means clusters of the frames of all trials, by the distances between descriptor atoms"
    )
    ended = {str(o.facts["stop_reason"]) for o in m.outcomes} - {"all simulations ended"}
    return (
        f"{m.system.name}: every trial was a run of ddmd-mpi {' and '.join(found)} on {m.system.n_ranks} "
        f"rank{'s' if m.system.n_ranks > 1 else ''}, in which {_range(walkers)} walkers simulated "
        f"{m.system.aggregate_ns:g} ns together ({facts['steps']:,} steps of {facts['timestep_fs']:g} fs, a report "
        f"every {facts['report_ps']:g} ps). Trials with different seeds for each arm: {_range(counts)}; arms: "
        f"{', '.join(m.arms)}. Arms took turns, seed by seed. Best RMSD is the lowest Cα RMSD to the target. "
        f"Coverage is the share of {states} that a trial has visited."
        + (f" Some trials ended early ({', '.join(sorted(ended))}), so that the steps are not equal." if ended else "")
        + (f" Note: {facts['note']}." if facts["note"] else "")
    )


def _range(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def manifest(
    study: Study, trials: Sequence[Trial], outcomes: Sequence[Outcome], failures: dict[str, str]
) -> dict[str, Any]:
    """Versions, machine, seeds, settings and hashes."""
    return {
        "study": study.name,
        "study_sha256": hashlib.sha256(study.text.encode()).hexdigest(),
        "command": sys.argv,
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "program": {"version": __version__, "source_sha256": source_hash()},
        "versions": versions(),
        "machine": {
            "host": socket.gethostname(),
            "platform": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "cores_allowed": len(os.sched_getaffinity(0)),
            "load_average": os.getloadavg(),
        },
        "launcher": study.launcher,
        "at_once": study.at_once,
        "seeds": list(study.seeds),
        "arms": study.arms,
        "failures": failures,
        "planned": len(trials),
        "trials": [_of_trial(outcome) for outcome in outcomes],
    }


def _of_trial(outcome: Outcome) -> dict[str, Any]:
    trial = outcome.trial
    return {
        "system": trial.system.name,
        "arm": trial.arm,
        "seed": trial.seed,
        "settings_sha256": trial.digest,
        "options": trial.options[:-2],
        "result_sha256": sha256_of(trial.directory / "result.npz"),
        "host": outcome.facts["host"],
        "versions": outcome.facts["versions"],
    }


def source_hash() -> str:
    """SHA-256 over the modules of this package: tells apart what has the same version."""
    total = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        total.update(f"{path.relative_to(PACKAGE)} {sha256_of(path)}\n".encode())
    return total.hexdigest()


def processor() -> str:
    """The model of this machine's processor, "" if the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
