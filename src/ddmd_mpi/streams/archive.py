"""The archive of an aggregator: its blocks of frames as a BP5 file, one step a block, one variable a column.

Any ADIOS2 tool reads it (``bpls -la DIR/frames/agg-00.bp``); units and meanings are attributes of the variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Literal, NamedTuple

import adios2
import numpy as np
from adios2.bindings import Mode, StepMode, StepStatus

from ..config.schema import StreamsSection
from ..errors import DiskError, StreamError
from ..frames.block import BOTH, FIELD, FIELDS, FORMER_NAMES, Extents, FrameBlock, Hop, column_shape
from .adios2_engine import adios2_errors, declare, no_profile
from .bp5_index import Step, cut_to, holds, whole_steps

KIND = "Archive"
#: What ADIOS2 calls the dtypes of the table.
TYPES = {"<i2": "int16_t", "<u2": "uint16_t", "<i4": "int32_t", "<i8": "int64_t", "<f4": "float", "<f8": "double"}
MAX_RATIO = 1000  # of a file that is compressed
FILE_SETTINGS = StreamsSection(engine="BP5")
#: A reader of what is complete waits for nothing.
READER_SETTINGS = StreamsSection(engine="BP5", parameters={"OpenTimeoutSecs": "2"})
#: Archives that ADIOS2 could not close without an error that it does not survive.
_left_open: list[adios2.Engine] = []

_NAME = re.compile(r"agg-\d{2,}(?:\.(\d{4,}))?\.bp")


def archive_name(aggregator: int, session: int) -> str:
    """Name of an aggregator's archive of a session: a file that a kill may have torn is never appended to."""
    return f"agg-{aggregator:02d}.{session:04d}.bp" if session else f"agg-{aggregator:02d}.bp"


class Archive:
    """Writer of an archive; appends to an existing file.

    Parameters
    ----------
    path
        The BP5 directory.
    level
        ``full``: every column of the blocks; ``features``: those that leave the aggregator.
    settings
        Its XML file may name the IO ``Archive``.
    """

    def __init__(self, path: Path, level: Literal["full", "features"], settings: StreamsSection = FILE_SETTINGS):
        self.path = Path(path)
        self.n_frames = 0
        self._level = level
        self._declared = declare(KIND, replace(settings, engine="BP5", parameters={}))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StreamError(
                f"the archive {path} cannot be created: {error}; free the path or choose another output directory"
            ) from error
        self._engine = self._declared.open(self.path, Mode.Append)
        self._variables: dict[str, adios2.Variable] = {}
        # ADIOS2 ends each file by a profile, and kills the process at its exit if no room is left for that.
        self._profile = self.path / "profiling.json"
        with suppress(OSError):
            self._profile.unlink(missing_ok=True)
            self._profile.symlink_to(os.devnull)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()

    def append(self, block: FrameBlock) -> None:
        """Write one block as one step; it is in the file when this returns.

        Raises
        ------
        DiskError
            If the disk refuses; the steps before can be read.
        """
        try:
            with adios2_errors(f"to write to {self.path}"):
                self._engine.begin_step(StepMode.Append, 0.0)
                for field in FIELDS:
                    if field.name in block and (self._level == "full" or Hop.FEATURES in field.hops):
                        self._put(field.name, np.ascontiguousarray(block[field.name], field.dtype))
                self._engine.end_step()
        except StreamError as error:
            number = re.search(r"errno = (\d+)", str(error))
            if number is None:
                raise
            raise DiskError(f"{self.path} cannot be written: {os.strerror(int(number[1]))}") from error
        self.n_frames += len(block)

    def free(self) -> None:
        """Close the file; one that is not there any more is left to the end of the process."""
        if self._engine is None:
            return
        if self._profile.is_symlink():
            with adios2_errors(f"to close {self.path}"):
                self._engine.close()
            with suppress(OSError):
                self._profile.unlink()
        else:
            _left_open.append((self._declared, self._engine))
        self._engine = None

    def _put(self, name: str, column: np.ndarray) -> None:
        shape, origin = list(column.shape), [0] * column.ndim
        if name not in self._variables:
            self._variables[name] = self._declared.io.define_variable(name, column, shape, origin, shape)
            self._declared.io.define_attribute("unit", FIELD[name].unit or "1", name)
            self._declared.io.define_attribute("meaning", FIELD[name].meaning, name)
        variable = self._variables[name]
        variable.set_shape(shape)
        variable.set_selection([origin, shape])
        self._engine.put(variable, column, Mode.Sync)


def check_columns(forms: dict[str, tuple[str, tuple[int, ...]]], path: Path) -> None:
    """Refuse a step whose columns are not those of a block, or more than its files can hold.

    Parameters
    ----------
    forms
        The type, as ADIOS2 names it, and the shape of every column.

    Raises
    ------
    StreamError
    """

    def extent(name: str, axis: int) -> int:
        shape = forms.get(name, ("", ()))[1]
        return shape[axis] if axis < len(shape) else 0

    extents = Extents(
        extent("walker", 0),
        extent("positions", 1),
        extent("ca_positions", 1),
        extent("order_parameters", 1),
        extent("contact_columns", 0),
    )
    for field in FIELDS if forms else ():
        expected = TYPES[field.dtype], column_shape(field, extents)
        if forms.get(field.name, expected) != expected or (field.name not in forms and field.hops == BOTH):
            raise StreamError(
                f"{path} is not an archive of frames: its {field.name} is {forms.get(field.name)} and not {expected}"
            )
    nbytes = sum(prod(shape) * np.dtype(FIELD[name].dtype).itemsize for name, (_, shape) in forms.items())
    most = MAX_RATIO * sum(file.stat().st_size for file in path.iterdir())
    if nbytes > most:
        raise StreamError(f"{path} announces {nbytes} bytes in a step, which the file does not have")


