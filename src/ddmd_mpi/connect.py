"""The connections of a run: windows, messages and streams, and the context of a role."""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .faults.heartbeat import Heartbeat
from .faults.stop import CONTROL_DTYPE, Control, time_left
from .faults.watchdog import Watchdog
from .layout.file_mode import StageLayout
from .layout.links import homes, links
from .monitor import logs
from .monitor.events import EventLog
from .monitor.status import STATUS_DTYPE, Activity, State, StatusPost
from .rundir.directory import environment
from .rundir.disk import disk_errors, write_json

if TYPE_CHECKING:
    from .config.schema import Config
    from .faults.detector import FailureDetector
    from .faults.processes import NodeProcesses
    from .faults.stop import Signals
    from .layout.links import Link
    from .parallel.bare_mpi import MPI
    from .parallel.board import MessageBoard
    from .parallel.failures import Losses, MessageLosses
    from .parallel.launch import World
    from .parallel.plane import ControlPlane
    from .parallel.tree import Bulletin
    from .prepare import Plan
    from .roles.context import StageContext, StreamContext
    from .streams.network import Network


@dataclass(frozen=True)
class Journal:
    """What this rank writes of itself: its log and its events; and the watchdog that ends it if it writes no more."""

    log: logging.Logger
    events: EventLog
    watchdog: Watchdog


@dataclass(frozen=True)
class Connections(ABC):
    """What connects this rank with others.

    Parameters
    ----------
    comm
        The ranks of my role.
    detector
        Who is lost.
    """

    comm: MPI.Comm
    detector: FailureDetector

    @abstractmethod
    def abandon(self) -> None:
        """Release what can be released without the other ranks: some may be lost."""

    @abstractmethod
    def free(self) -> None:
        """Release windows, streams and communicators. Collective over the world."""


@dataclass(frozen=True)
class StreamConnections(Connections):
    """Those of stream mode: windows, and the streams of the plan."""

    plane: ControlPlane
    links: tuple[Link, ...]
    network: Network

    def abandon(self) -> None:
        """See :class:`Connections`."""
        self.network.free()

    def free(self) -> None:
        """See :class:`Connections`."""
        self.network.free()
        self.plane.free()
        self.comm.Free()


@dataclass(frozen=True)
class FileConnections(Connections):
    """Those of file mode: messages with status records."""

    board: MessageBoard

    def abandon(self) -> None:
        """See :class:`Connections`."""

    def free(self) -> None:
        """See :class:`Connections`."""
        self.board.free()
        self.comm.Free()


def open_journal(plan: Plan, rank: int) -> Journal:
    """Open this rank's log and events; from now on a watchdog looks after it."""
    config, directory, role = plan.config, plan.info.directory, plan.layout.roles[rank]
    name = f"{role}-{rank:04d}"
    path = directory / "logs" / f"{name}.log"
    with disk_errors(path):
        log = logs.configure(path, role, rank)
        events = EventLog(directory / "events" / f"{name}.jsonl", role, rank)
        watchdog = Watchdog(path, events, log, config.faults.hang_after)
    watchdog.beat(config.faults.start_within, on_disk=True)  # ranks wait for each other, asleep, until all can play
    return Journal(log, events, watchdog)


def connect(world: World, plan: Plan, journal: Journal, processes: NodeProcesses) -> Connections:
    """Make the windows, the failure detector and the network. Collective over the world."""
    from .parallel.board import MessageBoard
    from .parallel.failures import MessageLosses

    config, layout = plan.config, plan.layout
    if layout.staged:
        detector = failure_detector(world, plan, journal, processes, MessageLosses(world.comm), None)
        board = MessageBoard(world.comm, len(layout.status_slots), STATUS_DTYPE)
        return FileConnections(world.split(layout), detector, board)
    from .streams.network import Network

    plane = control_plane(world, plan)
    detector = failure_detector(world, plan, journal, processes, plane.losses, plane)
    streams, directory = links(layout), plan.info.directory / "streams"
    network = Network(world.comm, world.node_comm, config.streams, directory, streams, detector.poll)
    return StreamConnections(world.split(layout), detector, plane, streams, network)


def failure_detector(
    world: World,
    plan: Plan,
    journal: Journal,
    processes: NodeProcesses,
    losses: Losses | MessageLosses,
    plane: ControlPlane | None,
) -> FailureDetector:
    """What finds lost ranks, with the plane of stream mode or without."""
    from .faults.detector import FailureDetector

    return FailureDetector(
        layout=plan.layout,
        rank=world.rank,
        hosts=world.hosts,
        losses=losses,
        plane=plane,
        home=homes(plan.layout)[world.rank] if plane else None,
        processes=processes,
        watchdog=journal.watchdog,
        settings=plan.config.faults,
        log=journal.log,
    )


