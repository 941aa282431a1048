"""What a walker leaves behind where its engine fails: ``failures/sim-0007-0002.npz``, for a post-mortem."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np

from ..errors import EngineError
from ..rundir import write_durably
from .walker import Walker

STATE = ("positions", "velocities", "box")


def keep_remains(directory: Path, walker: Walker, error: EngineError, log: logging.Logger) -> None:
    """Write the state in which a walker has failed, as far as its engine still gives it.

    The file has positions (n_atoms, 3) nm, velocities (n_atoms, 3) nm/ps, box (3, 3) nm, the error, the walker's
    topology and the simulated time, ps. A disk that refuses it costs nothing else.

    Parameters
    ----------
    directory
        The run directory.
    """
    try:
        state = walker.engine.snapshot()
    except EngineError:
        state = {}
    packed = io.BytesIO()
    np.savez(packed, **{name: state[name] for name in STATE if name in state}, error=np.array(str(error)),
             topology=np.array(walker.topology), time_ps=np.array(walker.ps))
    path = directory / "failures" / f"sim-{walker.index:04d}-{walker.failures + 1:04d}.npz"
    try:
        path.parent.mkdir(exist_ok=True)
        write_durably(path, packed.getbuffer())
    except OSError as refused:
        log.warning("%s cannot be written: %s", path, refused.strerror)
