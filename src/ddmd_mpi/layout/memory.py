"""Sizes of window memory and shares of cores: pure arithmetic, shared with ``--dry-run``."""

from __future__ import annotations

from ..errors import LayoutError
from .roles import Layout

CACHE_LINE = 64
MIN_SLOTS = 2


def padded(nbytes: int) -> int:
    """`nbytes` rounded up to whole cache lines."""
    return -(-nbytes // CACHE_LINE) * CACHE_LINE


def frame_values(n_atoms: int) -> int:
    """float32 values of a frame: positions, velocities and box."""
    return 2 * n_atoms * 3 + 9


def slot_nbytes(n_atoms: int) -> int:
    """Bytes of one slot of a coordinate ring."""
    return CACHE_LINE + padded(frame_values(n_atoms) * 4)


def slots_per_walker(budget_bytes: int, n_walkers: int, n_atoms: int) -> int:
    """Frames that a ring of `budget_bytes` keeps of each of `n_walkers`.

    Raises
    ------
    LayoutError
        Fewer than 2.
    """
    slots = int(budget_bytes) // (n_walkers * slot_nbytes(n_atoms))
    if slots < MIN_SLOTS:
        needed = MIN_SLOTS * n_walkers * slot_nbytes(n_atoms) / 1e6
        raise LayoutError(
            f"a coordinate ring of {budget_bytes / 1e6:.1f} MB holds {slots} frames of {n_atoms} atoms for each of "
            f"{n_walkers} walkers, and {MIN_SLOTS} are needed: set aggregation.ring_mb to at least {needed + 0.05:.1f}"
        )
    return slots


def model_threads(layout: Layout, rank: int, cores: int) -> int:
    """Threads for the model of training or inference rank `rank`: one, and its share of the cores that are left over.

    Where roles are stages all other ranks wait meanwhile, and those that train share all cores of their node.

    Parameters
    ----------
    cores
        Cores that the ranks of its node share; each rank has one of them first.
    """
    node = layout.nodes[rank]
    if layout.staged:
        return max(1, cores // sum(layout.nodes[r] == node for r in layout.ranks("training")))
    on_node = [r for r, n in enumerate(layout.nodes) if n == node]
    with_model = [r for r in on_node if layout.roles[r] in ("training", "inference")]
    return 1 + max(0, cores - len(on_node)) // max(1, len(with_model))
