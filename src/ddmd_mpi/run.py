"""The life of a run, the same on every rank: launch, agree on the plan, wire up, play my role, leave."""

from __future__ import annotations

import faulthandler
import importlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from . import logs, rundir
from .disk import written
from .errors import DDMDError
from .events import EventLog
from .leaving import FAILED, fail, leave, nobody_simulates, refuse
from .preparing import Options, prepare
from .processes import Neighbourhood, neighbours
from .sections import Config, FaultsSection
from .status import STATUS_DTYPE, Activity, State, StatusPost
from .stopping import CONTROL_DTYPE, Control, Signals, time_left
from .wiring import Link, links

T = TypeVar("T")

#: One thread per rank unless a role asks for more: ranks share cores.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
BAD_INPUT = 2


@dataclass(frozen=True)
class Wires:
    """The windows and streams of a run, on this rank; file mode has but the board."""

    comm: Any  # of my role
    board: Any
    links: tuple[Link, ...] = ()
    network: Any = None
    mailboxes: Any = None
    ring: Any = None
    credits: Any = None
    register: Any = None  # of the first aggregator's orders
    announcements: Any = None
    losses: Any = None


def run(options: Options) -> int:
    """Run the loop; the exit code: 0, 1 where the run did not come to its end, 2 for bad input.

    Collective over the world.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    signals = Signals().install()
    faulthandler.dump_traceback_later(FaultsSection().start_within, exit=True, file=sys.__stderr__)  # before a watchdog
    from .parallel.launch import launch

    world, log, wires, facts, context = launch(), logs.configure(None, "start", 0), None, None, None
    neighbourhood = Neighbourhood(neighbours(world.processes, world.nodes, world.rank)).start()
    try:
        try:
            config, layout, facts = world.agree(lambda: prepare(options, world))
            role = layout.roles[world.rank]
            log = all_or_none(world.comm, lambda: open_log(facts.directory, role, world.rank))
            wires = all_or_none(world.comm, lambda: wire(world, config, layout, facts))
            neighbourhood.limit = config.faults.stopped_after
            context = all_or_none(world.comm, lambda: place(world, config, layout, facts, wires, log, signals,
                                                            neighbourhood))
            player = all_or_none(world.comm, lambda: cast(layout.player(world.rank))(context))
        except DDMDError as error:
            refuse(world, error, wires, facts.directory if facts and not facts.resumed else None)
            faulthandler.cancel_dump_traceback_later()
            return BAD_INPUT
        log.info("starts %.2f s after the launch", time.time() - facts.started)
        with context.events:
            completed = player.run()
            context.status.update(now=True, state=State.DONE, activity=Activity.DONE)
        code = FAILED if completed is False or nobody_simulates(context) else 0
        leave(world, wires, context, code)
        return code
    except Exception as error:  # noqa: BLE001 - the last stop: what goes wrong on one rank ends the job with its reason
        fail(world, log, error, context)
        return FAILED


def open_log(directory: Path, role: str, rank: int):
    """This rank's log."""
    path = directory / "logs" / f"{role}-{rank:04d}.log"
    with written(path):
        return logs.configure(path, role, rank)


def all_or_none(comm, function: Callable[[], T]) -> T:
    """The result of `function` on every rank, or on every rank the first error. Collective over `comm`."""
    result, error = None, None
    try:
        result = function()
    except DDMDError as caught:
        error = caught
    first = next((e for e in comm.allgather(error) if e is not None), None)
    if first is not None:
        raise first
    return result


def wire(world, config: Config, layout, facts) -> Wires:
    """Make the windows and the network. Collective over the world."""
    from .parallel.board import MessageBoard
    from .parallel.losses import Losses, MessageLosses
    from .parallel.mailbox import Mailboxes
    from .parallel.register import Registers
    from .parallel.ring import CoordinateRing
    from .roles.checkpointing import ANNOUNCEMENT_DTYPE
    from .roles.context import CREDIT_DTYPE
    from .streams.network import Network

    if layout.staged:
        board = MessageBoard(world.comm, len(layout.seats), STATUS_DTYPE)
        return Wires(world.split(layout), board, losses=MessageLosses(world.comm))
    aggregators = layout.ranks("aggregation")
    kept = [layout.walkers_of(rank) for rank in aggregators]
    plan = links(layout)
    return Wires(
        links=plan,
        comm=world.split(layout),
        ring=CoordinateRing(world.comm, aggregators, kept, facts.n_atoms, int(config.aggregation.ring_mb * 1e6)),
        mailboxes=Mailboxes(world.comm, layout.hosts),
        credits=Registers(world.comm, [link.host for link in plan], CREDIT_DTYPE, "credits"),
        board=Registers(world.comm, [aggregators[0]] * world.size, STATUS_DTYPE, "board"),
        register=Registers(world.comm, [aggregators[0]], CONTROL_DTYPE, "orders"),
        announcements=Registers(world.comm, [aggregators[0]] * world.size, ANNOUNCEMENT_DTYPE, "announcements"),
        losses=Losses(world.comm, aggregators[0]),
        network=Network(world.comm, world.node_comm, config.streams, facts.directory / "streams"),
    )


def place(world, config: Config, layout, facts, wires: Wires, log, signals: Signals, neighbourhood: Neighbourhood):
    """The context of this rank's role. Collective over the world."""
    from .roles.context import Context
    from .roles.vigil import Vigil
    from .watchdog import Watchdog

    role = layout.roles[world.rank]
    for warning in layout.warnings if world.rank == 0 else ():
        log.warning("%s", warning)
    describe(world, layout, facts, role)
    events = EventLog(facts.directory / "events" / f"{role}-{world.rank:04d}.jsonl", role, world.rank)
    status = StatusPost(lambda record: wires.board.put(world.rank, record), events)
    watchdog = Watchdog(facts.directory / "logs" / f"{role}-{world.rank:04d}.log", events, log,
                        config.faults.hang_after)
    vigil = Vigil(layout, world.rank, world.hosts, wires.losses, None if layout.staged else wires.board.get, watchdog,
                  config.faults, log, stopped=lambda: neighbourhood.stopped,
                  ended=lambda: neighbourhood.ended)
    status.within, status.patience = config.faults.hang_after, config.faults.start_within
    status.beat = vigil.look
    if wires.network is not None:
        wires.network.watch = vigil.tick
    status.update(now=True, state=State.STARTING, activity=Activity.STARTING, within=config.faults.start_within)
    run, ends = config.run, {name: wire for name, wire in vars(wires).items() if name != "losses"}
    left = time_left(run.duration, run.margin, facts.job_end, facts.begun, time.time())
    control = Control(*left, run.margin, signals, ends.pop("register"),
                      lambda stop: status.update(now=True, wants_stop=stop))
    return Context(config, facts, layout, world.rank, role, world.gpu(layout), control, events, status, log,
                   vigil=vigil, **ends)


def cast(role: str) -> type:
    """The class of a role; its module is imported by name, so that no rank loads another role's libraries."""
    return getattr(importlib.import_module(f".roles.{role}", __package__), role.capitalize())


def describe(world, layout, facts, role: str) -> None:
    """Write ``environment.json`` on rank 0. Collective over the world."""
    host, gpu = world.hosts[world.node], world.gpu(layout)
    mine = {"rank": world.rank, "role": role, "host": host, "pid": os.getpid(), "gpu": gpu}
    ranks = world.comm.gather(mine, root=0)
    if world.rank == 0:
        path = facts.directory / "environment.json"
        with written(path):
            rundir.write_json(path, rundir.environment(ranks, world.mpi))

