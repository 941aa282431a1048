"""The life of a run, the same on every rank: launch, agree on the plan, wire up, play my role, leave."""

from __future__ import annotations

import faulthandler
import importlib
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np

from . import __version__, logs, resuming, rundir
from . import config as configuration
from .checkpoints import Store, cure
from .disk import written
from .errors import ConfigError, DDMDError, LayoutError, LostRankError, StreamError, sentence
from .events import EventLog
from .processes import Neighbourhood, neighbours
from .sections import Config, FaultsSection
from .status import STATUS_DTYPE, Activity, State, StatusPost
from .stopping import BEGIN_VARIABLE, CONTROL_DTYPE, Control, Signals, begin, job_end, time_left
from .summary import ROLES
from .wiring import Link, links

T = TypeVar("T")

#: One thread per rank unless a role asks for more: ranks share cores.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
BAD_INPUT, FAILED = 2, 1
#: How long ranks that leave without MPI wait for those that may still read their window memory.
LEAVE_SECONDS = 5.0
#: How long a rank looks whether an error comes from the loss of another one.
EXPLAIN_SECONDS = 2.0
#: How long ranks wait for the one that says why the run ends, and how much longer each than the one before it.
GRACE_SECONDS, TURN_SECONDS = 20.0, 1.0


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


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    usecase: str
    file: Path | None = None
    assignments: tuple[str, ...] = ()
    output: Path | None = None
    resume: Path | None = None

    def load(self) -> Config:
        """The resolved settings."""
        return configuration.load(self.usecase, self.file, self.assignments)


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


def nobody_simulates(context) -> bool:
    """Whether all simulation ranks are lost; every other rank then ends with its part of the exit code."""
    lost = context.vigil.lost
    return bool(lost) and lost.issuperset(context.layout.ranks("simulation"))


def open_log(directory: Path, role: str, rank: int):
    """This rank's log."""
    path = directory / "logs" / f"{role}-{rank:04d}.log"
    with written(path):
        return logs.configure(path, role, rank)


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
        if turn and said_by_another(world, GRACE_SECONDS + turn * TURN_SECONDS):
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


def said_by_another(world, seconds: float) -> bool:
    """Whether another rank says within so many seconds why the run ends, or the launcher is gone, so that none can."""
    deadline, launcher = time.monotonic() + seconds, os.getppid()
    while time.monotonic() < deadline:
        if world.it_was_said() or os.getppid() != launcher:
            return True
        time.sleep(0.02)
    return False


def wait_for_the_end() -> NoReturn:
    """Let the rank that has said why end the job: where all abort at a time, Open MPI's launcher may hang."""
    deadline, launcher = time.monotonic() + LEAVE_SECONDS, os.getppid()
    while time.monotonic() < deadline and os.getppid() == launcher:
        time.sleep(0.02)
    os._exit(FAILED)


def explain(world, error: Exception) -> Exception:
    """The loss that an error of MPI comes from, while nobody watches yet; else the error."""
    from .parallel.losses import failed_ranks

    deadline = time.monotonic() + EXPLAIN_SECONDS
    while not (lost := sorted(failed_ranks(world.comm))) and time.monotonic() < deadline:
        time.sleep(0.05)
    if not lost:
        return error
    host = world.hosts[world.nodes[lost[0]]]
    return LostRankError(f"rank {lost[0]} (on {host}) is lost: its process has ended before the run had begun; "
                         "start it again")


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


