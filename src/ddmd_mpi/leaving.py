"""The ways out of a run: refused at its start, in order, in order without those that are lost, failed with a reason."""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .checkpoints import cure
from .errors import DDMDError, LostRankError, StreamError, sentence
from .summary import ROLES

if TYPE_CHECKING:
    from .run import Wires

FAILED = 1
#: How long ranks that leave without MPI wait for those that may still read their window memory.
LEAVE_SECONDS = 5.0
#: How long a rank looks whether an error comes from the loss of another one.
EXPLAIN_SECONDS = 2.0
#: How long ranks wait for the one that says why the run ends, and how much longer each than the one before it.
GRACE_SECONDS, TURN_SECONDS = 20.0, 1.0


def refuse(world, error: DDMDError, wires: Wires | None, directory: Path | None) -> None:
    """Say on rank 0 what is wrong, before any rank leaves, and take the fresh run directory away again.

    Collective over the world.
    """
    if world.rank == 0:
        sys.stderr.write(f"ddmd-mpi: {sentence(error)}\n")
        sys.stderr.flush()
    if wires is not None and wires.network is not None:
        wires.network.free()
    world.comm.Barrier()
    if world.rank == 0 and directory is not None:
        shutil.rmtree(directory, ignore_errors=True)


def nobody_simulates(context) -> bool:
    """Whether all simulation ranks are lost; every other rank then ends with its part of the exit code."""
    lost = context.vigil.lost
    return bool(lost) and lost.issuperset(context.layout.ranks("simulation"))


def leave(world, wires: Wires, context, code: int) -> None:
    """Wait for every rank without burning its core, then release windows and streams. Collective over the world.

    Where a rank is lost nothing collective works any more, nor does MPI's own end: whoever is left ends by itself.
    """
    if not all_are_there(world, context.vigil):
        depart(world, wires, context, code)
    context.vigil.look(context.config.faults.hang_after)
    for end in (wires.network, wires.mailboxes, wires.ring, wires.credits, wires.register, wires.announcements,
                wires.losses, wires.board):
        if end is not None:
            end.free()
    wires.comm.Free()
    world.free()
    context.vigil.free()


def all_are_there(world, vigil) -> bool:
    """Whether every rank has come to its end; False as soon as one is known to be lost."""
    if vigil.lost:
        return False
    barrier = world.comm.Ibarrier()
    try:
        while not barrier.Test():
            vigil.tick()
            if vigil.lost:
                return False
            time.sleep(0.005)
    except RuntimeError as error:  # MPI's, of a process that has ended
        loss = vigil.explain(error)
        if isinstance(loss, LostRankError) and not vigil.lost:
            raise loss from error
        return False
    return True


def depart(world, wires: Wires, context, code: int) -> NoReturn:
    """End this process without MPI: first those that own no window memory, then the aggregators, last their first."""
    context.vigil.tick()
    wires.network.free()
    if not code:
        before = {"aggregation": ("simulation", "training", "inference")}.get(context.role, ())
        happens_within(LEAVE_SECONDS, lambda: context.vigil.others_have_left(ROLES if context.leads else before))
    sys.stdout.flush()
    sys.stderr.flush()
    if code and context.leads:  # the launcher may not look at the code of a process that leaves without MPI
        world.abort(code)
    elif code:
        wait_for_the_end()
    os._exit(code)


def fail(world, log, error: Exception, context) -> None:
    """End the job with its reason; of a lost rank one rank speaks for all."""
    vigil = context and context.vigil
    log.info("%s", traceback.format_exc())
    if not isinstance(error, DDMDError) or (vigil is not None and isinstance(error, StreamError)):
        error = vigil.explain(error) if vigil is not None else explain(world, error)
    sentence = str(error) if isinstance(error, DDMDError) else f"{type(error).__name__}: {error}"
    if isinstance(error, LostRankError):
        log.info("%s", sentence)
        turn = part(log, context) if context else world.rank
        if turn and happens_within(GRACE_SECONDS + turn * TURN_SECONDS, world.it_was_said):
            wait_for_the_end()
    log.error("the run ends: %s" if isinstance(error, LostRankError) else f"rank {world.rank} failed: %s",
              sentence + (cure(context.facts.directory) if context else ""))
    world.say_it_is_said()
    world.abort(FAILED)


def part(log, context) -> int:
    """Leave a checkpoint behind; how many ranks come before this one to say why the run ends."""
    from .roles.farewell import leave_checkpoint

    context.vigil.brace(2 * GRACE_SECONDS + TURN_SECONDS * len(context.layout.roles))
    try:
        if context.announcements is not None:
            leave_checkpoint(context)
    except Exception as error:  # noqa: BLE001 - the reason for which the run ends must be said, whatever else goes wrong
        log.error("no last checkpoint: %s: %s", type(error).__name__, error)
    return context.vigil.turn


def happens_within(seconds: float, event: Callable[[], bool]) -> bool:
    """Wait for an event; whether it has happened in time, or the launcher is gone, so that nobody else is left."""
    deadline, launcher = time.monotonic() + seconds, os.getppid()
    while time.monotonic() < deadline:
        if event() or os.getppid() != launcher:
            return True
        time.sleep(0.02)
    return False


def wait_for_the_end() -> NoReturn:
    """Let the rank that has said why end the job: where all abort at a time, Open MPI's launcher may hang."""
    happens_within(LEAVE_SECONDS, lambda: False)
    os._exit(FAILED)


def explain(world, error: Exception) -> Exception:
    """The loss that an error of MPI comes from, while nobody watches yet; else the error."""
    from .parallel.losses import failed_ranks

    happens_within(EXPLAIN_SECONDS, lambda: bool(failed_ranks(world.comm)))
    lost = sorted(failed_ranks(world.comm))
    if not lost:
        return error
    host = world.hosts[world.nodes[lost[0]]]
    return LostRankError(f"rank {lost[0]} (on {host}) is lost: its process has ended before the run had begun; "
                         "start it again")
