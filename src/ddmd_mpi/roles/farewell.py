"""The last checkpoint of a run that has lost a rank it cannot do without.

Whoever is left writes its part; one rank names the newest part of every rank, of the lost one an older one. All of it
goes by files: nothing is known any more of what MPI can still do.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from typing import TYPE_CHECKING

from ..checkpoints import Entry, Manifest, Store, part_name
from ..errors import CheckpointError
from .checkpointing import carried_on, entry_of, manifest_of
from .observer import no_records, read_records

if TYPE_CHECKING:
    from .context import Context

#: Ranks that are left are given so long to write their parts.
PARTS_SECONDS = 10.0
LOOK_SECONDS = 0.05
_PART = re.compile(r"([a-z]+)-(\d{4,})-(\d{6,})\.npz")


def leave_checkpoint(context: Context) -> None:
    """Write my part; if I speak for all, complete the checkpoint."""
    if context.checkpoints is None:  # My work had not begun.
        return
    number = context.checkpoints.leave_behind()
    if context.vigil.speaks:
        await_parts(context, number)
        complete(context)


def await_parts(context: Context, number: int) -> None:
    """Wait until all ranks that are left have written their parts of checkpoint `number`, not for long."""
    deadline = time.monotonic() + PARTS_SECONDS
    while time.monotonic() < deadline:
        newest = newest_parts(context.store, context.facts.last_checkpoint)
        if all(newest.get((context.layout.roles[rank], rank), 0) >= number for rank in context.vigil.left):
            return
        time.sleep(LOOK_SECONDS)


def complete(context: Context) -> None:
    """Name the newest part of every rank, if those hold all walkers."""
    newest = newest_parts(context.store, context.facts.last_checkpoint)
    try:
        entries = tuple(entry(context, role, rank, number) for (role, rank), number in sorted(newest.items()))
        missing = context.layout.n_walkers - sum(len(e.walkers) for e in entries)
        if missing:
            context.log.warning("no last checkpoint: nothing was heard of %d walkers", missing)
            return
        context.store.write_manifest(manifest(context, max(newest.values()), entries))
    except (OSError, CheckpointError) as error:
        context.log.error("no last checkpoint: %s", error)


def manifest(context: Context, number: int, entries: tuple[Entry, ...]) -> Manifest:
    """What completes the checkpoint; where the first aggregator is lost, with the sums of the one before it."""
    n_seats = len(context.layout.seats)
    written = [n for n in context.store.numbers() if n > context.facts.last_checkpoint]
    if context.leads:
        carried = carried_on(context, read_records(context.board, n_seats))
    elif written:
        carried = context.store.read_manifest(written[-1]).carried
    else:
        carried = carried_on(context, no_records(n_seats))
    return manifest_of(context, number, carried, entries)


def newest_parts(store: Store, after: int) -> dict[tuple[str, int], int]:
    """The highest number above `after` of the parts of every rank that has written any: by role and rank."""
    found: dict[tuple[str, int], int] = {}
    for part in filter(None, map(_PART.fullmatch, os.listdir(store.directory))):
        who, number = (part[1], int(part[2])), int(part[3])
        if number > max(after, found.get(who, 0)):
            found[who] = number
    return found


def entry(context: Context, role: str, rank: int, number: int) -> Entry:
    """A part as the manifest names it."""
    content = (context.store.directory / part_name(role, rank, number)).read_bytes()
    return entry_of(context, role, rank, number, len(content), hashlib.sha256(content).hexdigest())