class StoredBlock:
    """A block in an archive, whose columns are read when they are asked for.

    Raises
    ------
    StreamError
        If it is not one, or incomplete.
    """

    def __init__(self, io: adios2.IO, engine: adios2.Engine, path: Path):
        self._engine, self._path = engine, path
        self._variables = {f.name: v for f in FIELDS if (v := io.inquire_variable(f.name)) is not None}
        for name, former in FORMER_NAMES.items():
            if name not in self._variables and (variable := io.inquire_variable(former)) is not None:
                self._variables[name] = variable
        check_columns({name: (v.type(), tuple(v.shape())) for name, v in self._variables.items()}, path)

    def __contains__(self, name: str) -> bool:
        return name in self._variables

    def __len__(self) -> int:
        """Number of frames; 0 of the step by which ADIOS2 closes an archive without blocks."""
        return self._variables["walker"].shape()[0] if self._variables else 0

    def is_whole(self, step: Step) -> bool:
        """Whether all its columns are there."""
        return holds(self._path, step, [self._empty(name) for name in self._variables])

    def read(self, *names: str) -> dict[str, np.ndarray]:
        """Columns by name: these, or all."""
        columns = {name: self._empty(name) for name in names or self._variables}
        with adios2_errors(f"to read {self._path}"):
            for name, column in columns.items():
                self._engine.get(self._variables[name], column, Mode.Sync)
        return columns

    def _empty(self, name: str) -> np.ndarray:
        return np.empty(self._variables[name].shape(), FIELD[name].dtype)


def read_archive(path: Path) -> Iterator[FrameBlock]:
    """The blocks that an archive holds now, oldest first; it may still be growing, or have been cut off anywhere.

    Raises
    ------
    StreamError
        If there is no archive at `path`, or none that can be read, or it holds something else.
    """
    for stored in stored_blocks(path):
        block = FrameBlock(stored.read())
        block.check_contacts()
        yield block


def stored_blocks(path: Path) -> Iterator[StoredBlock]:
    """As :func:`read_archive`, of blocks that are read when their columns are asked for: each before the next one."""
    path = Path(path)
    if not path.exists():
        raise StreamError(f'there is no archive {path}; a run with [aggregation] archive = "full" writes one')
    steps = whole_steps(path)
    if not steps:
        return
    with cut_to(path, steps) as readable:
        declared = declare("archive-reader", READER_SETTINGS)
        engine = declared.open(readable, Mode.Read)
        try:
            for step in steps:
                with adios2_errors(f"to read {path}"):
                    if engine.begin_step(StepMode.Read, 0.0) != StepStatus.OK:
                        return
                    stored = StoredBlock(declared.io, engine, path)
                if not stored.is_whole(step):
                    return
                if len(stored):
                    yield stored
                with adios2_errors(f"to read {path}"):
                    engine.end_step()
        finally:
            with no_profile(path):
                engine.close()


COORDINATES = ("positions", "velocities", "box")


class Archived(NamedTuple):
    """A frame with its coordinates."""

    walker: int
    frame: int
    topology: int
    positions: np.ndarray  # nm, shape (n_atoms, 3), float32
    velocities: np.ndarray  # nm/ps
    box: np.ndarray  # nm, shape (3, 3)


def archives(run_directory: Path, session: int) -> list[Path]:
    """The archives of the sessions before this one, those of the newest first.

    Every aggregator finds the same ones, whether others have started the archives of this session or not.
    """
    found = [
        (int(m[1] or 0), path)
        for path in (run_directory / "frames").glob("agg-*.bp")
        if (m := _NAME.fullmatch(path.name)) and int(m[1] or 0) < session
    ]
    return [path for _, path in sorted(found, reverse=True)]


def count_frames(path: Path) -> Iterator[int]:
    """The number of frames of every block of an archive.

    Raises
    ------
    StreamError
        If it cannot be read any further.
    """
    return (len(block) for block in stored_blocks(path))


def find_frames(path: Path, wanted: Collection[tuple[int, int]]) -> Iterator[list[Archived]]:
    """Of every block of an archive those of the frames (walker, frame) in `wanted` whose coordinates it has.

    Raises
    ------
    StreamError
        If it cannot be read any further.
    """
    for block in stored_blocks(path):
        if "velocities" not in block:
            return
        walker, frame = (column.tolist() for column in block.read("walker", "frame").values())
        rows = [i for i, key in enumerate(zip(walker, frame, strict=True)) if key in wanted]
        columns = block.read("topology", *COORDINATES) if rows else {}
        yield [
            Archived(walker[i], frame[i], int(columns["topology"][i]), *(columns[name][i] for name in COORDINATES))
            for i in rows
        ]
