"""Status records, which every rank posts about once a second in window memory of the first aggregator.

The records feed the live view (``status.json``, the screen) and ``summary.json``; no collective is needed for either,
and a rank that is lost leaves its last record.
"""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Callable
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..clock import monotonic
from ..layout.links import STREAM_KINDS
from .events import EventLog


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
    PREPARING = 9


class StopReason(IntEnum):
    """Why a run stops: the number that travels in a record, and its word; of several, the last is the run's."""

    NONE = 0, ""
    ALL_ENDED = 1, "all simulations ended"
    FAILURE = 2, "failure"
    DURATION = 3, "duration"
    TARGET_RMSD = 4, "target_rmsd"
    ARRIVALS = 5, "arrivals"
    RMSD_PLATEAU = 6, "rmsd_plateau"
    COVERAGE_PLATEAU = 7, "coverage_plateau"
    ITERATIONS = 8, "iterations"
    WALLTIME = 9, "walltime"
    SIGUSR1 = 10, "SIGUSR1"
    SIGUSR2 = 11, "SIGUSR2"
    SIGINT = 12, "SIGINT"
    SIGTERM = 13, "SIGTERM"
    DISK = 14, "disk"

    word: str

    def __new__(cls, number: int, word: str = "") -> StopReason:
        """A member of this number."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.word = word
        return member

    @classmethod
    def of(cls, word: str) -> StopReason:
        """The reason with this word."""
        return next(reason for reason in cls if reason.word == word)


class DataParallel(IntEnum):
    """How the ranks that train together sum their gradients; the word is the name in lower case."""

    NONE = 0
    MPI = 1
    HOROVOD = 2

    @property
    def word(self) -> str:
        """As settings, models and the summary write it."""
        return self.name.lower()


class Reduction(Enum):
    """What becomes of the values of a field: over the ranks of a role, and over the sessions of a run."""

    SUM = "sum"
    MAX = "max"
    #: No reduction: each rank's, or this session's, value stands for itself.
    NONE = "none"


SUM, MAX, NONE = Reduction
#: Reduces two values; by itself, or over an array.
REDUCE: dict[Reduction, np.ufunc] = {SUM: np.add, MAX: np.maximum}


class StatusField(NamedTuple):
    """One row of the table: a field of every rank's record.

    ``restored`` names the roles whose ranks find the total of earlier sessions again in the run's own files, so that
    their records hold all sessions and nothing is to be added.
    """

    name: str
    unit: str
    ranks: Reduction
    sessions: Reduction
    meaning: str
    restored: tuple[str, ...] = ()
    dtype: str = "<f8"
    shape: tuple[int, ...] = ()


SIMULATES, AGGREGATES, TRAINS, INFERS = ("simulation",), ("aggregation",), ("training",), ("inference",)
PER_STREAM = (len(STREAM_KINDS),)

#: Every field of a record. Counters are totals of the run; seconds are the rank's own.
FIELDS = (
    StatusField("state", "", NONE, NONE, "State"),
    StatusField("activity", "", NONE, NONE, "Activity"),
    StatusField("time", "s", NONE, NONE, "Unix time of this record"),
    StatusField("pid", "", NONE, NONE, "of the process"),
    StatusField("within", "s", NONE, NONE, "until the next record, at most"),
    StatusField("wall_s", "s", SUM, SUM, "since the start of the session"),
    StatusField("iterations", "", SUM, SUM, "segments, blocks or rounds", (*SIMULATES, *TRAINS, *INFERS)),
    StatusField("iteration_s", "s", SUM, SUM, "in those"),
    StatusField("busy_s", "s", SUM, SUM, "at the role's work"),
    StatusField("io_s", "s", SUM, SUM, "in streams and files"),
    StatusField("peak_mb", "MB", SUM, NONE, "most memory resident so far"),
    StatusField("stop", "", MAX, NONE, "StopReason of a rank that has stopped"),
    StatusField("wants_stop", "", MAX, NONE, "StopReason for which a rank asks the leader to stop the run"),
    StatusField("refusal", "", NONE, NONE, "what the disk has refused, in a sentence", dtype="S400"),
    # Simulations; frames and failures are of aggregators, too: received, and not valid.
    StatusField("frames", "", SUM, SUM, "reported, or received", SIMULATES),
    StatusField("ns", "ns", SUM, SUM, "simulated", SIMULATES),
    StatusField("earlier_ns", "ns", SUM, SUM, "of those, by earlier sessions", SIMULATES),
    StatusField("segments", "", SUM, SUM, "completed or broken off", SIMULATES),
    StatusField("failures", "", SUM, SUM, "of the molecular dynamics, or frames that are not finite", SIMULATES),
    StatusField("preparing", "", SUM, NONE, "walkers that are not ready yet"),
    StatusField("prepares", "", NONE, NONE, "index of the topology that is prepared"),
    StatusField("report_s", "s", MAX, NONE, "the time that a report takes"),
    # Aggregators.
    StatusField("archived", "", SUM, SUM, "frames in the archive", AGGREGATES),
    StatusField("silent", "", SUM, NONE, "simulations that have not been heard of for long"),
    StatusField("best_rmsd", "angstrom", NONE, NONE, "of the frame nearest the target, NaN for none"),
    StatusField("best_walker", "", NONE, NONE, "walker of that frame"),
    StatusField("best_frame", "", NONE, NONE, "its index"),
    # Training and inference.
    StatusField("version", "", MAX, NONE, "newest model version"),
    StatusField("rounds", "", SUM, SUM, "of training or inference", (*TRAINS, *INFERS)),
    StatusField("samples", "", SUM, SUM, "seen in training", TRAINS),
    StatusField("loss", "", MAX, NONE, "of the last round, NaN for none"),
    StatusField("validation_loss", "", MAX, NONE, "of the last round, NaN for none"),
    StatusField("data_parallel", "", MAX, NONE, "DataParallel"),
    StatusField("window", "", SUM, NONE, "frames in the window"),
    StatusField("outliers", "", MAX, NONE, "in the last round"),
    StatusField("eps", "", MAX, NONE, "of the last round"),
    StatusField("decisions", "", SUM, SUM, "restarts decided", INFERS),
    StatusField("instant", "", SUM, SUM, "of those, before the first model version", INFERS),
    StatusField("delivered", "", SUM, SUM, "restarts that have begun", INFERS),
    StatusField("stale", "", SUM, SUM, "whose frame was overwritten", INFERS),
    StatusField("failed", "", SUM, SUM, "whose molecular dynamics failed", INFERS),
    *(
        StatusField(f"{kind}_{percentile}_ms", "ms", MAX, NONE, f"{kind} of restarts, {percentile}")
        for kind in ("latency", "apply")
        for percentile in ("p50", "p99", "max")
    ),
    # Streams that the rank writes to; hop_...: the same by kind of stream, in the order of STREAM_KINDS.
    StatusField("bytes", "B", SUM, SUM, "written"),
    StatusField("blocks", "", SUM, SUM, "written, or received"),
    StatusField("dropped", "", SUM, SUM, "blocks for which a queue had no room"),
    StatusField("max_queue", "blocks", MAX, MAX, "longest queue"),
    StatusField("hop_bytes", "B", SUM, SUM, "written", shape=PER_STREAM),
    StatusField("hop_blocks", "", SUM, SUM, "written", shape=PER_STREAM),
    StatusField("hop_queue", "blocks", MAX, MAX, "longest queue", shape=PER_STREAM),
    StatusField("hop_dropped", "", SUM, SUM, "blocks for which a queue had no room", shape=PER_STREAM),
    StatusField("hop_waited", "", SUM, SUM, "blocks that found no room when they came", shape=PER_STREAM),
    StatusField("hop_wait_s", "s", SUM, SUM, "that blocks spent in the queue", shape=PER_STREAM),
)
FIELD = {field.name: field for field in FIELDS}
STATUS_DTYPE = np.dtype([(field.name, field.dtype, field.shape) for field in FIELDS])
POST_SECONDS = 0.5
_PEAK = re.compile(r"VmHWM:\s*(\d+) kB")


class StatusPost:
    """This rank's record, posted at most twice a second.

    Parameters
    ----------
    put
        Posts a record.
    events
        Knows the seconds spent on streams and the archive.
    gather
        Gives further fields whenever the record is posted.
    """

    def __init__(
        self,
        put: Callable[[np.ndarray], object],
        events: EventLog,
        gather: Callable[[], dict[str, Any]] = dict,
    ):
        self._put = put
        self._events = events
        self._gather = gather
        self._started = self._posted = monotonic()
        self.record = np.zeros((), STATUS_DTYPE)
        self.record["pid"] = os.getpid()
        for name in ("best_rmsd", "loss", "validation_loss"):  # not known yet
            self.record[name] = np.nan

    def update(self, *, now: bool = False, **values: float) -> None:
        """Set fields of the record; post it when it is due or `now`."""
        clock = monotonic()
        due = now or clock - self._posted > POST_SECONDS
        for name, value in {**self._gather(), **values}.items() if due else values.items():
            self.record[name] = value
        if due:
            self._posted = clock
            self.record["time"] = time.time()
            self.record["wall_s"] = clock - self._started
            self.record["io_s"] = self._events.seconds("io")
            self.record["peak_mb"] = peak_memory_mb()
            self._put(self.record)

    def add(self, **values: float | np.ndarray) -> None:
        """Add to counters of the record."""
        for name, value in values.items():
            self.record[name] += value


def hop_counts(kind: str, **counts: float) -> dict[str, np.ndarray]:
    """What to add to the counters of one kind of stream: `bytes` becomes ``hop_bytes``, and so on."""
    at = np.arange(len(STREAM_KINDS)) == STREAM_KINDS.index(kind)
    return {f"hop_{name}": np.where(at, count, 0.0) for name, count in counts.items()}


def peak_memory_mb() -> float:
    """Most memory that this process has had resident so far, MB (10^6 bytes); what it shares with others counts."""
    try:
        found = _PEAK.search(Path("/proc/self/status").read_text())
    except OSError:
        found = None
    return 1024e-6 * (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


class Board(Protocol):
    """Where the records of all ranks can be read."""

    def get(self, slot: int, /) -> tuple[int, np.ndarray]:
        """How often a slot has been posted, and its newest record."""


def read_records(board: Board, n_slots: int) -> np.ndarray:
    """The newest record of every slot on the board."""
    records = no_records(n_slots)
    for slot in range(n_slots):
        sequence, record = board.get(slot)
        if sequence:
            records[slot] = record
    return records


def no_records(n_slots: int) -> np.ndarray:
    """The records of slots that have posted none: zeros and no best RMSD."""
    records = np.zeros(n_slots, STATUS_DTYPE)
    records["best_rmsd"] = np.nan
    return records


def of_role(records: np.ndarray, roles: tuple[str, ...], role: str) -> np.ndarray:
    """The records of the ranks of one role."""
    return records[[i for i, r in enumerate(roles) if r == role]]


def best_frame(records: np.ndarray, roles: tuple[str, ...]) -> tuple[float, int, int] | None:
    """(RMSD in Å, walker, frame) of the frame nearest the target so far, None before the first."""
    known = records[np.isfinite(records["best_rmsd"]) & np.isin(roles, ("aggregation", "simulation"))]
    if not len(known):
        return None
    best = known[np.argmin(known["best_rmsd"])]
    return float(best["best_rmsd"]), int(best["best_walker"]), int(best["best_frame"])


def over_ranks(records: np.ndarray, name: str) -> Any:
    """The value of a field over ranks, as the table reduces it: a number, or shape (n_kinds,) by kind of stream."""
    return REDUCE[FIELD[name].ranks].reduce(records[name], axis=0, initial=0)


def counts_over(records: np.ndarray, *names: str) -> dict[str, int]:
    """The same of several fields that count."""
    return {name: int(over_ranks(records, name)) for name in names}
