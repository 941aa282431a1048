"""The last checkpoint of a run that has lost a rank it cannot do without.

Whoever is left writes its part; one rank names the newest part of every rank, of the lost one an older one. All of it
goes by files: nothing is known any more of what MPI can still do.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

from ..checkpoints import Entry, Store, part_name
from ..errors import CheckpointError
from .checkpointing import carried_on, complete, entry_of
from .observer import no_records, read_records

if TYPE_CHECKING:
    from .context import Context

#: Ranks that are left are given so long to write their parts.
PARTS_SECONDS = 10.0
LOOK_SECONDS = 0.05


def leave_checkpoint(context: Context) -> None:
    """Write my part; if I speak for all, complete the checkpoint."""
    if context.checkpoints is None:  # My work had not begun.
        return
    number = context.checkpoints.leave_behind()
    if context.vigil.speaks:
        await_parts(context, number)
        name_parts(context)


def await_parts(context: Context, number: int) -> None:
    """Wait until all ranks that are left have written their parts of checkpoint `number`, not for long."""
    deadline = time.monotonic() + PARTS_SECONDS
    while time.monotonic() < deadline:
        newest = newest_parts(context.store, context.facts.last_checkpoint)
        if all(newest.get((context.layout.roles[rank], rank), 0) >= number for rank in context.vigil.left):
            return
        time.sleep(LOOK_SECONDS)


def name_parts(context: Context) -> None:
    """Name the newest part of every rank, if those hold all walkers."""
    newest = newest_parts(context.store, context.facts.last_checkpoint)
    try:
        entries = [entry(context, role, rank, number) for (role, rank), number in sorted(newest.items())]
        complete(context, max(newest.values(), default=0), carried(context), entries)
    except (OSError, CheckpointError) as error:
        context.log.error("no last checkpoint: %s", error)


def carried(context: Context) -> dict[str, dict[str, Any]]:
    """The sums over all sessions; where the first aggregator is lost, those of the checkpoint before."""
    n_seats = len(context.layout.seats)
    written = [n for n in context.store.numbers() if n > context.facts.last_checkpoint]
    if context.leads:
        return carried_on(context, read_records(context.board, n_seats))
    if written:
        return context.store.read_manifest(written[-1]).carried
    return carried_on(context, no_records(n_seats))


def newest_parts(store: Store, after: int) -> dict[tuple[str, int], int]:
    """The highest number above `after` of the parts of every rank that has written any: by role and rank."""
    found: dict[tuple[str, int], int] = {}
    for *who, number in store.parts():
        if number > max(after, found.get(tuple(who), 0)):
            found[tuple(who)] = number
    return found


def entry(context: Context, role: str, rank: int, number: int) -> Entry:
    """A part as the manifest names it."""
    content = (context.store.directory / part_name(role, rank, number)).read_bytes()
    return entry_of(context, role, rank, number, len(content), hashlib.sha256(content).hexdigest())
