"""What a walker's files hold when a run goes on: frames and segments, without what a kill left half written.

A frame counts if it is whole both in the coordinate file and in the index; what lies behind the last such frame is cut
off. A segment that jumps counts once its first frame does.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import RunDirectoryError
from ..files import is_whole, parse_object

XTC_MAGIC, XTC_LONG_MAGIC = 1995, 2023
XTC_HEAD_BYTES, XTC_SMALL_ATOMS = 56, 9  # up to so many atoms are not compressed
DCD_HEAD_BYTES = 196


@dataclass(frozen=True)
class History:
    """The frames and segments of one walker before this session."""

    n_frames: int = 0
    restart_points: int = 0
    time_ps: float = 0.0  # of the last frame
    segment: int = -1  # the last one
    best: tuple[float, int] = (np.inf, -1)  # lowest RMSD, angstrom, and its frame


def mend(path: Path, n_atoms: int, periodic: bool) -> History:
    """Cut off what is not whole of a walker's three files, which exist; what is left.

    Parameters
    ----------
    path
        The coordinate file; the index and the segments lie beside it.
    n_atoms, periodic
        What a frame consists of.

    Raises
    ------
    RunDirectoryError
        If the files cannot be read or are not those of this system.
    """
    try:
        frames, rows = path.with_suffix(".frames.csv"), []
        with frames.open("rb") as file:
            head, *found = file.read().split(b"\n")[:-1] or [b""]
        for line in found:
            cells = line.split(b",")
            if len(cells) != head.count(b",") + 1 or cells[0] != str(len(rows)).encode():
                break
            rows.append((float(cells[2]), float(cells[3]), len(line) + 1))
        ends = coordinate_ends(path, n_atoms, periodic, len(rows))
        rows = rows[: len(ends) - 1]
        segments = _segments(path.with_suffix(".segments.jsonl"), len(rows))
        os.truncate(path, ends[-1])
        os.truncate(frames, len(head) + 1 + sum(size for *_, size in rows))
    except (OSError, LookupError, ValueError) as error:
        raise RunDirectoryError(f"the trajectory {path} cannot be gone on with: {error}") from error
    known = [(rmsd, i) for i, (_, rmsd, _) in enumerate(rows) if rmsd == rmsd]
    return History(len(rows), sum(bool(s["restart_point"]) for s in segments), rows[-1][0] if rows else 0.0,
                   segments[-1]["segment"] if segments else -1, min(known, default=History.best))


def _segments(path: Path, n_frames: int) -> list[dict[str, Any]]:
    """The whole segments of a walker with so many frames; the lines behind them are cut off."""
    kept, size = [], 0
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            segment = parse_object(line)
        except ValueError:
            break
        if not is_whole(segment["segment"]) or not is_whole(segment["first_frame"]) or "restart_point" not in segment:
            raise ValueError(f"{path.name} holds lines that are no segments")
        if segment["restart_point"] and segment["first_frame"] >= n_frames:
            break
        kept.append(segment)
        size += len(line) + 1
    os.truncate(path, size)
    return kept


def read_segments(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of segments that was mended."""
    return [parse_object(line) for line in path.read_bytes().splitlines()]


def coordinate_ends(path: Path, n_atoms: int, periodic: bool, most: int, start: int = 0) -> list[int]:
    """Where the head of a coordinate file ends, and each of its whole frames up to so many.

    Parameters
    ----------
    start
        Where in an XTC file, which has no head, to begin.
    """
    size = path.stat().st_size
    if path.suffix == ".xtc":
        with path.open("rb") as file:
            return _xtc_ends(file, size, n_atoms, most, start)
    frame = 12 * (n_atoms + 2) + (56 if periodic else 0)
    n_frames = min(most, max(0, size - DCD_HEAD_BYTES) // frame)
    return [DCD_HEAD_BYTES + i * frame for i in range(n_frames + 1)]


def _xtc_ends(file: BinaryIO, size: int, n_atoms: int, most: int, start: int) -> list[int]:
    """The ends of the frames of an XTC file: GROMACS, src/gromacs/fileio/xtcio.cpp and libxdrf.cpp."""
    ends = [start]
    while len(ends) <= most:
        file.seek(ends[-1])
        head = file.read(XTC_HEAD_BYTES + 40)
        if len(head) < XTC_HEAD_BYTES:
            break
        magic, atoms = struct.unpack(">ii", head[:8])
        if magic not in (XTC_MAGIC, XTC_LONG_MAGIC) or atoms != n_atoms:
            raise ValueError(f"it is no XTC file of {n_atoms} atoms")
        if atoms <= XTC_SMALL_ATOMS:
            end = ends[-1] + XTC_HEAD_BYTES + 12 * atoms
        else:
            wide = magic == XTC_LONG_MAGIC
            at = XTC_HEAD_BYTES + 32
            length = head[at : at + (8 if wide else 4)]
            if len(length) < (8 if wide else 4):
                break
            end = ends[-1] + at + len(length) + -(-int.from_bytes(length, "big") // 4) * 4
        if end > size:
            break
        ends.append(end)
    return ends
