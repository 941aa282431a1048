"""The archive of an aggregator: its blocks of frames as a BP5 file, one step a block, one variable a column.

Any ADIOS2 tool reads it (``bpls -la DIR/frames/agg-00.bp``); units and meanings are attributes of the variables.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from adios2.bindings import Mode, StepMode, StepStatus

from ..errors import StreamError
from ..frames import FIELD, FIELDS, FrameBlock, Hop
from ..sections import StreamsSection
from .engines import adios2_errors, declare

KIND = "Archive"
FILE_SETTINGS = StreamsSection(engine="BP5")


def archive_name(aggregator: int, session: int) -> str:
    """Name of an aggregator's archive of a session: a file that a kill may have torn is never gone on with."""
    return f"agg-{aggregator:02d}.{session:04d}.bp" if session else f"agg-{aggregator:02d}.bp"


class Archive:
    """Writer of an archive; goes on with a file that exists.

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
        self._declared = declare(KIND, settings.model_copy(update={"engine": "BP5", "parameters": {}}))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StreamError(
                f"the archive {path} cannot be created: {error}; free the path or choose another output directory"
            ) from error
        self._engine = self._declared.open(self.path, Mode.Append)
        self._variables = {}

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()

    def append(self, block: FrameBlock) -> None:
        """Write one block as one step; it is in the file when this returns."""
        with adios2_errors(f"to write to {self.path}"):
            self._engine.begin_step(StepMode.Append, 0.0)
            for field in FIELDS:
                if field.name in block and (self._level == "full" or Hop.FEATURES in field.hops):
                    self._put(field.name, np.ascontiguousarray(block[field.name], field.dtype))
            self._engine.end_step()
        self.n_frames += len(block)

    def free(self) -> None:
        """Close the file."""
        if self._engine is not None:
            with adios2_errors(f"to close {self.path}"):
                self._engine.close()
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


def read_archive(path: Path) -> Iterator[FrameBlock]:
    """The blocks that an archive holds now, oldest first; it may still be growing.

    Raises
    ------
    StreamError
        If there is no archive at `path`.
    """
    if not Path(path).exists():
        raise StreamError(f"there is no archive {path}; a run with [aggregation] archive = \"full\" writes one")
    declared = declare("archive-reader", FILE_SETTINGS)
    engine = declared.open(Path(path), Mode.Read)
    try:
        while engine.begin_step(StepMode.Read, 0.0) == StepStatus.OK:
            variables = {f.name: declared.io.inquire_variable(f.name) for f in FIELDS}
            columns = {
                name: np.empty(variable.shape(), FIELD[name].dtype)
                for name, variable in variables.items()
                if variable is not None
            }
            for name, column in columns.items():
                engine.get(variables[name], column)
            engine.end_step()
            if columns:  # none in a step that a kill has cut off, or of an archive closed without a block
                yield FrameBlock(columns)
    finally:
        engine.close()
