"""Restart points of earlier sessions: the newest frames of the inference window get their coordinates back.

The archives have them. Which frame has which place of which ring follows from the window in the checkpoint alone, so
aggregators and inference work it out each by itself, whatever the number of aggregators. A frame that no archive has
leaves its place empty, and is no restart point.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StreamError
from ..frames import FrameBlock, Hop
from ..streams.archived import archives, count_frames, find_frames
from .context import Context

#: The columns of the window that say which frames it holds: arrays of their own in inference's part of a checkpoint.
KEYS = ("simulation", "frame")


def turns(simulation: np.ndarray, frame: np.ndarray, most: int) -> dict[tuple[int, int], int]:
    """Of each walker the newest frames, `most` at most, by (walker, frame): the oldest of them is its number 0."""
    found = {}
    for walker in np.unique(simulation).tolist():
        newest = np.unique(frame[simulation == walker])[-most:]
        found |= {(walker, f): k for k, f in enumerate(newest.tolist())}
    return found


def mark(block: FrameBlock, ring: Any) -> FrameBlock:
    """The window of a checkpoint, its frames in the places that the rings of this session have for them."""
    known = turns(block["simulation"], block["frame"], ring.slots_per_walker)
    keys = zip(block["simulation"].tolist(), block["frame"].tolist(), strict=True)
    places = [ring.place(key[0], known[key]) if key in known else (-1, -1, 0) for key in keys]
    aggregator, slot, generation = np.array(places).T
    return block.on(Hop.FEATURES, aggregator=aggregator.astype(np.int32), ring_slot=slot.astype(np.int32),
                    slot_generation=generation.astype(np.int64))


def confirm(block: FrameBlock, ring: Any) -> FrameBlock:
    """The window without the places in which the rings do not hold its frames."""
    places = zip(*(block[name].tolist() for name in ("aggregator", "ring_slot", "slot_generation")), strict=True)
    held = [place[-1] > 0 and ring.holds(*place) for place in places]
    return block.on(Hop.FEATURES, slot_generation=np.where(held, block["slot_generation"], 0))


def refill(context: Context) -> int:
    """Put the frames of the window that belong to my walkers into my ring; how many there are.

    Blocks until the archives have been read: those of the newest session first, and no more than are needed.
    """
    store, ring, wanted = context.store, context.ring, {}
    mine = set(context.layout.walkers_of(context.rank))
    for entry in context.facts.resumed.of_role("inference"):
        arrays = store.read_part(entry, only=KEYS).arrays
        if arrays:
            wanted = turns(*(arrays[name] for name in KEYS), ring.slots_per_walker)
    wanted = {key: k for key, k in wanted.items() if key[0] in mine}
    for walker in mine:
        ring.reserve(walker, sum(w == walker for w, _ in wanted))
    n_wanted = len(wanted)
    for path in archives(context.facts.directory) if wanted else ():
        try:
            _take(context, path, wanted)
        except StreamError as error:
            context.log.warning("frames of earlier sessions are no restart points: %s", error)
        if not wanted:
            break
    return n_wanted - len(wanted)


def _take(context: Context, path: Path, wanted: dict[tuple[int, int], int]) -> None:
    """Take the frames that are `wanted` from an archive, and off the list."""
    for of_block in find_frames(path, wanted):
        context.status.update()
        for found in of_block:
            k, n_atoms = wanted.pop((found.simulation, found.frame), None), context.facts.n_atoms_of(found.topology)
            if k is not None and n_atoms == len(found.positions) == len(found.velocities):
                context.ring.put(found.simulation, k, found.positions, found.velocities, found.box)


def count_archived(context: Context, share: int, n_shares: int) -> dict[str, int]:
    """Frames in a share of the archives of earlier sessions, by name; what the checkpoint has is not counted again."""
    known: dict[str, int] = {}
    for entry in context.facts.resumed.of_role("aggregation"):
        known |= context.store.read_part(entry, only=()).values["archived"]
    return {path.name: known[path.name] if path.name in known else _count(context, path)
            for path in archives(context.facts.directory)[share::n_shares]}


def _count(context: Context, path: Path) -> int:
    """Frames in an archive, as far as it can be read."""
    total = 0
    try:
        for n_frames in count_frames(path):
            context.status.update()
            total += n_frames
    except StreamError as error:
        context.log.warning("frames_archived may be too low: %s", error)
    return total
