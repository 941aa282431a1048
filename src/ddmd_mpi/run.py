"""The life of a run, the same on every rank: launch, agree on the plan, wire up, play my role, leave."""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import config as configuration
from . import logs, rundir
from .config import Config
from .errors import DDMDError
from .events import EventLog
from .status import STATUS_DTYPE, Activity, State, StatusPost
from .wiring import Link, links

#: One thread per rank unless a role asks for more: ranks share cores.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ROLE_CLASSES = {"simulation": "Simulation", "aggregation": "Aggregation", "training": "Training",
                "inference": "Inference"}
FAILED = 1


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    usecase: str
    file: Path | None = None
    assignments: tuple[str, ...] = ()
    output: Path | None = None

    def load(self) -> Config:
        """The resolved settings."""
        return configuration.load(self.usecase, self.file, self.assignments)


def run(options: Options) -> int:
    """Run the loop; the exit code. Collective over the world."""
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    from .parallel.launch import launch

    world = launch()
    try:
        config, layout, facts = world.agree(lambda: prepare(options, world))
    except DDMDError as error:
        if world.rank == 0:
            sys.stderr.write(f"ddmd-mpi: {error}\n")
            sys.stderr.flush()
        world.comm.Barrier()
        return 2
    deadline = time.monotonic() + config.run.duration - (time.time() - facts.started)
    log = logs.configure(facts.directory / "logs" / f"{layout.roles[world.rank]}-{world.rank:04d}.log",
                         layout.roles[world.rank], world.rank)
    try:
        play(world, config, layout, facts, deadline, log)
    except Exception as error:  # The last stop: whatever went wrong in a role ends the whole job with its reason.
        sentence = str(error) if isinstance(error, DDMDError) else f"{type(error).__name__}: {error}"
        log.error("%s rank %d failed: %s", layout.roles[world.rank], world.rank, sentence)
        log.info("%s", traceback.format_exc())
        world.abort(FAILED)
    return 0


def prepare(options: Options, world: object) -> tuple:
    """Settings, layout, facts and the fresh run directory: everything that can be refused is refused here.

    Runs on rank 0, before any role starts.
    """
    from .md.engine import check_platform
    from .md.structures import load_structures
    from .parallel import layout as layouts
    from .roles.context import Facts
    from .streams import check_engine

    started = time.time()
    config = options.load()
    layout = layouts.plan(world.nodes, world.gpus_per_node, config.ranks, config.simulation.walkers_per_rank)
    structures = load_structures(config.system)
    check_platform(config.simulation, next((g for g in layout.gpu if g is not None), None))
    check_engine(config.streams)
    directory = rundir.create(options.output or config.output.directory, config.run.usecase)
    rundir.write_text(directory / "config.toml", configuration.to_toml(config))
    names = tuple(p.name for p in config.features.order_parameters)
    return config, layout, Facts(len(structures.positions_nm), len(structures.descriptor), names, directory, started)


def play(world, config: Config, layout, facts, deadline: float, log) -> None:
    """Wire this rank up, play its role to the end, take everything down. Collective over the world."""
    from .parallel.mailbox import Mailboxes
    from .parallel.register import Registers
    from .parallel.ring import CoordinateRing
    from .roles.context import CREDIT_DTYPE, Context
    from .streams import Network

    role, comm = layout.roles[world.rank], world.comm
    describe(world, layout, facts, role)
    wires: tuple[Link, ...] = links(layout)
    aggregators = layout.ranks("aggregation")
    hosts = [layout.aggregator_of[layout.simulation_rank_of(w)] for w in range(layout.n_walkers)]
    mailboxes = Mailboxes(comm, hosts)
    ring = CoordinateRing(comm, aggregators, walkers_by_aggregator(aggregators, hosts), facts.n_atoms,
                          int(config.aggregation.ring_mb * 2**20))
    credits = Registers(comm, [link.host for link in wires], CREDIT_DTYPE)
    board = Registers(comm, [aggregators[0]] * world.size, STATUS_DTYPE)
    network = Network(comm, world.node_comm, config.streams, facts.directory / "streams")
    events = EventLog(facts.directory / "events" / f"{role}-{world.rank:04d}.jsonl", role, world.rank)
    with events:
        status = StatusPost(lambda record: board.put(world.rank, record), events)
        status.update(now=True, state=State.STARTING, activity=Activity.STARTING)
        context = Context(config, facts, layout, world.rank, role, wires, network, mailboxes, ring, credits, board,
                          events, status, log, deadline)
        log.info("ready to start after %.2f s", time.time() - facts.started)
        importlib.import_module(f".roles.{role}", __package__).__dict__[ROLE_CLASSES[role]](context).run()
        status.update(now=True, state=State.DONE, activity=Activity.DONE)
    leave(world, [network.free, mailboxes.free, ring.free, credits.free, board.free])


def leave(world, releases: list[Callable[[], None]]) -> None:
    """Wait for every rank without burning its core, then release windows and streams. Collective over the world."""
    barrier = world.comm.Ibarrier()
    while not barrier.Test():
        time.sleep(0.005)
    for release in releases:
        release()
    world.free()


def describe(world, layout, facts, role: str) -> None:
    """Write ``environment.json`` and the topology on rank 0. Collective over the world."""
    mine = {"rank": world.rank, "role": role, "host": world.host, "pid": os.getpid(), "gpu": layout.gpu[world.rank]}
    ranks = world.comm.gather(mine, root=0)
    if world.rank == 0:
        rundir.write_json(facts.directory / "environment.json", rundir.environment(ranks, world.mpi))


def walkers_by_aggregator(aggregators: tuple[int, ...], hosts: list[int]) -> list[np.ndarray]:
    """The walkers whose frames each aggregator keeps, by aggregator index."""
    return [np.flatnonzero(np.array(hosts) == rank) for rank in aggregators]
