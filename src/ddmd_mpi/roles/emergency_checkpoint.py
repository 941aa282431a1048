"""The last checkpoint of a run that has lost an essential rank.

Each surviving rank writes its part; one rank names the newest part of every rank, for the lost one an older one. All
of it goes by files: nothing is known any more of what MPI can still do.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

from ..clock import monotonic
from ..errors import CheckpointError
from ..monitor.status import no_records, read_records
from ..rundir.checkpoints import Store, part_name
from ..rundir.manifest import Entry
from .checkpoint import carried_on, complete, entry_of

if TYPE_CHECKING:
    from .checkpoint import Checkpoints
    from .context import StreamContext

#: Ranks that are left are given so long to write their parts.
PARTS_SECONDS = 10.0
LOOK_SECONDS = 0.05


def write_emergency_checkpoint(context: StreamContext, checkpoints: Checkpoints | None) -> None:
    """Write my part; if I speak for all, complete the checkpoint. None: my work had not started."""
    if checkpoints is None:
        return
    number = checkpoints.leave_behind()
    if context.detector.speaks:
        await_parts(context, number)
        name_parts(context)


def await_parts(context: StreamContext, number: int) -> None:
    """Wait until all ranks that are left have written their parts of checkpoint `number`, not for long."""
    deadline = monotonic() + PARTS_SECONDS
    while monotonic() < deadline:
        newest = newest_parts(context.store, context.info.last_checkpoint)
        if all(newest.get((context.layout.roles[rank], rank), 0) >= number for rank in context.detector.alive):
            return
        time.sleep(LOOK_SECONDS)


def name_parts(context: StreamContext) -> None:
    """Name the newest part of every rank, if those hold all walkers."""
    newest = newest_parts(context.store, context.info.last_checkpoint)
    try:
        entries = [entry(context, role, rank, number) for (role, rank), number in sorted(newest.items())]
        complete(context, max(newest.values(), default=0), carried(context), entries)
    except (OSError, CheckpointError) as error:
        context.log.error("no emergency checkpoint: %s", error)


def carried(context: StreamContext) -> dict[str, dict[str, Any]]:
    """The sums over all sessions; where the first aggregator is lost, those of the checkpoint before."""
    n_slots = len(context.layout.status_slots)
    written = [n for n in context.store.numbers() if n > context.info.last_checkpoint]
    if context.leads:
        return carried_on(context, read_records(context.board, n_slots))
    if written:
        return context.store.read_manifest(written[-1]).carried
    return carried_on(context, no_records(n_slots))


def newest_parts(store: Store, after: int) -> dict[tuple[str, int], int]:
    """The highest number above `after` of the parts of every rank that has written any: by role and rank."""
    found: dict[tuple[str, int], int] = {}
    for role, rank, number in store.parts():
        if number > max(after, found.get((role, rank), 0)):
            found[role, rank] = number
    return found


def entry(context: StreamContext, role: str, rank: int, number: int) -> Entry:
    """A part as the manifest names it."""
    content = (context.store.directory / part_name(role, rank, number)).read_bytes()
    return entry_of(context, role, rank, number, len(content), hashlib.sha256(content).hexdigest())
