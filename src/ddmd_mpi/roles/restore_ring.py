"""Restart points of earlier sessions: the newest frames of the inference window get their coordinates back.

The archives have them. Which frame has which place of which ring follows from the window in the checkpoint alone, so
aggregators and inference work it out each by itself, whatever the number of aggregators. A frame that no archive has
leaves its place empty, and is not a restart point.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import StreamError
from ..frames.block import FORMER_NAMES, FrameBlock, Hop
from ..streams.archive import archives, count_frames, find_frames
from .context import StreamContext

if TYPE_CHECKING:
    from ..parallel.ring import CoordinateRing

#: The columns of the window that say which frames it holds: arrays of their own in inference's part of a checkpoint.
KEYS = ("walker", "frame")
Place = tuple[int, int, int]  # aggregator, slot, generation


def newest_of_each(walkers: np.ndarray, frame: np.ndarray, most: int) -> dict[tuple[int, int], int]:
    """Of each walker the newest frames, `most` at most, by (walker, frame): the oldest of them is its number 0."""
    found: dict[tuple[int, int], int] = {}
    for walker in np.unique(walkers).tolist():
        newest = np.unique(frame[walkers == walker])[-most:]
        found |= {(walker, f): k for k, f in enumerate(newest.tolist())}
    return found


def assign_slots(block: FrameBlock, ring: CoordinateRing) -> FrameBlock:
    """The window of a checkpoint, its frames in the places that the rings of this session have for them."""
    known = newest_of_each(block["walker"], block["frame"], ring.slots_per_walker)
    keys = zip(block["walker"].tolist(), block["frame"].tolist(), strict=True)
    found = [ring.place(key[0], known[key]) if key in known else (-1, -1, 0) for key in keys]
    aggregator, slot, generation = np.array(found).T
    return block.on(
        Hop.FEATURES,
        aggregator=aggregator.astype(np.int32),
        ring_slot=slot.astype(np.int32),
        slot_generation=generation.astype(np.int64),
    )


def drop_missing(
    block: FrameBlock, marked: Container[Place], filled: Mapping[int, Container[tuple[int, int]]]
) -> FrameBlock:
    """The window without the places in which the rings do not hold its frames.

    No archive had them, or newer frames of the window have taken their places.

    Parameters
    ----------
    marked
        The places that :func:`assign_slots` has given to frames of an earlier session.
    filled
        (slot, generation) of those frames that each aggregator has found, by its number.
    """
    newest: dict[tuple[int, int], int] = {}
    for aggregator, slot, generation in places(block):
        newest[aggregator, slot] = max(generation, newest.get((aggregator, slot), 0))
    held = [(p not in marked or p[1:] in filled.get(p[0], ())) and p[2] == newest[p[:2]] for p in places(block)]
    return block.on(Hop.FEATURES, slot_generation=np.where(held, block["slot_generation"], 0))


def places(block: FrameBlock) -> list[Place]:
    """Where the rings hold the frames of a block."""
    columns = (block[name].tolist() for name in ("aggregator", "ring_slot", "slot_generation"))
    return list(zip(*columns, strict=True))


def refill(context: StreamContext) -> list[tuple[int, int]]:
    """Put the frames of the window that belong to my walkers into my ring; the (slot, generation) of each.

    Blocks until the archives have been read: those of the newest session first, and no more than are needed.
    """
    store, ring = context.store, context.plane.ring
    wanted: dict[tuple[int, int], int] = {}
    mine = set(context.layout.walkers_of(context.rank))
    for entry in context.info.resumed_parts("inference"):
        arrays = store.read_part(entry, only=(*KEYS, *FORMER_NAMES.values())).arrays
        if arrays:
            walkers, frames = (arrays[name if name in arrays else FORMER_NAMES[name]] for name in KEYS)
            wanted = newest_of_each(walkers, frames, ring.slots_per_walker)
    wanted = {key: k for key, k in wanted.items() if key[0] in mine}
    for walker in mine:
        ring.reserve(walker, sum(w == walker for w, _ in wanted))
    filled: list[tuple[int, int]] = []
    for path in archives(context.info.directory, context.info.session) if wanted else ():
        try:
            _take(context, path, wanted, filled)
        except StreamError as error:
            context.log.warning("frames of earlier sessions cannot be restart points: %s", error)
        if not wanted:
            break
    return filled


def _take(
    context: StreamContext, path: Path, wanted: dict[tuple[int, int], int], filled: list[tuple[int, int]]
) -> None:
    """Put the frames that are `wanted` and in an archive into my ring, and move them from one list to the other."""
    for of_block in find_frames(path, wanted):
        context.heartbeat()
        context.plane.progress()
        for found in of_block:
            k, n_atoms = wanted.pop((found.walker, found.frame), None), context.info.n_atoms_of(found.topology)
            if k is not None and n_atoms == len(found.positions) == len(found.velocities):
                placed = context.plane.ring.put(found.walker, k, found.positions, found.velocities, found.box)
                filled.append(placed)


def count_archived(context: StreamContext, share: int, n_shares: int) -> dict[str, int]:
    """Frames in a share of the archives of earlier sessions, by name; what the checkpoint has is not counted again."""
    known: dict[str, int] = {}
    for entry in context.info.resumed_parts("aggregation"):
        known |= context.store.read_part(entry, only=()).values["archived"]
    return {
        path.name: known[path.name] if path.name in known else _count(context, path)
        for path in archives(context.info.directory, context.info.session)[share::n_shares]
    }


def _count(context: StreamContext, path: Path) -> int:
    """Frames in an archive, as far as it can be read."""
    total = 0
    try:
        for n_frames in count_frames(path):
            context.heartbeat()
            context.plane.progress()
            total += n_frames
    except StreamError as error:
        context.log.warning("frames_archived may be too low: %s", error)
    return total
