"""A rank of ddmd-mpi with a fault inside: ``python injected.py FAULT [OPTION of ddmd-mpi ...]``.

nan     every hundredth integration of an engine begins with an atom at no finite place
slow    whoever reads a stream of inference or training takes a second for each block
clock   the clocks of simulations go an hour back in the middle of the run, that of inference an hour ahead
window  MPI fails on the last rank to allocate the first window, in which the others wait for it
late    the last node of two has not tried the addresses of the other one when that no longer waits
"""

from __future__ import annotations

import itertools
import sys
import time
from types import SimpleNamespace

CLOCK_SECONDS = {"Simulation": -3600.0, "Inference": 3600.0}
SOUND_LOOKS = 30
SLOW_SECONDS = 1.0
#: What the windows need of MPI.
NAMES = ("Info", "Exception", "COMM_TYPE_SHARED", "NO_OP", "REPLACE", "INT64_T")


def nan() -> None:
    """Break the molecular dynamics."""
    import numpy as np

    from ddmd_mpi.md.openmm_engine import OpenMMEngine

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
    from ddmd_mpi.layout.links import TO_INFERENCE, TO_TRAINING
    from ddmd_mpi.streams.inbox import Inbox

    poll = Inbox.poll

    def slowly(self: Inbox) -> object:
        payload = poll(self)
        if payload is not None and self.link.kind in (TO_INFERENCE, TO_TRAINING):
            time.sleep(SLOW_SECONDS)
        return payload

    Inbox.poll = slowly


def clock() -> None:
    """Let the clock of this rank jump, by its role, when that has looked at it often enough."""
    from ddmd_mpi import run

    load_role, now, looks = run.load_role, time.time, itertools.count()

    def jumping(name: str) -> type:
        time.time = lambda: now() + (next(looks) > SOUND_LOOKS) * CLOCK_SECONDS.get(name.partition(":")[2], 0.0)
        return load_role(name)

    run.load_role = jumping


def window() -> None:
    """Fail on the last rank where all ranks allocate."""
    from ddmd_mpi import run
    from ddmd_mpi.parallel import bare_mpi

    run.ALONE_SECONDS, connect = 1.0, run.connect

    def fails(*_: object) -> None:
        raise bare_mpi.MPI.Exception(bare_mpi.MPI.ERR_NO_MEM)

    def broken(world: object, *arguments: object) -> object:
        from ddmd_mpi.parallel import windows

        if world.rank == world.size - 1:
            real = windows.MPI
            windows.MPI = SimpleNamespace(Win=SimpleNamespace(Allocate=fails), **{n: getattr(real, n) for n in NAMES})
        return connect(world, *arguments)

    run.connect = broken


def late() -> None:
    """Keep the last node from the others for longer than they wait."""
    from ddmd_mpi import run
    from ddmd_mpi.parallel.bare_mpi import MPI
    from ddmd_mpi.streams import addresses

    run.ALONE_SECONDS, addresses.OPEN_SECONDS, probe = 1.0, 1.0, addresses.probe

    def slowly(*arguments: object) -> object:
        time.sleep(4.0 * (MPI.COMM_WORLD.rank >= MPI.COMM_WORLD.size // 2))
        return probe(*arguments)

    addresses.probe = slowly


if __name__ == "__main__":
    {"nan": nan, "slow": slow, "clock": clock, "window": window, "late": late}[sys.argv.pop(1)]()
    from ddmd_mpi.cli.entry import main

    sys.exit(main())
