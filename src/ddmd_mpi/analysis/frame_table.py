"""The frames of all walkers as one table, from ``trajectories/*.frames.csv`` and the segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .records import Record, number, read_csv

#: Columns of every table; the declared order parameters follow.
COLUMNS = (
    ("walker", "i4"),
    ("frame", "i8"),
    ("segment", "i4"),
    ("time_ps", "f8"),
    ("rmsd_angstrom", "f8"),
    ("potential_energy_kj_mol", "f8"),
    ("restart_point", "?"),
    ("wall", "f8"),
    ("aggregate_ps", "f8"),
    ("topology", "U"),
    ("frame_in_file", "i8"),
)
_ENDS = dict[tuple[int, int], float]


def order_of_time(frames: np.ndarray) -> np.ndarray:
    """Rows in the order of the wall time at which the frames were made."""
    return np.lexsort((frames["time_ps"], frames["wall"]))


def read_frames(directory: Path, segments: list[Record], events: list[Record], parameters: list[str]) -> np.ndarray:
    """The frames of all walkers, ordered by walker and frame: a structured array of shape (n_frames,).

    Parameters
    ----------
    parameters
        Names of the declared order parameters; NaN where a file lacks one.

    Notes
    -----
    ``restart_point`` tells whether the frame repeats the one that its segment started from; ``wall`` is a Unix time,
    s, interpolated in the frame's segment, NaN if unknown; ``aggregate_ps`` is the time simulated by all walkers until
    then; ``frame_in_file`` is the row in the trajectory of the frame's topology.
    """
    ended: _ENDS = {}
    for event in events:
        if event["name"] == "segment" and isinstance(event.get("walker"), int):
            ended[event["walker"], event.get("segment", -1)] = event["end"]
    lines: dict[int, list[Record]] = {}
    for line in segments:
        lines.setdefault(line["walker"], []).append(line)
    names = {str(s.get("topology") or "") for s in segments}
    dtype = _dtype(parameters, max((len(name) for name in names), default=0))
    walkers = []
    for path in directory.glob("trajectories/*.frames.csv"):
        columns = read_csv(path)
        digits = path.name.split(".")[0].rpartition("-")[2]
        if digits.isdigit() and {"frame", "segment", "time_ps"} <= columns.keys() and len(columns["frame"]):
            walkers.append(_of_walker(int(digits), columns, lines.get(int(digits), []), ended, dtype))
    walkers.sort(key=lambda frames: int(frames["walker"][0]))
    frames = np.concatenate(walkers) if walkers else np.empty(0, dtype)
    order = order_of_time(frames)
    simulated = np.concatenate([np.diff(w["time_ps"], prepend=0.0) for w in walkers] or [np.empty(0)])
    frames["aggregate_ps"][order] = np.cumsum(np.maximum(simulated[order], 0.0))
    return frames


def _dtype(parameters: list[str], longest: int) -> np.dtype:
    """The columns, with room for names of topologies of this length."""
    rows = [(name, f"U{max(1, longest)}" if kind == "U" else kind) for name, kind in COLUMNS]
    known = dict(COLUMNS)
    return np.dtype([*rows, *((name, "f8") for name in dict.fromkeys(parameters) if name not in known)])


def _of_walker(
    walker: int, columns: dict[str, np.ndarray], lines: list[Record], ended: _ENDS, dtype: np.dtype
) -> np.ndarray:
    """The frames of one walker, but for ``aggregate_ps``."""
    frames = np.zeros(len(columns["frame"]), dtype)
    for name in dtype.names or ():
        if name in columns:
            kind = dtype[name].kind
            frames[name] = np.nan_to_num(columns[name], nan=-1.0) if kind == "i" else columns[name]
        elif dtype[name].kind == "f":
            frames[name] = np.nan
    frames["walker"] = walker
    if "frame_in_file" not in columns:
        frames["frame_in_file"] = frames["frame"]
    repeats = [number(line.get("first_frame")) for line in lines if line.get("restart_point")]
    frames["restart_point"] = np.isin(frames["frame"], repeats)
    if lines:
        _of_segments(frames, lines, ended)
    return frames


def _of_segments(frames: np.ndarray, lines: list[Record], ended: _ENDS) -> None:
    """Fill in what the lines of the segments tell: topologies and wall times."""
    numbers = np.array([line["segment"] for line in lines])
    at = np.minimum(np.searchsorted(numbers, frames["segment"]), len(numbers) - 1)
    known = numbers[at] == frames["segment"]
    names = np.array([str(line.get("topology") or "") for line in lines])
    frames["topology"] = np.where(known, names[at], "")
    start = np.array([number(line.get("start")) for line in lines])
    following = np.append(start[1:], np.nan)
    end = np.array([
        ended.get((line["walker"], line["segment"]), after) for line, after in zip(lines, following, strict=True)
    ])  # fmt: skip
    # A segment that has not ended continues at the usual pace.
    reports = np.bincount(at[known & ~frames["restart_point"]], minlength=len(lines))
    pace = (end - start) / np.maximum(reports, 1)
    good = np.isfinite(pace) & (pace >= 0)
    pace = np.where(good, pace, np.median(pace[good]) if good.any() else np.nan)
    before = np.concatenate([[0], np.cumsum(reports)])[at]
    place = np.cumsum(known & ~frames["restart_point"]) - before
    frames["wall"] = np.where(known, start[at] + place * pace[at], np.nan)
