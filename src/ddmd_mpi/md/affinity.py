"""Keep a one-threaded simulation on one core."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def stay_on_one_core(index: int) -> int | None:
    """Bind this thread, and those it starts from now on, to one of the cores it may use; returns the core.

    OpenMM's CPU platform integrates in a worker thread that hands over to the caller several times a step: on one
    core that is about twice as fast for some hundred atoms as across two cores of a virtual machine.

    Parameters
    ----------
    index
        Index of this rank among those of its node that bind themselves: each gets a core of its own, in turn.

    Returns
    -------
    int or None
        None if the launcher has bound the rank already, or the system cannot bind.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        return None
    core = cores[index % len(cores)]
    os.sched_setaffinity(0, {core})
    return core


@contextmanager
def on_cores(cores: set[int] | None) -> Iterator[None]:
    """Let this thread, and those it starts in the block, use `cores`; None changes nothing."""
    if cores is None:
        yield
        return
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def my_cores() -> set[int] | None:
    """The cores that this thread may use, None if the system cannot tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
