"""The segment files of file mode: the frames of one walker in one iteration, and files that show those of all walkers.

DIR/segments/iteration-0003/sim-0007.h5    one dataset per column of the table of frames
DIR/aggregated/iteration-0003.h5           the same datasets over all walkers: HDF5 virtual datasets, no copies
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ..errors import StreamError
from ..frames.block import FIELD, FIELDS, FORMER_NAMES, Extents, Field, FrameBlock, Hop, column_shape
from ..roles.restart_points import Coordinates
from . import hdf5

COLUMNS = tuple(f for f in FIELDS if Hop.COORDINATES in f.hops)
#: What is passed on to training and inference.
FEATURES = tuple(f for f in COLUMNS if Hop.FEATURES in f.hops)
COORDINATES = ("positions", "velocities", "box")


class Stored(NamedTuple):
    """A column in a file: what the file calls it, and its shape."""

    name: str
    shape: tuple[int, ...]


Shapes = dict[str, Stored]
#: Shown in place of a frame whose file is gone: no walker has this index.
GONE = -1


@dataclass(frozen=True)
class Segments:
    """The segment files of one run.

    Parameters
    ----------
    directory
        The run directory.
    system
        Name of the system.
    n_residues
        Descriptor atoms of a frame.
    order_parameters
        Names of the declared order parameters.
    """

    directory: Path
    system: str
    n_residues: int
    order_parameters: tuple[str, ...]

    def path(self, iteration: int, walker: int) -> Path:
        """The file of one walker in one iteration."""
        return self.directory / "segments" / f"iteration-{iteration:04d}" / f"sim-{walker:04d}.h5"

    def aggregated(self, iteration: int) -> Path:
        """The file that shows all walkers of an iteration."""
        return self.directory / "aggregated" / f"iteration-{iteration:04d}.h5"

    def found(self) -> dict[int, tuple[int, ...]]:
        """The walkers that have a file, by iteration."""
        walkers: dict[int, list[int]] = {}
        for path in sorted((self.directory / "segments").glob("iteration-*/sim-*.h5")):
            iteration = int(path.parent.name.removeprefix("iteration-"))
            walkers.setdefault(iteration, []).append(int(path.stem.removeprefix("sim-")))
        return {iteration: tuple(sorted(walkers[iteration])) for iteration in sorted(walkers)}

    def write(self, iteration: int, walker: int, block: FrameBlock, about: Mapping[str, Any]) -> int:
        """Write the frames of a walker, with their coordinates; returns the bytes of the file.

        Parameters
        ----------
        about
            Where they come from, as attributes of the file.
        """

        def fill(file: h5py.File) -> None:
            file.attrs.update(about)
            for field in COLUMNS:
                hdf5.describe(file.create_dataset(field.name, data=block[field.name].astype(field.dtype)), field)
            file["order_parameters"].attrs["names"] = list(self.order_parameters)

        return hdf5.write(self.path(iteration, walker), self._identity(iteration, walker), fill)

    def read(self, iteration: int, walker: int) -> FrameBlock:
        """The features of one file's frames; each frame's slot is its row, its generation the iteration.

        Raises
        ------
        StreamError
            If the file is missing, incomplete, or not what was written.
        """
        path = self.path(iteration, walker)
        with hdf5.reading(path, self._identity(iteration, walker)) as file:
            columns = self._columns(file, path)
            n_frames = len(columns["walker"])
            block = _features(columns, iteration, np.arange(n_frames), 0, n_frames)
        if (block["walker"] != walker).any():
            raise StreamError(f"{path} is not the expected file: it holds frames of other walkers than {walker}")
        return block

    def read_aggregated(self, iteration: int, share: int = 0, n_shares: int = 1) -> FrameBlock:
        """As :meth:`read`, of all walkers by their common file: one of `n_shares` equal shares of its frames.

        Raises
        ------
        StreamError
            If that file, or one that it refers to, is missing, incomplete, or not what was written.
        """
        path = self.aggregated(iteration)
        with hdf5.reading(path, self._identity(iteration)) as file:
            columns = self._columns(file, path)
            rows = _rows(file.attrs["frames"], len(columns["walker"]))
            start, stop = (len(rows) * (share + k) // n_shares for k in (0, 1))
            block = _features(columns, iteration, rows, start, stop)
        if (block["walker"] == GONE).any():
            raise StreamError(f"{path} refers to a file that no longer exists")
        return block

    def coordinates(self, iteration: int, walker: int, row: int) -> Coordinates:
        """Positions, velocities and box of one frame, nm and nm/ps.

        Raises
        ------
        StreamError
            As :meth:`read`.
        """
        with hdf5.reading(self.path(iteration, walker), self._identity(iteration, walker)) as file:
            return file["positions"][row], file["velocities"][row], file["box"][row]

    def shapes(self, iteration: int, walker: int) -> Shapes:
        """Name and shape of every column of a walker's file.

        Raises
        ------
        StreamError
            As :meth:`read`.
        """
        path = self.path(iteration, walker)
        with hdf5.reading(path, self._identity(iteration, walker)) as file:
            return {name: Stored(data.name.lstrip("/"), data.shape) for name, data in self._columns(file, path).items()}

    def aggregate(self, iteration: int, shapes: Mapping[int, Shapes]) -> int:
        """Write the file that shows the frames of these walkers, one after the other; returns its bytes.

        If walkers have different atoms, positions and velocities are in the walkers' files only.

        Raises
        ------
        DiskError
            If the disk refuses.
        """
        path, sources = self.aggregated(iteration), self._sources(iteration, shapes)

        def fill(file: h5py.File) -> None:
            file.attrs["walkers"] = list(shapes)
            file.attrs["frames"] = [columns["walker"].shape[0] for columns in shapes.values()]
            n_atoms = {columns["positions"].shape[1] for columns in shapes.values()}
            for field in COLUMNS if len(n_atoms) == 1 else (f for f in COLUMNS if "atoms" not in f.shape):
                layout = _joined(sources, field, [columns[field.name] for columns in shapes.values()])
                missing = GONE if field.name == "walker" else None
                hdf5.describe(file.create_virtual_dataset(field.name, layout, fillvalue=missing), field)
            file["order_parameters"].attrs["names"] = list(self.order_parameters)

        return hdf5.write(path, self._identity(iteration), fill)

    def _sources(self, iteration: int, walkers: Iterable[int]) -> list[str]:
        """The files of these walkers as the file that shows them all names them."""
        directory = self.aggregated(iteration).parent
        return [os.path.relpath(self.path(iteration, walker), directory) for walker in walkers]

    def _identity(self, iteration: int, walker: int | None = None) -> dict[str, Any]:
        """What marks a walker's file, or without a walker the one that shows all."""
        what = {"kind": "aggregated"} if walker is None else {"kind": "segment", "walker": walker}
        return {**what, "system": self.system, "iteration": iteration}

    def _columns(self, file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
        """The datasets of a file, all of which fit each other and the system."""
        shows_all = file.attrs["kind"] == hdf5.fixed("aggregated")
        fields = [f for f in COLUMNS if f.name in file or not (shows_all and "atoms" in f.shape)]
        named = {f.name: f.name if f.name in file else FORMER_NAMES.get(f.name, f.name) for f in fields}
        shown = self._sources(int(file.attrs["iteration"]), file.attrs["walkers"].tolist()) if shows_all else ()
        columns = {field.name: hdf5.column(file, named[field.name], shown) for field in fields}
        shapes = {name: dataset.shape for name, dataset in columns.items()}
        n_atoms = shapes["positions"][1] if "positions" in shapes else 0
        extents = Extents(
            shapes["walker"][0], n_atoms, self.n_residues, len(self.order_parameters), shapes["contact_columns"][0]
        )
        for field in fields:
            shape, dtype = column_shape(field, extents), columns[field.name].dtype
            if shapes[field.name] != shape or dtype != field.dtype:
                found = f"{dtype} {shapes[field.name]}"
                raise StreamError(
                    f"{path} is not the expected file: its {field.name} is {found} and not {field.dtype} {shape}"
                )
        return columns


def _rows(n_frames: np.ndarray, n_rows: int) -> np.ndarray:
    """Which row of its own file each frame of several files is, shape (n_rows,)."""
    if (n_frames < 0).any() or sum(n_frames.tolist()) != n_rows:
        raise ValueError(f"its attribute frames does not add up to {n_rows}")
    return np.concatenate([np.arange(n) for n in n_frames])


def _features(
    columns: Mapping[str, h5py.Dataset], iteration: int, rows: np.ndarray, start: int, stop: int
) -> FrameBlock:
    """The features of frames `start` to `stop` of a file, which are rows `rows` of their own files."""
    counts = columns["contact_counts"][:stop].sum(axis=1, dtype=np.int64)
    first, last = int(counts[:start].sum()), int(counts.sum())
    if last > len(columns["contact_columns"]):
        raise ValueError(f"{last} contacts are counted, and {len(columns['contact_columns'])} are there")
    picked = {f.name: columns[f.name][start:stop] for f in FEATURES if "contacts" not in f.shape}
    n = stop - start
    block = FrameBlock({**picked, "contact_columns": columns["contact_columns"][first:last]})
    block.check_contacts()
    return block.on(
        Hop.FEATURES,
        aggregator=np.full(n, -1, FIELD["aggregator"].dtype),
        ring_slot=rows[start:stop].astype(FIELD["ring_slot"].dtype),
        slot_generation=np.full(n, iteration, FIELD["slot_generation"].dtype),
    )


def _joined(sources: Sequence[str], field: Field, columns: Sequence[Stored]) -> h5py.VirtualLayout:
    """Datasets of several files, concatenated."""
    stops = np.cumsum([0, *(shape[0] for _, shape in columns)])
    layout = h5py.VirtualLayout((int(stops[-1]), *columns[0].shape[1:]), field.dtype)
    for source, (name, shape), start in zip(sources, columns, stops[:-1], strict=True):
        if shape[0]:
            layout[start : start + shape[0]] = h5py.VirtualSource(source, name, shape, field.dtype)
    return layout


def choose_iterations(known: Sequence[int], newest: int, older: int, generator: np.random.Generator) -> list[int]:
    """The `newest` of the iterations `known`, and `older` random ones of those before them, ascending."""
    ordered = sorted(known)
    old = ordered[:-newest]
    return sorted([*generator.choice(old, min(older, len(old)), replace=False).tolist(), *ordered[-newest:]])
