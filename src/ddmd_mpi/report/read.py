"""A run directory as it lies on disk: files may be missing, and the last line of any may be half written."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunDirectoryError
from ..files import parse_object, read_bytes
from ..rundir import MOST_LINES

Record = dict[str, Any]
MARKS = ("config.toml", "summary.json", "environment.json", "decisions.jsonl", "events", "trajectories")
ROLES = ("simulation", "aggregation", "training", "inference")


@dataclass(frozen=True)
class Run:
    """What the files of a run directory hold, each as it was found.

    Parameters
    ----------
    settings, summary, environment
        ``config.toml``, ``summary.json``, ``environment.json``; empty where the file is missing.
    events, decisions, rounds, segments, models
        Records of the JSON lines and of ``models/*/metadata.json``, ordered by time or number.
    frames
        The frames of all walkers as columns of equal length, see :func:`read_frames`.
    """

    directory: Path
    settings: Record
    summary: Record
    environment: Record
    events: list[Record]
    decisions: list[Record]
    rounds: list[Record]
    segments: list[Record]
    models: list[Record]
    frames: dict[str, np.ndarray]

    def setting(self, section: str, key: str, default: Any = None) -> Any:
        """One setting of the run's ``config.toml``."""
        return table(self.settings.get(section)).get(key, default)

    def result(self, section: str, key: str, default: Any = None) -> Any:
        """One value of the run's ``summary.json``."""
        return table(self.summary.get(section)).get(key, default)

    def spans(self, *names: str) -> list[Record]:
        """Events of these names, by start."""
        return [e for e in self.events if e["name"] in names]

    @cached_property
    def start(self) -> float:
        """Unix time of the first record, s; NaN if there is none."""
        return self._ends[0]

    @cached_property
    def wall(self) -> float:
        """Wall time from the first to the last record, s; NaN if there is none."""
        measured = number(self.summary.get("wall_s"))
        ended = self.summary.get("completed") is True  # else the summary is older than the newest records
        return measured if ended and measured > 0 else self._ends[1] - self._ends[0]

    @cached_property
    def _ends(self) -> tuple[float, float]:
        times = [t for e in self.events if e["name"] != "epoch" for t in (e["start"], e["end"])]
        times += [number(s.get("start")) for s in self.segments] + [number(r.get("time")) for r in self.rounds]
        known = [t for t in times if t > 0]
        return (min(known), max(known)) if known else (np.nan, np.nan)


def read_run(directory: Path) -> Run:
    """Everything that the report needs of `directory`.

    Raises
    ------
    RunDirectoryError
        If there is no such directory, or it is not one that a run wrote.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise RunDirectoryError(f"there is no run directory {directory}: name the one that the run printed at its end")
    if not any((directory / mark).exists() for mark in MARKS):
        raise RunDirectoryError(
            f"{directory} is not a run directory: it holds none of {', '.join(MARKS)}; name the one that a run wrote"
        )
    segments = read_lines(directory.glob("trajectories/*.segments.jsonl"))
    segments = [s for s in segments if isinstance(s.get("simulation"), int) and isinstance(s.get("segment"), int)]
    segments.sort(key=lambda s: (s["simulation"], s["segment"]))
    events = [e for e in read_lines(directory.glob("events/*.jsonl")) if is_span(e)]
    decisions = read_lines([directory / "decisions.jsonl"])
    decisions = {d["decision"]: d for d in decisions if isinstance(d.get("decision"), int)}
    return Run(
        directory=directory,
        settings=read_toml(directory / "config.toml"),
        summary=read_json(directory / "summary.json"),
        environment=read_json(directory / "environment.json"),
        events=sorted(events, key=lambda e: e["start"]),
        decisions=list(decisions.values()),
        rounds=read_lines([directory / "rounds.jsonl"]),
        segments=segments,
        models=[m for m in map(read_json, sorted(directory.glob("models/*/metadata.json"))) if m],
        frames=read_frames(directory, segments, events),
    )


def table(value: Any) -> Record:
    """The value if it is a table, else an empty one."""
    return value if isinstance(value, dict) else {}


