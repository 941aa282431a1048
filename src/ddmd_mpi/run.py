"""The life of a run, the same on every rank: launch, agree on the plan, connect, play my role, leave."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from . import clock
from .config.schema import Config, FaultsSection
from .connect import build_context, connect, open_journal
from .environ import THREAD_VARIABLES
from .errors import BAD_INPUT, DDMDError
from .faults.processes import NodeProcesses, neighbours
from .faults.stop import Signals
from .faults.watchdog import StartLimit
from .monitor import logs
from .monitor.status import Activity, State
from .parallel.hosts import check_alike, check_sees, input_files, mark
from .prepare import Options, prepare
from .rundir.disk import disk_errors
from .shutdown import FAILED, Rank, fail, leave, nobody_simulates, refuse

if TYPE_CHECKING:
    from .connect import Connections
    from .parallel.bare_mpi import MPI
    from .parallel.launch import World
    from .roles.context import Context, Role

T = TypeVar("T")
#: What every role needs.
CONTEXT = ".roles.context"
#: How long a rank that has met an error waits for the others to hear of it.
ALONE_SECONDS = 10.0


def run(options: Options) -> int:
    """Run the loop; the exit code: 0, 1 if the run did not complete, 2 for bad input.

    Collective over the world.
    """
    # One thread per rank unless a role asks for more: ranks share cores.
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    signals = Signals().install()
    clock.monotonic.start()
    limit = StartLimit(FaultsSection().start_within, sys.__stderr__ or sys.stderr)
    from .parallel.launch import launch

    me = Rank(launch(), logs.configure(None, "start", 0))
    try:
        player = start(me, options, signals)
        limit.lift()
        return BAD_INPUT if player is None else play(me, player)
    except Exception as error:  # noqa: BLE001 - the last stop: what goes wrong on one rank ends the job with its reason
        fail(me, error)
        return FAILED


@dataclass(frozen=True)
class Player:
    """A rank that is connected and has its role."""

    connections: Connections
    context: Context
    role: Role


def start(me: Rank, options: Options, signals: Signals) -> Player | None:
    """Prepare and connect this rank and make its role; None if the run is refused. Collective over the world."""
    world = me.world
    processes = NodeProcesses(neighbours(world.processes, world.nodes, world.rank)).start()
    try:
        # Agree on the plan; from now on a refusal removes the fresh run directory.
        world.agree(lambda: check_alike(world.peers))
        if world.rank:  # Load meanwhile what every role needs.
            importlib.import_module(CONTEXT, __package__)
        plan = world.agree(lambda: prepare(options, world))
        me.fresh_directory = plan.info.directory if plan.info.resumed is None else None
        check_shared(world, plan.info.directory, plan.config)
        plan = plan.of_rank(world.rank)

        # Open the log, the events and the watchdog.
        journal = all_or_none(world.comm, lambda: open_journal(plan, world.rank))
        me.log = journal.log
        processes.kill_after(plan.config.faults.stopped_after)

        # Connect, and make the role.
        connections = me.connections = all_or_none(world.comm, lambda: connect(world, plan, journal, processes))
        context = me.context = all_or_none(
            world.comm, lambda: build_context(world, plan, connections, journal, signals)
        )
        role = me.role = all_or_none(world.comm, lambda: load_role(plan.layout.role_class(world.rank))(context))
        return Player(connections, context, role)
    except DDMDError as error:
        refuse(me, error)
        return None


def play(me: Rank, player: Player) -> int:
    """Play the role to its end and leave; the exit code. Collective over the world."""
    context = player.context
    context.log.info("starts %.2f s after the launch", time.time() - context.info.started)
    with context.events:
        begun = time.time()
        completed = player.role.run()
        context.record_traffic(begun)
        context.status.update(now=True, state=State.DONE, activity=Activity.DONE)
    code = FAILED if completed is False or nobody_simulates(context) else 0
    return leave(me.world, player.connections, context, code)


def check_shared(world: World, directory: Path, config: Config) -> None:
    """Refuse a run directory or input files that not all hosts see. Collective over the world."""
    if len(world.hosts) == 1:
        return

    def made() -> tuple[Path, list[Path]]:
        with disk_errors(directory):
            return mark(directory), input_files(config.plain())

    def seen() -> None:
        if world.node_comm.rank == 0:
            check_sees(marker, files, world.hosts[world.node], world.hosts[0])

    marker, files = world.agree(made)
    try:
        all_or_none(world.comm, seen)
    finally:
        if world.rank == 0:
            marker.unlink(missing_ok=True)


def all_or_none(comm: MPI.Comm, function: Callable[[], T]) -> T:
    """The result of `function` on every rank, or on every rank the first error. Collective over `comm`.

    Where an error keeps this rank from a collective in `function`, the others wait there and do not come: it is marked.
    """
    from .parallel.collectives import Meeting

    error: DDMDError | None = None
    try:
        result = function()
    except DDMDError as caught:
        error = caught
    try:
        told = Meeting(comm).exchange(error, float("inf") if error is None else ALONE_SECONDS)
    except TimeoutError:
        if error is None:
            raise
        error.alone = True
        raise error from None
    first = next((e for e in told if e is not None), None)
    if first is not None:
        raise first
    return result


def load_role(name: str) -> Callable[[Context], Role]:
    """The class ``module:Class``; it is imported by name, so that no rank loads another role's libraries."""
    module, _, role = name.partition(":")
    return getattr(importlib.import_module(f".{module}", __package__), role)
