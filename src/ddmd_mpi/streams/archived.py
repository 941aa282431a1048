"""Frames of earlier sessions, by their archives: how many there are, and the coordinates of some of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from adios2.bindings import Mode, StepMode, StepStatus

from ..frames import FIELD
from ..sections import StreamsSection
from .engines import adios2_errors, declare

#: Nobody writes to these archives any more, so there is nothing to wait for.
SETTINGS = StreamsSection(engine="BP5", parameters={"OpenTimeoutSecs": "0"})
NAMES = ("topology", "positions", "velocities", "box")
_NAME = re.compile(r"agg-\d{2,}(?:\.(\d{4,}))?\.bp")


class Archived(NamedTuple):
    """A frame with its coordinates."""

    simulation: int
    frame: int
    topology: int
    positions: np.ndarray  # nm, shape (n_atoms, 3), float32
    velocities: np.ndarray  # nm/ps
    box: np.ndarray  # nm, shape (3, 3)


def archives(run_directory: Path) -> list[Path]:
    """The archives of a run, those of the newest session first."""
    found = [(int(m[1] or 0), path) for path in (run_directory / "frames").glob("agg-*.bp")
             if (m := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def count_frames(path: Path) -> Iterator[int]:
    """The number of frames of every block of an archive.

    Raises
    ------
    StreamError
        If it cannot be read any further.
    """
    with adios2_errors(f"to read {path}"):
        for io, _ in _steps(path):
            yield io.inquire_variable("simulation").shape()[0]


def find_frames(path: Path, wanted: Collection[tuple[int, int]]) -> Iterator[Archived]:
    """Those of the frames (walker, frame) in `wanted` of which an archive has the coordinates.

    Raises
    ------
    StreamError
        If it cannot be read any further.
    """
    with adios2_errors(f"to read {path}"):
        for io, engine in _steps(path):
            if io.inquire_variable("velocities") is None:
                return
            simulation, frame = _read(io, engine, "simulation"), _read(io, engine, "frame")
            rows = [i for i, key in enumerate(zip(simulation.tolist(), frame.tolist(), strict=True)) if key in wanted]
            columns = [_read(io, engine, name) for name in NAMES] if rows else []
            for i in rows:
                topology, *coordinates = (column[i] for column in columns)
                yield Archived(int(simulation[i]), int(frame[i]), int(topology), *coordinates)


def _steps(path: Path) -> Iterator[tuple[Any, Any]]:
    """The IO and the engine at every step of an archive that is a block: one without blocks has an empty step."""
    declared = declare("archive-reader", SETTINGS)
    engine = declared.open(path, Mode.Read)
    try:
        while engine.begin_step(StepMode.Read, 0.0) == StepStatus.OK:
            if declared.io.inquire_variable("simulation") is not None:
                yield declared.io, engine
            engine.end_step()
    finally:
        engine.close()


def _read(io: Any, engine: Any, name: str) -> np.ndarray:
    """A column of the present step."""
    variable = io.inquire_variable(name)
    if variable is None:
        raise ValueError(f"it has no {name}")
    column = np.empty(variable.shape(), FIELD[name].dtype)
    engine.get(variable, column, Mode.Sync)
    return column
