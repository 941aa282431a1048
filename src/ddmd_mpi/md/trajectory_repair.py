"""What a walker's files hold when a run is resumed: frames and segments, without what a kill left half written.

A frame counts if it is complete both in the coordinate file and in the index; what follows the last such frame is cut
off. A segment that jumps counts once its first frame does, any other one once the frame before does.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..errors import RunDirectoryError
from ..rundir.files import is_whole, parse_object

XTC_MAGIC, XTC_LONG_MAGIC = 1995, 2023
XTC_HEAD_BYTES, XTC_SMALL_ATOMS = 56, 9  # up to this many atoms are not compressed
DCD_HEAD_BYTES, DCD_CELL_BYTE = 196, 48  # as coordinate_files.py writes it


@dataclass(frozen=True)
class History:
    """The frames and segments of one walker before this session."""

    n_frames: int = 0
    restart_points: int = 0
    time_ps: float = 0.0  # of the last frame
    segment: int = -1  # the last one
    best: tuple[float, int] = (np.inf, -1)  # lowest RMSD, angstrom, and its frame
    of_file: Mapping[str | None, int] = field(default_factory=dict)  # frames of each coordinate file


def mend(stem: Path, files: Mapping[str | None, Path]) -> History:
    """Cut off what is incomplete of a walker's files; what is left. A coordinate file without a complete frame goes.

    Parameters
    ----------
    stem
        ``sim-0007`` in its directory; the index and the segments exist.
    files
        The coordinate files that exist by the name of their topology, None where the run has but one.

    Raises
    ------
    RunDirectoryError
        If the files cannot be read, or are not what they should be.
    """
    index = stem.with_suffix(".frames.csv")
    try:
        head, rows = _rows(index, several=None not in files)
        named = Counter(row.file for row in rows)
        if lost := named.keys() - files.keys():
            raise ValueError(f"the file of {min(map(str, lost))} is missing; restore it, or start a new run")
        ends = {
            name: coordinate_ends(path, *shape(path), named[name]) if named[name] else [0]
            for name, path in files.items()
        }
        rows = rows[: _whole(rows, {name: len(of_file) - 1 for name, of_file in ends.items()})]
        kept = Counter(row.file for row in rows)
        segments = _segments(stem.with_suffix(".segments.jsonl"), len(rows))
        for name, path in files.items():
            if kept[name]:
                os.truncate(path, ends[name][kept[name]])
            else:
                path.unlink(missing_ok=True)
        os.truncate(index, len(head) + 1 + sum(row.nbytes for row in rows))
    except (OSError, LookupError, ValueError) as error:
        raise RunDirectoryError(f"cannot append to the trajectory {stem}.*: {error}") from error
    known = [(row.rmsd, i) for i, row in enumerate(rows) if row.rmsd == row.rmsd]
    return History(
        len(rows),
        sum(bool(s["restart_point"]) for s in segments),
        rows[-1].time_ps if rows else 0.0,
        segments[-1]["segment"] if segments else -1,
        min(known, default=History.best),
        dict(kept),
    )


class Row(NamedTuple):
    """A frame in the index: its time, its RMSD, where its coordinates are, and the length of its line."""

    time_ps: float
    rmsd: float  # angstrom
    file: str | None  # name of its topology
    number: int  # in that file
    nbytes: int


def _rows(index: Path, *, several: bool) -> tuple[bytes, list[Row]]:
    """The head of an index, and its complete lines."""
    head, *found = index.read_bytes().split(b"\n")[:-1] or [b""]
    rows: list[Row] = []
    for line in found:
        cells = line.split(b",")
        if len(cells) != head.count(b",") + 1 or cells[0] != str(len(rows)).encode():
            break
        file, number = (cells[-2].decode(), int(cells[-1])) if several else (None, len(rows))
        rows.append(Row(float(cells[2]), float(cells[3]), file, number, len(line) + 1))
    return head, rows


def _whole(rows: Sequence[Row], n_frames: Mapping[str | None, int]) -> int:
    """How many of these rows have all their frames, one after the other, in files of this many."""
    taken: Counter[str | None] = Counter()
    for i, row in enumerate(rows):
        if row.number != taken[row.file] or row.number >= n_frames.get(row.file, 0):
            return i
        taken[row.file] += 1
    return len(rows)


def _segments(path: Path, n_frames: int) -> list[dict[str, Any]]:
    """The complete segments of a walker with this many frames; the lines behind them are cut off."""
    kept, size = [], 0
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            segment = parse_object(line)
        except ValueError:
            break
        if not is_whole(segment["segment"]) or not is_whole(segment["first_frame"]) or "restart_point" not in segment:
            raise ValueError(f"{path.name} holds lines that are not segments")
        if segment["first_frame"] >= n_frames + (not segment["restart_point"]):
            break
        kept.append(segment)
        size += len(line) + 1
    os.truncate(path, size)
    return kept


def shape(path: Path) -> tuple[int, bool]:
    """Atoms of the frames of a coordinate file, and whether they have a box, by the file's own word.

    Raises
    ------
    ValueError
        If it does not have the format of its name.
    """
    with path.open("rb") as file:
        head = file.read(DCD_HEAD_BYTES)
    if path.suffix == ".xtc" and len(head) >= 8 and int.from_bytes(head[:4], "big") in (XTC_MAGIC, XTC_LONG_MAGIC):
        return int.from_bytes(head[4:8], "big"), True
    if path.suffix == ".dcd" and len(head) == DCD_HEAD_BYTES and head[4:8] == b"CORD":
        return int.from_bytes(head[-8:-4], "little"), head[DCD_CELL_BYTE] != 0
    raise ValueError(f"{path.name} is not in the format {path.suffix[1:].upper()}")


def coordinate_ends(path: Path, n_atoms: int, periodic: bool, most: int, start: int = 0) -> list[int]:
    """Where the head of a coordinate file ends, and each of its complete frames up to this many.

    Parameters
    ----------
    start
        Where in an XTC file, which has no head, to start.
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
            raise ValueError(f"it is not an XTC file of {n_atoms} atoms")
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