def control_plane(world: World, plan: Plan) -> ControlPlane:
    """The windows of stream mode. Collective over the world."""
    from .parallel.plane import ControlPlane
    from .roles.checkpoint import ANNOUNCEMENT_DTYPE

    return ControlPlane(
        world,
        plan.layout,
        links(plan.layout),
        homes(plan.layout),
        status=STATUS_DTYPE,
        orders=CONTROL_DTYPE,
        announcement=ANNOUNCEMENT_DTYPE,
        n_atoms=plan.info.n_atoms,
        ring_nbytes=int(plan.config.aggregation.ring_mb * 1e6),
        n_atoms_of=plan.info.n_atoms_of,
    )


def build_context(
    world: World, plan: Plan, connections: Connections, journal: Journal, signals: Signals
) -> StreamContext | StageContext:
    """The context of this rank's role; tells the others that it starts. Collective over the world."""
    for warning in plan.layout.warnings if world.rank == 0 else ():
        journal.log.warning("%s", warning)
    describe(world, plan)
    if isinstance(connections, StreamConnections):
        return stream_context(world, plan, connections, journal, signals)
    if isinstance(connections, FileConnections) and isinstance(plan.layout, StageLayout):
        return stage_context(world, plan, plan.layout, connections, journal, signals)
    raise TypeError(f"no context for {type(connections).__name__}")


def stream_context(
    world: World, plan: Plan, connections: StreamConnections, journal: Journal, signals: Signals
) -> StreamContext:
    """The context of a role in stream mode."""
    from .roles.context import StreamContext
    from .streams.ends import StreamEnds

    plane = connections.plane
    streams = StreamEnds(
        connections.network,
        plane.credits,
        connections.links,
        rank=world.rank,
        roles=plan.layout.roles,
        settings=plan.config.streams,
        spend=partial(journal.events.add, "io"),
        log=journal.log,
    )
    status = StatusPost(plane.post, journal.events, streams.traffic)
    start(status, connections.detector, plan.config)
    return StreamContext(
        config=plan.config,
        info=plan.info,
        layout=plan.layout,
        rank=world.rank,
        role=plan.layout.roles[world.rank],
        gpu=world.gpu(plan.layout),
        comm=connections.comm,
        control=control(plan, signals, status, plane.bulletin),
        events=journal.events,
        status=status,
        log=journal.log,
        heartbeat=Heartbeat(status, connections.detector, plan.config.faults),
        detector=connections.detector,
        board=plane.board,
        mailboxes=plane.mailboxes,
        plane=plane,
        streams=streams,
    )


def stage_context(
    world: World, plan: Plan, layout: StageLayout, connections: FileConnections, journal: Journal, signals: Signals
) -> StageContext:
    """The context of the first stage that this rank plays in file mode."""
    from .roles.context import StageContext

    board = connections.board
    status = StatusPost(lambda record: board.put(world.rank, record), journal.events)
    start(status, connections.detector, plan.config)
    return StageContext(
        config=plan.config,
        info=plan.info,
        layout=layout,
        rank=world.rank,
        role=plan.layout.roles[world.rank],
        gpu=world.gpu(plan.layout),
        comm=connections.comm,
        control=control(plan, signals, status, None),
        events=journal.events,
        status=status,
        log=journal.log,
        heartbeat=Heartbeat(status, connections.detector, plan.config.faults),
        detector=connections.detector,
        board=board,
    )


def start(status: StatusPost, detector: FailureDetector, config: Config) -> None:
    """Tell the others that this rank starts, and promise that it has started in time."""
    within = config.faults.start_within
    status.update(now=True, state=State.STARTING, activity=Activity.STARTING, within=within)
    detector.check(within, on_disk=True)


def control(plan: Plan, signals: Signals, status: StatusPost, orders: Bulletin | None) -> Control:
    """What knows when the run ends."""
    run, info = plan.config.run, plan.info
    left_s, reason = time_left(run.duration, run.margin, info.job_end, info.begun, time.time())
    return Control(
        left_s=left_s,
        reason=reason,
        drain_s=run.drain,
        grace_s=run.margin,
        signals=signals,
        orders=orders,
        tell=lambda stop: status.update(now=True, wants_stop=stop),
        job_left_s=float("inf") if info.job_end is None else info.job_end - run.margin - time.time(),
    )


def describe(world: World, plan: Plan) -> None:
    """Write ``environment.json`` on rank 0. Collective over the world."""
    role, host, gpu = plan.layout.roles[world.rank], world.hosts[world.node], world.gpu(plan.layout)
    mine = {"rank": world.rank, "role": role, "host": host, "pid": os.getpid(), "gpu": gpu}
    ranks = world.comm.gather(mine, root=0)
    if ranks is not None:
        path = plan.info.directory / "environment.json"
        with disk_errors(path):
            write_json(path, environment(ranks, world.mpi))
