"""Checkpoints of file mode: written where all ranks meet, after an iteration and at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..roles.checkpoint import carried_on, complete, entry_of
from ..rundir.checkpoints import Part
from ..rundir.manifest import Entry

if TYPE_CHECKING:
    from ..roles.context import Context


class StageCheckpoints:
    """One rank's part in them.

    Parameters
    ----------
    snapshots
        By role, what gives the part of each stage that this rank plays.
    """

    def __init__(self, context: Context, snapshots: Mapping[str, Callable[[], Part]]):
        self.context, self._snapshots = context, snapshots
        self._number = context.info.last_checkpoint
        self._next = time.monotonic() + context.config.run.checkpoint_interval

    @property
    def due(self) -> bool:
        """Whether it is time for one."""
        return time.monotonic() >= self._next

    def write(self) -> list[Entry]:
        """Write my parts of the next checkpoint.

        Raises
        ------
        DiskError
            If the disk refuses.
        """
        context, entries = self.context, []
        self._number += 1
        self._next = time.monotonic() + context.config.run.checkpoint_interval
        for role, snapshot in self._snapshots.items():
            with context.events.span("checkpoint", number=self._number, part=role) as span:
                nbytes, digest = context.store.write_part(role, context.rank, self._number, snapshot())
                span["nbytes"] = nbytes
            entries.append(entry_of(context, role, context.rank, self._number, nbytes, digest.hex()))
        return entries

    def complete(self, entries: Iterable[Entry], records: np.ndarray) -> None:
        """Name the parts of all ranks: the first rank's duty.

        Raises
        ------
        DiskError
            If the disk refuses.
        """
        complete(self.context, self._number, carried_on(self.context, records), tuple(entries))