def prepare(options: Options, world: object) -> tuple:
    """Settings, layout, facts and the fresh run directory: everything that can be refused is refused here.

    Runs on rank 0, before any role starts.
    """
    from .md.engines import check_engine
    from .parallel.stages import PLANS
    from .roles.context import Facts

    started, manifest = time.time(), None
    if options.resume is None:
        config = options.load()
    else:
        config, manifest = resuming.find(options.resume.absolute(), options.assignments)
    plan = PLANS[config.run.mode]
    layout = plan(world.nodes, world.gpus_per_node, config.ranks, config.simulation.walkers_per_rank,
                  manifest and manifest.about["n_walkers"])
    if layout.n_walkers < 2 and config.steering.strategy != "none":
        raise LayoutError("one walker cannot be steered: set simulation.walkers_per_rank to 2 or more")
    end, begun = job_end(os.environ, started), begin(os.environ, started)
    left_s, reason = time_left(config.run.duration, config.run.margin, end, begun, started)
    if left_s <= 0 and reason == "duration":
        raise ConfigError(f"run.duration has been over for {-left_s:.0f} s, counted from {BEGIN_VARIABLE}: raise it, "
                          "or unset that variable")
    if left_s <= 0:
        raise ConfigError(f"the job ends in {end - started:.0f} s and run.margin is {config.run.margin:.0f} s: lower "
                          "run.margin, or correct DDMD_MPI_END_TIME")
    directory = options.resume.absolute() if manifest else fresh_directory(options, config)
    try:
        found = found_topologies(config, None if manifest else directory / "topology")
        check_ligands(config, layout.n_walkers)
        check_engine(config, max(found.atoms_of), next((g for g in layout.gpu if g is not None), None))
        session = resuming.reopen(directory) if manifest else 0
        with written(directory / "config.toml"):
            rundir.write_text(directory / "config.toml", configuration.to_toml(config))
    except DDMDError:
        if manifest is None:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    names = tuple(p.name for p in config.features.order_parameters)
    about = {"program_version": __version__, "system": config.system.name, "n_walkers": layout.n_walkers}
    return config, layout, Facts(max(found.atoms_of), len(found.target_nm), names, directory, started, about, session,
                                 manifest, Store(directory).last_number, end, *found, begun=begun)


def fresh_directory(options: Options, config: Config) -> Path:
    """The directory of a new run."""
    return rundir.create(options.output or config.output.directory, config.run.usecase, config.run.mode)


def check_ligands(config: Config, n_walkers: int) -> None:
    """Raise a LayoutError if the walkers cannot be given to the complexes as the settings ask."""
    n, settings = len(config.system.complexes), config.steering
    if n_walkers < n:
        raise LayoutError(f"{n} complexes need at least {n} walkers and there are {n_walkers}: use more ranks, or set "
                          f"simulation.walkers_per_rank higher")
    if n and n * settings.walkers_per_ligand_min > n_walkers:
        raise LayoutError(f"{n} complexes of {settings.walkers_per_ligand_min} walkers at least need more than the "
                          f"{n_walkers} walkers: set steering.walkers_per_ligand_min lower")
    if n and settings.walkers_per_ligand_max is not None and n * settings.walkers_per_ligand_max < n_walkers:
        raise LayoutError(f"{n} complexes of {settings.walkers_per_ligand_max} walkers at most have no place for "
                          f"{n_walkers} walkers: set steering.walkers_per_ligand_max higher")


class Found(NamedTuple):
    """What the topologies are like."""

    atoms_of: tuple[int, ...]
    target_nm: np.ndarray


def found_topologies(config: Config, directory: Path | None) -> Found:
    """Check every topology and write it into `directory`; None where it lies there already."""
    from .md.engines import check_motion
    from .md.topologies import check_topologies
    from .md.trajectory import write_topology

    atoms_of, target_nm = [], None
    for topology in check_topologies(config):
        check_motion(config, topology.structures)
        if directory is not None:
            path = directory / f"{topology.name}.pdb"
            with written(path):
                write_topology(topology.structures, path)
                if topology.pose is not None:
                    rundir.write_json(path.with_suffix(".json"), topology.atoms())
        atoms_of.append(topology.n_atoms)
        target_nm = topology.structures.target_nm
    return Found(tuple(atoms_of), target_nm)


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
    watchdog = Watchdog(facts.directory / "logs" / f"{role}-{world.rank:04d}.log", events, log)
    vigil = Vigil(layout, world.rank, world.hosts, wires.losses, None if layout.staged else wires.board.get, watchdog,
                  config.faults, log, stopped=lambda: neighbourhood.stopped)
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
    if code:  # the launcher may not look at the code of a process that leaves without MPI
        sys.stdout.flush()
        sys.stderr.flush()
        if context.leads:
            world.abort(code)
        wait_for_the_end()
    roles = {"aggregation": ("simulation", "training", "inference")}.get(context.role, ())
    deadline = time.monotonic() + LEAVE_SECONDS
    while not context.vigil.others_have_left(ROLES if context.leads else roles) and time.monotonic() < deadline:
        time.sleep(0.01)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def describe(world, layout, facts, role: str) -> None:
    """Write ``environment.json`` on rank 0. Collective over the world."""
    host, gpu = world.hosts[world.node], world.gpu(layout)
    mine = {"rank": world.rank, "role": role, "host": host, "pid": os.getpid(), "gpu": gpu}
    ranks = world.comm.gather(mine, root=0)
    if world.rank == 0:
        path = facts.directory / "environment.json"
        with written(path):
            rundir.write_json(path, rundir.environment(ranks, world.mpi))

