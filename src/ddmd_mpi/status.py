"""What every rank tells of itself, about once a second, in window memory of the first aggregator.

The records feed the live view (``status.json``, the screen) and ``summary.json``; no collective is needed for either,
and a rank that is lost leaves its last record.
"""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from .events import EventLog
from .wiring import KINDS


class State(IntEnum):
    """What a rank does."""

    STARTING = 0
    RUNNING = 1
    DRAINING = 2
    DONE = 3


class Activity(IntEnum):
    """What the live view says a rank does at the moment."""

    STARTING = 0
    MD = 1
    MERGING = 2
    LOADING = 3
    WAITING = 4
    TRAINING = 5
    EMBEDDING = 6
    DRAINING = 7
    DONE = 8


#: One record per rank. Counters are totals of the run; seconds are this rank's own.
FIELDS = """
    state activity time wall_s iterations iteration_s busy_s io_s frames ns segments failures
    bytes blocks archived max_queue dropped silent best_rmsd best_simulation best_frame
    version rounds samples loss validation_loss window outliers eps decisions delivered stale failed data_parallel
    latency_p50_ms latency_p99_ms latency_max_ms apply_p50_ms apply_p99_ms apply_max_ms stop wants_stop earlier_ns
    peak_mb within pid
"""
#: Counters of the streams that a rank writes to, each one number per kind of stream (KINDS of wiring.py).
STREAM_FIELDS = "hop_bytes hop_blocks hop_queue hop_dropped hop_waited hop_wait_s"
STATUS_DTYPE = np.dtype([(name, "<f8") for name in FIELDS.split()]
                        + [(name, "<f8", (len(KINDS),)) for name in STREAM_FIELDS.split()]
                        + [("refusal", "S400")])  # what the disk has refused this rank, in a sentence
POST_SECONDS = 0.5
#: What takes long may take so many times as long as it did at most so far.
LONGER = 5.0
_PEAK = re.compile(r"VmHWM:\s*(\d+) kB")

#: How the ranks that train together sum their gradients, by the number that travels in the record's ``data_parallel``.
DATA_PARALLEL = ("none", "mpi", "horovod")

#: Why a simulation stopped, by the number that travels in the record's ``stop``; of several, the last is the run's.
STOP_REASONS = ("", "all simulations ended", "failure", "duration", "target_rmsd", "iterations", "walltime", "SIGUSR1",
                "SIGUSR2", "SIGINT", "SIGTERM", "disk")


class StatusPost:
    """This rank's record, posted at most twice a second.

    Attributes
    ----------
    gather
        Gives further fields whenever the record is posted.
    within
        Seconds within which the next record follows, unless an update says otherwise for its own.
    patience
        The same for what takes as long as a start, for the first time.
    beat
        Told of every post, with those seconds, and whether they may pass in waiting for a disk.
    """

    def __init__(self, put: Callable[[np.ndarray], object], events: EventLog):
        self._put, self._events = put, events
        self.gather: Callable[[], dict[str, Any]] = dict
        self.within, self.patience, self.beat = float("inf"), float("inf"), _nothing
        self._longest: dict[str, float] = {}  # silence in what takes long, s
        # What takes long, outermost first: its name, the longest silence in it, whether it waits for a disk.
        self._at: list[list[Any]] = []
        self._started = self._posted = time.monotonic()
        self.record = np.zeros((), STATUS_DTYPE)
        self.record["pid"] = os.getpid()
        for name in ("best_rmsd", "loss", "validation_loss"):  # not known yet
            self.record[name] = np.nan

    def update(self, *, now: bool = False, **values: float) -> None:
        """Set fields of the record; post it when it is due or `now`."""
        clock = time.monotonic()
        due = now or clock - self._posted > POST_SECONDS
        for name, value in {**self.gather(), **values}.items() if due else values.items():
            self.record[name] = value
        if due:
            if self._at:
                self._at[-1][1] = max(self._at[-1][1], clock - self._posted)
            self._posted = clock
            self.record["within"] = values.get("within", self.promise)
            self.record["time"] = time.time()
            self.record["wall_s"] = clock - self._started
            self.record["io_s"] = self._events.seconds("io")
            self.record["peak_mb"] = peak_memory_mb()
            self._put(self.record)
            self.beat(float(self.record["within"]), any(on_disk for *_, on_disk in self._at))

    @property
    def promise(self) -> float:
        """Seconds within which a record follows one that is posted now."""
        if not self._at:
            return self.within
        longest = self._longest.get(self._at[-1][0])
        return self.patience if longest is None else max(self.within, LONGER * longest)

    @contextmanager
    def expect_silence(self, what: str, on_disk: bool = False, **values: float) -> Iterator[None]:
        """Post the record; in the block the next one may take as long as a start, or where there was such a block
        before, some times as long as it took there at most. One that waits for a disk may be idle.
        """
        self._at.append([what, 0.0, on_disk])
        try:
            self.update(now=True, **values)
            self._at[-1][1] = 0.0  # what was before does not belong to it
            yield
        finally:
            _, longest, _ = self._at.pop()
            self._longest[what] = max(self._longest.get(what, 0.0), longest, time.monotonic() - self._posted)

    def add(self, **values: float) -> None:
        """Add to counters of the record."""
        for name, value in values.items():
            self.record[name] += value