def number(value: Any) -> float:
    """The value as a float, NaN if it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan


def column(records: Iterable[Record], *keys: str) -> np.ndarray:
    """The number at ``record[key][key]...`` of every record, NaN where it is missing, shape (n_records,)."""

    def value(record: Any) -> float:
        for key in keys:
            record = table(record).get(key)
        return number(record)

    return np.array([value(r) for r in records], dtype=float)


def is_span(event: Record) -> bool:
    """Whether a line of events is a whole span."""
    return (
        isinstance(event.get("name"), str)
        and isinstance(event.get("role"), str)
        and isinstance(event.get("rank"), int)
        and number(event.get("end")) >= number(event.get("start"))
    )


def read_toml(path: Path) -> Record:
    """Tables of a TOML file, empty if it is missing or half written."""
    try:
        return tomllib.loads(read_bytes(path).decode(errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}


def read_json(path: Path) -> Record:
    """The object in a JSON file, empty if it is missing or half written."""
    try:
        return parse_object(read_bytes(path).decode(errors="replace"))
    except (OSError, ValueError):
        return {}


def read_lines(paths: Iterable[Path]) -> list[Record]:
    """The objects in JSON lines, file after file, without the lines that are not whole."""
    records = []
    for path in sorted(paths):
        for line in complete_lines(path, keep_last=True):
            try:
                records.append(parse_object(line))
            except ValueError:
                continue
    return [r for r in records if r]


def complete_lines(path: Path, keep_last: bool = False) -> list[str]:
    """Lines of a text file; the last one only if it ends, or if asked for; none if the file is missing."""
    try:
        text = read_bytes(path, MOST_LINES).decode(errors="replace")
    except OSError:
        return []
    lines = text.split("\n")
    return lines if keep_last else lines[:-1]


def read_frames(directory: Path, segments: list[Record], events: list[Record]) -> dict[str, np.ndarray]:
    """The frames of all ``trajectories/*.frames.csv`` as columns, ordered by the wall time at which they were made.

    Columns: ``simulation``, ``frame``, ``segment``, ``time_ps``, ``rmsd_angstrom``, ``restart_point`` (whether the
    frame repeats the one that its segment started from), ``wall`` (Unix time, s, interpolated in the frame's segment;
    NaN where unknown), ``aggregate_ps`` (time simulated by all walkers until then). Empty columns if there are none.
    """
    ended = {(e.get("simulation"), e.get("segment")): e["end"] for e in events if e["name"] == "segment"}
    walkers = []
    for path in sorted(directory.glob("trajectories/*.frames.csv")):
        columns = read_csv(path)
        digits = path.name.split(".")[0].rpartition("-")[2]
        if digits.isdigit() and {"frame", "segment", "time_ps"} <= columns.keys() and len(columns["frame"]):
            own = [s for s in segments if s["simulation"] == int(digits)]
            walkers.append(_walker_frames(int(digits), columns, own, ended))
    names = ("simulation", "frame", "segment", "time_ps", "rmsd_angstrom", "restart_point", "start", "end", "share")
    frames = {n: np.concatenate([w[n] for w in walkers]) if walkers else np.empty(0) for n in names}
    frames["wall"] = _wall(frames.pop("start"), frames.pop("end"), *frames.pop("share").reshape(-1, 2).T)
    order = np.lexsort((frames["time_ps"], frames["wall"]))
    step = np.concatenate([np.diff(w["time_ps"], prepend=0.0) for w in walkers] or [np.empty(0)])
    frames = {n: c[order] for n, c in frames.items()}
    frames["restart_point"] = frames["restart_point"].astype(bool)
    frames["aggregate_ps"] = np.cumsum(np.maximum(step[order], 0.0))
    return frames


def _walker_frames(
    simulation: int, columns: dict[str, np.ndarray], segments: list[Record], ended: dict[tuple, float]
) -> dict[str, np.ndarray]:
    """One walker's frames; with each, the begin and end of its segment, its place in it and the segment's length."""
    frame, segment = columns["frame"], columns["segment"]
    repeats = [number(s.get("first_frame")) for s in segments if s.get("restart_point")]
    restart_point = np.isin(frame, repeats)
    start, end, share = np.full(len(frame), np.nan), np.full(len(frame), np.nan), np.zeros((len(frame), 2))
    for s, following in zip(segments, [*segments[1:], {}], strict=False):
        mine = np.flatnonzero(segment == s["segment"])
        start[mine] = number(s.get("start"))
        end[mine] = ended.get((simulation, s["segment"]), number(following.get("start")))
        reports = np.cumsum(~restart_point[mine])
        share[mine] = np.column_stack([reports, np.full(len(mine), max(1, reports[-1] if len(mine) else 0))])
    return {
        "simulation": np.full(len(frame), simulation),
        "frame": frame.astype(int),
        "segment": segment.astype(int),
        "time_ps": columns["time_ps"],
        "rmsd_angstrom": columns.get("rmsd_angstrom", np.full(len(frame), np.nan)),
        "restart_point": restart_point,
        "start": start,
        "end": end,
        "share": share,
    }


def _wall(start: np.ndarray, end: np.ndarray, place: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Unix time of every frame, interpolated in its segment; one that has not ended goes on at the usual pace."""
    pace = (end - start) / length
    known = pace[np.isfinite(pace) & (pace >= 0)]
    usual = np.median(known) if len(known) else np.nan
    return start + place * np.where(pace >= 0, pace, usual)


def read_csv(path: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV file of numbers; what is not a number is NaN, a row that is not whole is left out."""
    lines = complete_lines(path)
    names = lines[0].strip().split(",") if lines else []
    rows = [line for line in lines[1:] if line.count(",") == len(names) - 1]
    try:
        values = np.loadtxt(rows, delimiter=",", ndmin=2) if rows else np.empty((0, len(names)))
    except ValueError:
        values = np.array([[_float(cell) for cell in row] for row in csv.reader(rows)])
    return dict(zip(names, values.T, strict=True))


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan
