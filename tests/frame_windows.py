"""Windows of a few frames, and what a policy chooses from them."""

import numpy as np

from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.steering.policy import Policy


def window(rows, **columns: np.ndarray) -> FrameBlock:
    """Frames from rows of (simulation, segment, frame, rmsd[, slot_generation])."""
    rows = [(*row, 1)[:5] for row in rows]
    names = {"walker": "i4", "segment": "i4", "frame": "i8", "rmsd": "f4", "slot_generation": "i8"}
    found = {n: np.array(column, t) for (n, t), column in zip(names.items(), zip(*rows, strict=True), strict=True)}
    found["topology"] = np.zeros(len(rows), np.int32)
    contacts = {"contact_counts": np.zeros((len(rows), 1), np.uint16), "contact_columns": np.zeros(0, np.uint16)}
    return FrameBlock({**found, **contacts, **columns})


def choose(chooser: Policy, block: FrameBlock, latents=None, outliers=None, may_restart=None):
    may_restart = np.ones(chooser.n_walkers, bool) if may_restart is None else np.array(may_restart)
    return chooser.choose(block, latents, outliers, may_restart)


def pairs(restarts, block: FrameBlock) -> list[tuple[int, int]]:
    """(walker, source frame) of each restart."""
    return [(r.walker, int(block["frame"][r.index])) for r in restarts]
