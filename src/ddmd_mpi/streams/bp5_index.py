"""Which steps of a BP5 file are complete, by its index: ADIOS2 itself may wait forever for missing bytes.

``md.idx`` has a record for every step (ADIOS2, source/adios2/engine/bp5/BP5Writer.cpp): after the step's kind and the
record's size where its metadata lie in ``md.0`` and how long they are, the number of flushes, and where its data start
in ``data.0``. The index is written last, so that what it names is complete unless the file was cut later.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import StreamError

HEADER_BYTES = 64
MAGIC = b"ADIOS-BP"
FILES = ("data.0", "md.0", "mmd.0")
_RECORD, _STEP, _LENGTHS = struct.Struct("<cQ"), struct.Struct("<4Q"), struct.Struct("<2Q")


class Step(NamedTuple):
    """One step."""

    index_end: int  # in md.idx, as the others in bytes
    metadata_end: int  # in md.0
    data_start: int  # in data.0


def whole_steps(path: Path) -> list[Step]:
    """The steps of a BP5 file whose metadata are complete and whose data start.

    Raises
    ------
    StreamError
        If `path` is no BP5 file.
    """
    try:
        index = (path / "md.idx").read_bytes()
        sizes = {name: (path / name).stat().st_size for name in FILES}
    except OSError as error:
        raise StreamError(f"{path} is not a complete archive: {error.filename}: {error.strerror}") from error
    if len(index) < HEADER_BYTES or not index.startswith(MAGIC):
        raise StreamError(f"{path} is not a complete archive: md.idx has no header")
    steps, at = [], HEADER_BYTES
    while at + _RECORD.size <= len(index):
        kind, size = _RECORD.unpack_from(index, at)
        end = at + _RECORD.size + size
        if end > len(index):
            break
        if kind == b"s" and size >= _STEP.size:
            start, length, _, data_start = _STEP.unpack_from(index, at + _RECORD.size)
            if start + length > sizes["md.0"] or data_start > sizes["data.0"]:
                break
            steps.append(Step(end, start + length, data_start))
        at = end
    if steps and not _is_whole(path / "mmd.0"):
        raise StreamError(f"{path} is not a complete archive: mmd.0, which describes its columns, is cut off")
    return steps


def _is_whole(path: Path) -> bool:
    """Whether the descriptions of columns in ``mmd.0`` end where the file does: half a one crashes ADIOS2.

    Each is two lengths, and an identity and a description of these lengths.
    """
    content, at = path.read_bytes(), 0
    while at + _LENGTHS.size <= len(content):
        at += _LENGTHS.size + sum(_LENGTHS.unpack_from(content, at))
    return at == len(content) > 0


def holds(path: Path, step: Step, columns: list[np.ndarray]) -> bool:
    """Whether ``data.0`` has all of a step's columns, which lie there in their order, each aligned to its items."""
    end = step.data_start
    for column in columns:
        end = -(-end // column.itemsize) * column.itemsize + column.nbytes
    return end <= (path / "data.0").stat().st_size


@contextmanager
def cut_to(path: Path, steps: list[Step]) -> Iterator[Path]:
    """A BP5 file that shows just these steps of `path`: itself, if the index names no others."""
    index = (path / "md.idx").read_bytes()
    if len(index) == steps[-1].index_end:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ddmd-mpi-archive-") as directory:
        view = Path(directory) / path.name
        view.mkdir()
        for name in FILES:
            (view / name).symlink_to((path / name).absolute())
        (view / "md.idx").write_bytes(index[: steps[-1].index_end])
        yield view
