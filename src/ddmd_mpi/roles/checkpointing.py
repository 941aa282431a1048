"""Checkpoints of a run: every rank writes its own part, and the first aggregator names those that belong together."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..checkpoints import DIGEST_BYTES, Entry, Manifest, Part, part_name
from ..errors import CheckpointError
from ..totals import carried_by

if TYPE_CHECKING:
    from .context import Context

#: What a rank announces of its newest part.
ANNOUNCEMENT_DTYPE = np.dtype([("number", "<i8"), ("nbytes", "<i8"), ("sha256", "u1", (DIGEST_BYTES,))])
#: A checkpoint waits so long for a slow rank, whose part before then stands in for the one that is missing.
PATIENCE_SECONDS = 60.0


class Checkpoints:
    """This rank's parts: written when the first aggregator asks for a checkpoint, and at the end.

    Parameters
    ----------
    snapshot
        Gives what this rank knows.
    """

    def __init__(self, context: Context, snapshot: Callable[[], Part]):
        self.context, self._snapshot = context, snapshot
        self._number = context.facts.last_checkpoint

    def look(self) -> None:
        """Write a part if there is none yet of the newest checkpoint that was asked for."""
        if self.context.control.checkpoint > self._number:
            self.write(self.context.control.checkpoint)

    def last(self) -> None:
        """Write a part of what is known at the end."""
        self.write(max(self._number, self.context.control.checkpoint) + 1)

    def write(self, number: int) -> None:
        """Write a part and announce it; a disk that refuses it does not end the run."""
        context, self._number = self.context, number
        try:
            with context.events.span("checkpoint", number=number) as span:
                nbytes, digest = context.store.write_part(context.role, context.rank, number, self._snapshot())
                span["nbytes"] = nbytes
        except CheckpointError as error:
            context.log.error("%s", error)
            return
        announcement = np.array((number, nbytes, np.frombuffer(digest, np.uint8)), ANNOUNCEMENT_DTYPE)
        context.announcements.put(context.rank, announcement)


class Keeper:
    """The first aggregator's duty: ask for checkpoints, and complete them when all parts are there."""

    def __init__(self, context: Context):
        self.context = context
        self._number, self._asked = context.facts.last_checkpoint, 0.0  # 0: no checkpoint is under way
        self._due = time.monotonic() + context.config.run.checkpoint_interval

    def tick(self, records: np.ndarray) -> None:
        """Ask for a checkpoint when it is due; complete it when every rank has written its part, or is too slow."""
        now = time.monotonic()
        if self._asked:
            whole = all(e is not None and number >= self._number for number, e in self.announced())
            if whole or now - self._asked > PATIENCE_SECONDS:
                self._asked = 0.0
                self.complete(records)
        elif now >= self._due:
            self._due, self._asked = now + self.context.config.run.checkpoint_interval, now
            self._number += 1
            self.context.control.order(checkpoint=self._number)

    def complete(self, records: np.ndarray) -> None:
        """Name the newest part of every rank, if those hold all walkers."""
        context = self.context
        announced = [(number, entry) for number, entry in self.announced() if entry is not None]
        entries = tuple(entry for _, entry in announced)
        missing = context.layout.n_walkers - sum(len(e.walkers) for e in entries)
        if missing:
            context.log.warning("no checkpoint %d: nothing was heard of %d walkers", self._number, missing)
            return
        self._number = max(self._number, *(number for number, _ in announced))
        try:
            context.store.write_manifest(manifest_of(context, self._number, records, entries))
            context.log.info("checkpoint %d is complete", self._number)
        except CheckpointError as error:
            context.log.error("%s", error)

    def announced(self) -> list[tuple[int, Entry | None]]:
        """Of every rank the number and the entry of its newest part, None before its first one."""
        layout, found = self.context.layout, []
        for rank, role in enumerate(layout.roles):
            sequence, said = self.context.announcements.get(rank)
            number = int(said["number"])
            walkers = tuple(layout.walkers(rank)) if role == "simulation" else ()
            found.append((number, Entry(part_name(role, rank, number), role, rank, int(said["nbytes"]),
                                        said["sha256"].tobytes().hex(), walkers) if sequence else None))
        return found


def manifest_of(context: Context, number: int, records: np.ndarray, entries: tuple[Entry, ...]) -> Manifest:
    """What completes a checkpoint, by the newest status records of all ranks."""
    facts = context.facts
    carried = carried_by(records, context.layout.seats, facts.resumed and facts.resumed.carried)
    return Manifest(number, facts.session, facts.about, carried, facts.elapsed_s + time.time() - facts.started, entries)
