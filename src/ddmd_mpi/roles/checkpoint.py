"""Checkpoints of a run: every rank writes its own part, and the first aggregator names those that belong together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..monitor.status import State
from ..monitor.summary import carried_by
from ..rundir.checkpoints import DIGEST_BYTES, Part, part_name
from ..rundir.manifest import Entry, Manifest

if TYPE_CHECKING:
    from .context import Context, StreamContext

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

    def __init__(self, context: StreamContext, snapshot: Callable[[], Part]):
        self.context, self._snapshot = context, snapshot
        self._number, self._over = context.info.last_checkpoint, False

    def look(self) -> None:
        """Write a part if there is none yet of the newest checkpoint that was asked for."""
        if self.context.control.checkpoint > self._number:
            self.write(self.context.control.checkpoint)

    def last(self) -> None:
        """Write a part of what is known at the end."""
        self.write(self.next_number)
        self._over = True

    @property
    def next_number(self) -> int:
        """Above those of all checkpoints that I know of."""
        return max(self._number, self.context.control.checkpoint) + 1

    def write(self, number: int) -> None:
        """Write a part and announce it; where the disk refuses it, the run ends and the part before stays."""
        with self.context.heartbeat.expect_silence("checkpoint", on_disk=True):
            written = self._save(number)
        if written is not None:
            nbytes, digest = written
            announcement = np.array((number, nbytes, np.frombuffer(digest, np.uint8)), ANNOUNCEMENT_DTYPE)
            self.context.plane.announcements.put(self.context.rank, announcement)

    def leave_behind(self) -> int:
        """Write a part, without MPI, unless I have come to my end before; its number."""
        if not self._over:
            self._over = True
            self._save(self.next_number)
        return self._number

    def _save(self, number: int) -> tuple[int, bytes] | None:
        """Write a part; its size and its checksum."""
        context, self._number = self.context, number
        with context.stop_on_disk_error():
            with context.events.span("checkpoint", number=number) as span:
                span["nbytes"], digest = context.store.write_part(context.role, context.rank, number, self._snapshot())
            return span["nbytes"], digest
        return None


class CheckpointCoordinator:
    """The first aggregator's duty: ask for checkpoints, and complete them when all parts are there."""

    def __init__(self, context: StreamContext):
        self.context = context
        self._number, self._asked = context.info.last_checkpoint, 0.0  # 0: no checkpoint is under way
        self._due, self._begun = time.monotonic() + context.config.run.checkpoint_interval, False

    def tick(self, records: np.ndarray) -> None:
        """Ask for a checkpoint when it is due; complete it when every rank has written its part, or is too slow.

        The first is due when all are at work, so that every rank has a part that can stand in for a lost one.
        """
        now = time.monotonic()
        left = [r for r in range(len(records)) if r not in self.context.detector.lost]
        if not self._begun and (records["state"] >= State.RUNNING)[left].all():
            self._begun, self._due = True, now
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
        self._number = max((self._number, *(number for number, _ in announced)))
        with context.stop_on_disk_error():
            complete(context, self._number, carried_on(context, records), [entry for _, entry in announced])

    def announced(self) -> list[tuple[int, Entry | None]]:
        """Of every rank the number and the entry of its newest part, None before its first one."""
        context = self.context
        found: list[tuple[int, Entry | None]] = []
        for rank, role in enumerate(context.layout.roles):
            sequence, said = context.plane.announcements.get(rank)
            number = int(said["number"])
            found.append(
                (
                    number,
                    entry_of(context, role, rank, number, int(said["nbytes"]), said["sha256"].tobytes().hex())
                    if sequence
                    else None,
                )
            )
        return found


def entry_of(context: Context, role: str, rank: int, number: int, nbytes: int, sha256: str) -> Entry:
    """A part as a manifest names it."""
    walkers = tuple(context.layout.walkers(rank)) if role == "simulation" else ()
    return Entry(part_name(role, rank, number), role, rank, nbytes, sha256, walkers)


def carried_on(context: Context, records: np.ndarray) -> dict[str, dict[str, Any]]:
    """The sums over all sessions, by the newest status record of every slot."""
    return carried_by(records, context.layout.status_slots, context.info.carried)


def complete(context: Context, number: int, carried: dict[str, dict[str, Any]], entries: Sequence[Entry]) -> None:
    """Name these parts as a checkpoint of this session, if they hold all walkers.

    Raises
    ------
    DiskError
        If the disk refuses.
    """
    info, missing = context.info, context.layout.n_walkers - sum(len(e.walkers) for e in entries)
    if missing:
        context.log.warning("no checkpoint %d: no part arrived for %d walkers", number, missing)
        return
    elapsed_s = info.elapsed_s + time.time() - info.started
    context.store.write_manifest(Manifest(number, info.session, info.about, carried, elapsed_s, tuple(entries)))
    context.log.info("checkpoint %d is complete", number)
