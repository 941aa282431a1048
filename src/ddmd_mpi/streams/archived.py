"""Frames of earlier sessions, by their archives: how many there are, and the coordinates of some of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .archive import stored_blocks

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
        simulation, frame = (column.tolist() for column in block.read("simulation", "frame").values())
        rows = [i for i, key in enumerate(zip(simulation, frame, strict=True)) if key in wanted]
        topology, *coordinates = block.read("topology", "positions", "velocities", "box").values() if rows else ([],)
        yield [Archived(simulation[i], frame[i], int(topology[i]), *(column[i] for column in coordinates))
               for i in rows]
