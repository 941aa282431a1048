"""Restart points as files: what inference has decided after an iteration, for the start of the next one.

DIR/restarts/iteration-0004.h5    the commands to the walkers at the start of iteration 4, and their coordinates
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ..frames.block import FIELD
from ..frames.command import COMMAND_DTYPE, Outcome, Receipt, RestartCommand, from_record, to_record
from ..roles.restart_points import Coordinates
from . import hdf5
from .segments import COORDINATES

#: A command and the walker that it is for.
ORDER_DTYPE = np.dtype([("walker", "<i4"), ("command", COMMAND_DTYPE)])
#: The same of version 0.2 and before.
FORMER_DTYPE = np.dtype(
    [
        ("walker", "<i4"),
        (
            "command",
            [(n.replace("source_walker", "source_simulation"), COMMAND_DTYPE[n]) for n in RestartCommand._fields],
        ),
    ]
)
MEANING = (
    "who restarts from which frame: it is row ring_slot of "
    "segments/iteration-<slot_generation>/sim-<source_walker>.h5; velocity_seed -1: with its velocities; decided "
    "is Unix time in s"
)


class Order(NamedTuple):
    """A walker, the command that it gets, and the commanded frame: positions, velocities, box (nm, nm/ps)."""

    walker: int
    command: RestartCommand
    coordinates: Coordinates


@dataclass(frozen=True)
class Restarts:
    """The restart files of one run.

    Parameters
    ----------
    directory
        The run directory.
    system
        Name of the system.
    """

    directory: Path
    system: str

    def path(self, iteration: int) -> Path:
        """The file that is read at the start of `iteration`."""
        return self.directory / "restarts" / f"iteration-{iteration:04d}.h5"

    def write(self, iteration: int, orders: Sequence[Order]) -> int:
        """Write the orders for the start of `iteration`, one or more; returns the bytes of the file.

        Raises
        ------
        DiskError
            If the disk refuses.
        """

        def fill(file: h5py.File) -> None:
            records = np.empty(len(orders), ORDER_DTYPE)
            for record, order in zip(records, orders, strict=True):
                record["walker"], record["command"] = order.walker, to_record(order.command)
            file.create_dataset("orders", data=records).attrs["meaning"] = MEANING
            file.create_dataset("atoms", data=[len(o.coordinates[0]) for o in orders]).attrs["meaning"] = (
                "atoms of the frame: the rows of positions and velocities that count"
            )
            for name, arrays in zip(COORDINATES, zip(*(o.coordinates for o in orders), strict=True), strict=True):
                hdf5.describe(file.create_dataset(name, data=_padded(arrays)), FIELD[name])

        return hdf5.write(self.path(iteration), self._identity(iteration), fill)

    def read(self, iteration: int, walkers: Iterable[int]) -> dict[int, Order]:
        """The orders to these walkers at the start of `iteration`, by walker.

        Raises
        ------
        StreamError
            If the file is missing, incomplete, or not what was written.
        """
        with hdf5.reading(self.path(iteration), self._identity(iteration)) as file:
            records, atoms = (hdf5.column(file, name)[:] for name in ("orders", "atoms"))
            positions, velocities, box = (hdf5.column(file, name) for name in COORDINATES)
            n = len(records)
            if records.dtype == FORMER_DTYPE:
                records = records.view(ORDER_DTYPE)
            if records.dtype != ORDER_DTYPE or not positions.shape == velocities.shape == (n, max(atoms, default=0), 3):
                raise ValueError("its orders and its coordinates do not match")
            return {
                walker: Order(
                    walker,
                    from_record(RestartCommand, records["command"][i]),
                    (positions[i, : atoms[i]], velocities[i, : atoms[i]], box[i]),
                )
                for walker in walkers
                for i in np.flatnonzero(records["walker"] == walker)
            }

    def forget(self, after: int) -> None:
        """Delete the files for iterations after `after`: what they order was never applied."""
        for path in (self.directory / "restarts").glob("iteration-*.h5"):
            if int(path.stem.removeprefix("iteration-")) > after:
                path.unlink()

    def _identity(self, iteration: int) -> dict[str, Any]:
        return {"kind": "restarts", "system": self.system, "iteration": iteration}


def _padded(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of shapes (n, 3) as one, filled up with NaN."""
    stacked = np.full((len(arrays), max(map(len, arrays)), 3), np.nan, np.float32)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


class InMemoryMailboxes:
    """In the place of the mailboxes: commands wait here to be written, receipts to be read."""

    def __init__(self) -> None:
        self.commands: dict[int, RestartCommand] = {}
        self._receipts: dict[int, Receipt] = {}

    def send(self, walker: int, command: RestartCommand) -> None:
        """Command a walker."""
        self.commands[walker] = command

    def receipts(self, walker: int) -> list[Receipt]:
        """The receipt of a walker that was not yet read."""
        return [self._receipts.pop(walker)] if walker in self._receipts else []

    def answer(self, walker: int, receipt: Receipt) -> None:
        """Take the receipt of a walker."""
        self._receipts[walker] = receipt
        self.commands.pop(walker, None)

    def refuse(self, walker: int, outcome: Outcome) -> None:
        """Answer in the place of a walker that never saw its command."""
        if walker in self.commands:
            self.answer(walker, Receipt(self.commands[walker].decision, outcome, -1, time.time(), 0.0))
