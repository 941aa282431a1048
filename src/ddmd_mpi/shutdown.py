"""The ways out of a run: refused at its start, completed, completed without lost ranks, failed with a reason."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .clock import monotonic
from .errors import BAD_INPUT, DDMDError, LostRankError, StreamError, sentence
from .layout.roles import ROLES
from .rundir.checkpoints import cure

if TYPE_CHECKING:
    from .connect import Connections
    from .faults.detector import FailureDetector
    from .parallel.launch import World
    from .roles.context import Context, Role

FAILED = 1
#: How long ranks that leave without MPI wait for those that may still read their window memory.
LEAVE_SECONDS = 5.0
#: How long a rank looks whether an error comes from the loss of another one.
EXPLAIN_SECONDS = 2.0
#: How long ranks wait for the one that says why the run ends, and how much longer each than the one before it.
GRACE_SECONDS, TURN_SECONDS = 20.0, 1.0
#: How much longer each rank waits for another one to refuse the run, and how many such turns there are.
REFUSE_TURN_SECONDS, MOST_TURNS = 0.5, 60


@dataclass
class Rank:
    """A rank as far as it has come: what its end has to know.

    Parameters
    ----------
    world, log
        All ranks; this one's log.
    fresh_directory
        The run directory, if this run has made it: a run that is refused takes it away again.
    connections, context, role
        Once they are made.
    """

    world: World
    log: logging.Logger
    fresh_directory: Path | None = None
    connections: Connections | None = None
    context: Context | None = None
    role: Role | None = None


def refuse(me: Rank, error: DDMDError) -> None:
    """Say on rank 0 what is wrong, before any rank leaves, and take the fresh run directory away again.

    Collective over the world, unless this rank alone knows of the error: then it ends the job.
    """
    if error.alone:
        refuse_alone(me, error)
    if me.world.rank == 0:
        say(error)
    if me.connections is not None:
        me.connections.abandon()
    me.world.comm.Barrier()
    if me.world.rank == 0:
        remove_fresh_directory(me)


def refuse_alone(me: Rank, error: DDMDError) -> NoReturn:
    """Say what is wrong for all that have met an error, and end the ranks that wait for them inside MPI."""
    world = me.world
    if happens_within(min(world.rank, MOST_TURNS) * REFUSE_TURN_SECONDS, world.it_was_said):
        wait_for_the_end()
    world.say_it_is_said()
    say(error)
    remove_fresh_directory(me)
    world.abort(BAD_INPUT)
    wait_for_the_end()


def remove_fresh_directory(me: Rank) -> None:
    """Take the directory of a run that has not begun away again."""
    if me.fresh_directory is not None:
        shutil.rmtree(me.fresh_directory, ignore_errors=True)


def say(error: DDMDError) -> None:
    """Say on standard error what is wrong."""
    sys.stderr.write(f"ddmd-mpi: {sentence(error)}\n")
    sys.stderr.flush()


def nobody_simulates(context: Context) -> bool:
    """Whether all simulation ranks are lost; every other rank then ends with its part of the exit code."""
    lost = context.detector.lost
    return bool(lost) and lost.issuperset(context.layout.ranks("simulation"))


def leave(world: World, connections: Connections, context: Context, code: int) -> int:
    """Wait for every rank without burning its core, then release windows and streams. Collective over the world.

    Returns the greatest `code` of all ranks.

    Once a rank is lost, collectives and MPI_Finalize no longer work: each remaining rank ends by itself.
    """
    if not all_are_there(world, context.detector):
        depart(world, connections, context, code)
    context.detector.check(context.config.faults.hang_after)
    code = max(world.comm.allgather(code))
    connections.free()
    world.free()
    context.detector.free()
    return code


def all_are_there(world: World, detector: FailureDetector) -> bool:
    """Whether every rank has come to its end; False as soon as one is known to be lost."""
    if detector.lost:
        return False
    barrier = world.comm.Ibarrier()
    try:
        while not barrier.Test():
            detector.poll()
            if detector.lost:
                return False
            time.sleep(0.005)
    except RuntimeError as error:  # MPI's, of a process that has ended
        loss = detector.cause_of(error)
        if isinstance(loss, LostRankError) and not detector.lost:
            raise loss from error
        return False
    return True


def depart(world: World, connections: Connections, context: Context, code: int) -> NoReturn:
    """End this process without MPI: first those that own no window memory, then the aggregators, last their first."""
    context.detector.poll()
    connections.abandon()
    if not code:
        before = {"aggregation": ("simulation", "training", "inference")}.get(context.role, ())
        happens_within(LEAVE_SECONDS, lambda: context.detector.others_have_left(ROLES if context.leads else before))
    sys.stdout.flush()
    sys.stderr.flush()
    if code and context.leads:  # the launcher may not look at the code of a process that leaves without MPI
        world.abort(code)
    elif code:
        wait_for_the_end()
    os._exit(code)


def fail(me: Rank, error: Exception) -> None:
    """End the job with its reason; of a lost rank one rank speaks for all."""
    world, log, context = me.world, me.log, me.context
    log.info("%s", traceback.format_exc())
    error = reason_of(me, error)
    said = str(error) if isinstance(error, DDMDError) else f"{type(error).__name__}: {error}"
    if isinstance(error, LostRankError):
        log.info("%s", said)
        turn = world.rank if context is None else leave_checkpoint(log, context, me.role)
        # The leader may have given the reason and ended before this rank, now the first, came here.
        if world.it_was_said() or (turn and happens_within(GRACE_SECONDS + turn * TURN_SECONDS, world.it_was_said)):
            wait_for_the_end()
    log.error(
        "the run ends: %s" if isinstance(error, LostRankError) else f"rank {world.rank} failed: %s",
        said + ("" if context is None else cure(context.info.directory)),
    )
    world.say_it_is_said()
    world.abort(FAILED)


def reason_of(me: Rank, error: Exception) -> Exception:
    """The loss of a rank that an error of MPI or of a stream comes from, if it comes from one; else the error."""
    if me.context is None:
        return error if isinstance(error, DDMDError) else explain(me.world, error)
    if isinstance(error, DDMDError) and not isinstance(error, StreamError):
        return error
    return me.context.detector.cause_of(error)


def leave_checkpoint(log: logging.Logger, context: Context, role: Role | None) -> int:
    """Leave a checkpoint behind; how many ranks come before this one to say why the run ends."""
    from .roles.context import StreamContext, StreamRole
    from .roles.emergency_checkpoint import write_emergency_checkpoint

    context.detector.suspend(2 * GRACE_SECONDS + TURN_SECONDS * len(context.layout.roles))
    try:
        if isinstance(context, StreamContext) and isinstance(role, StreamRole):
            write_emergency_checkpoint(context, role.checkpoints)
    except Exception as error:  # noqa: BLE001 - the reason for which the run ends must be said, whatever else goes wrong
        log.error("no emergency checkpoint: %s: %s", type(error).__name__, error)
    return context.detector.speaker_order


def happens_within(seconds: float, event: Callable[[], bool]) -> bool:
    """Wait for an event; whether it has happened in time, or the launcher is gone, so that nobody else is left."""
    deadline, launcher = monotonic() + seconds, os.getppid()
    while monotonic() < deadline:
        if event() or os.getppid() != launcher:
            return True
        time.sleep(0.02)
    return False


def wait_for_the_end() -> NoReturn:
    """Let the rank that has said why end the job: if all abort at once, Open MPI's launcher may hang."""
    happens_within(LEAVE_SECONDS, lambda: False)
    os._exit(FAILED)


def explain(world: World, error: Exception) -> Exception:
    """The loss that an error of MPI comes from, while nobody watches yet; else the error."""
    from .parallel.failures import failed_ranks

    happens_within(EXPLAIN_SECONDS, lambda: bool(failed_ranks(world.comm)))
    lost = sorted(failed_ranks(world.comm))
    if not lost:
        return error
    host = world.hosts[world.nodes[lost[0]]]
    return LostRankError(
        f"rank {lost[0]} (on {host}) is lost: its process ended before the run had started; start it again"
    )