def hop_counts(kind: str, **counts: float) -> dict[str, np.ndarray]:
    """What to add to the counters of one kind of stream: `bytes` becomes ``hop_bytes``, and so on."""
    at = np.arange(len(KINDS)) == KINDS.index(kind)
    return {f"hop_{name}": np.where(at, count, 0.0) for name, count in counts.items()}


def peak_memory_mb() -> float:
    """Most memory that this process has had resident so far, MB (10^6 bytes); what it shares with others counts."""
    try:
        found = _PEAK.search(Path("/proc/self/status").read_text())
    except OSError:
        found = None
    return 1024e-6 * (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _nothing(*_: float) -> None:
    """What a post tells nobody."""


def of_role(records: np.ndarray, roles: tuple[str, ...], role: str) -> np.ndarray:
    """The records of the ranks of one role."""
    return records[[i for i, r in enumerate(roles) if r == role]]


def best_frame(records: np.ndarray, roles: tuple[str, ...]) -> tuple[float, int, int] | None:
    """(RMSD in Å, walker, frame) of the frame nearest the target so far, None before the first."""
    known = records[np.isfinite(records["best_rmsd"]) & np.isin(roles, ("aggregation", "simulation"))]
    if not len(known):
        return None
    best = known[np.argmin(known["best_rmsd"])]
    return float(best["best_rmsd"]), int(best["best_simulation"]), int(best["best_frame"])


def view(records: np.ndarray, roles: tuple[str, ...], facts: dict[str, Any], left_s: float) -> dict[str, Any]:
    """The live view of a run as plain numbers: the content of ``status.json``."""
    simulation, aggregation, training, inference = (
        of_role(records, roles, r) for r in ("simulation", "aggregation", "training", "inference")
    )
    best = best_frame(records, roles)
    return {
        **facts,
        "time": time.time(),
        "left_s": max(0.0, left_s),
        "done": bool((records["state"] == State.DONE).all()),
        "activities": {r: _activities(of_role(records, roles, r)) for r in dict.fromkeys(roles)},
        "frames": int(simulation["frames"].sum()),
        "ns": float(simulation["ns"].sum()),
        "segments": int(simulation["segments"].sum()),
        "failures": int(simulation["failures"].sum()),
        "received": int(aggregation["frames"].sum()),
        "blocks": int(aggregation["blocks"].sum()),
        "silent": int(aggregation["silent"].sum()),
        "dropped": int(records["dropped"].sum()),
        "training_rounds": int(training["rounds"].sum()),
        "version": int(training["version"].max(initial=0)),
        "loss": _finite(training["loss"].max(initial=0)),
        "data_parallel": DATA_PARALLEL[int(training["data_parallel"].max(initial=0))],
        "samples": int(training["samples"].sum()),
        "inference_rounds": int(inference["rounds"].sum()),
        "window": int(inference["window"].sum()),
        "outliers": int(inference["outliers"].max(initial=0)),
        "decisions": int(inference["decisions"].sum()),
        "restarts": int(inference["delivered"].sum()),
        "best_rmsd_angstrom": None if best is None else best[0],
        "best_simulation": None if best is None else best[1],
    }


def _activities(records: np.ndarray) -> dict[str, int]:
    names, counts = np.unique(records["activity"].astype(int), return_counts=True)
    return {Activity(n).name.lower(): int(c) for n, c in zip(names, counts, strict=True)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
