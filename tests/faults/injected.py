"""A rank of ddmd-mpi with a fault inside: ``python injected.py FAULT [OPTION of ddmd-mpi ...]``.

nan     every hundredth integration of an engine begins with an atom at no finite place
slow    whoever reads a stream of inference or training takes a second for each block
clock   the clocks of simulations go an hour back in the middle of the run, that of inference an hour ahead
"""

from __future__ import annotations

import itertools
import sys
import time

CLOCK_SECONDS = {"Simulation": -3600.0, "Inference": 3600.0}
SOUND_LOOKS = 30
SLOW_SECONDS = 1.0


def nan() -> None:
    """Break the molecular dynamics."""
    import numpy as np

    from ddmd_mpi.md.engine import OpenMMEngine

    calls, advance = itertools.count(1), OpenMMEngine.advance

    def broken(self: OpenMMEngine, n_steps: int) -> None:
        if next(calls) % 100 == 0:
            positions = self.state().positions.astype(np.float64)
            positions[0] = np.nan
            self._context.setPositions(positions)
        advance(self, n_steps)

    OpenMMEngine.advance = broken


def slow() -> None:
    """Slow the readers behind the aggregators down."""
    from ddmd_mpi.roles.context import Inlet
    from ddmd_mpi.wiring import TO_INFERENCE, TO_TRAINING

    poll = Inlet.poll

    def slowly(self: Inlet) -> object:
        payload = poll(self)
        if payload is not None and self.link.kind in (TO_INFERENCE, TO_TRAINING):
            time.sleep(SLOW_SECONDS)
        return payload

    Inlet.poll = slowly


def clock() -> None:
    """Let the clock of this rank jump, by its role, when that has looked at it often enough."""
    from ddmd_mpi import run

    cast, now, looks = run.cast, time.time, itertools.count()

    def jumping(role: str) -> type:
        time.time = lambda: now() + (next(looks) > SOUND_LOOKS) * CLOCK_SECONDS.get(role.title(), 0.0)
        return cast(role)

    run.cast = jumping


if __name__ == "__main__":
    {"nan": nan, "slow": slow, "clock": clock}[sys.argv.pop(1)]()
    from ddmd_mpi.__main__ import main

    sys.exit(main())
