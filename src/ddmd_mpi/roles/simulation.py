"""The simulation role: advance my walkers in turn, stream their frames, poll my mailboxes."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import cast

from ..config.dynamics import PROGRAMS
from ..frames.block import FrameBlock, Hop
from ..frames.command import CommandKind, RestartCommand
from ..layout.links import SIMULATION
from ..monitor.status import Activity, State, StopReason
from ..streams.waiting import PAUSE
from .batched_walker import Batch, BatchedWalker, blocks_of, newest_row
from .checkpoint import Checkpoints
from .context import StreamContext
from .ensemble import Ensemble
from .pace import Pace
from .preparation import Preparation
from .restart_points import Coordinates
from .walker import Walker


class Simulation:
    """One simulation rank."""

    def __init__(self, context: StreamContext):
        self.context = context
        self.ensemble = Ensemble(context, context.mailboxes.answer)
        self.checkpoints: Checkpoints | None = None  # once the work has begun
        self.commands: dict[int, RestartCommand] = {}
        self.rows: list[dict] = []
        self.batches: list[Batch] = []  # of walkers that give many reports at once
        self.pace = Pace(context.config.round_reports if context.config.paced else None)
        self.oldest = 0.0
        self.told_to_stop = False

    def run(self) -> None:
        """Simulate until the time is up or a stop is commanded, then end the stream."""
        context = self.context
        (self.outbox,) = context.streams.outboxes(SIMULATION)
        self.ensemble.begin()
        self.prepare()
        self.checkpoints = checkpoints = Checkpoints(context, self.ensemble.snapshot)
        self.post(now=True, state=State.RUNNING)
        while not self.stopping():
            self.admit()
            active = [w for w in self.ensemble.walkers if w.active]
            if not active and not self.preparation:
                break
            if self.ensemble.batched:
                self.batch(active)
            else:
                for walker in active:
                    if not self.stopping():
                        self.turn(walker)
            checkpoints.look()
            self.ensemble.pause(active)
        self.finish(checkpoints)

    def prepare(self) -> None:
        """Put fresh walkers on their start, in a thread if that may take long.

        On the Reference platform, which is for tiny systems, all walkers of a process draw from one sequence of random
        numbers: there they start in turn, so that equal seeds give equal trajectories.
        """
        fresh = [] if self.ensemble.emulated else [w for w in self.ensemble.walkers if w.fresh]
        at_once = [w for w in fresh if w.engine.platform == "Reference"]
        for walker in at_once:
            self.context.heartbeat()
            with self.ensemble.contain_engine_errors(walker):
                walker.prepare()
        self.preparation = Preparation([w for w in fresh if w not in at_once])

    def admit(self) -> None:
        """Let the walkers move that have become ready; a start that fails is a failure of its walker."""
        while (done := self.preparation.done()) is not None:
            walker, result = done
            with self.ensemble.contain_engine_errors(walker):
                result.result()
            self.post(now=True)

    def post(self, *, now: bool = False, **values: float) -> None:
        """Tell the board how far this rank is, and what it prepares."""
        moving = any(w.active for w in self.ensemble.walkers) or not self.preparation
        self.context.status.update(
            now=now,
            **{
                **self.ensemble.progress(),
                "activity": Activity.MD if moving else Activity.PREPARING,
                "preparing": len(self.preparation),
                "prepares": self.preparation.topology,
                **values,
            },
        )

    def turn(self, walker: Walker) -> None:
        """One report of one walker: command, integration, frame."""
        row, command = None, None if walker.propagator.under_way else self.command(walker.index)
        with (
            self.context.stop_on_disk_error(),
            self.patience(walker, command),
            self.ensemble.contain_engine_errors(walker),
        ):
            if command is not None:
                self.ensemble.restart(walker, command, self.coordinates(walker.index, command))
            row = walker.report(self.stopping)
        if row is not None:
            self.ensemble.show(row)
            self.oldest = self.oldest if self.rows else time.monotonic()
            self.rows.append(row)
        self.ship()
        self.post()

    def batch(self, walkers: list[Walker]) -> None:
        """Many reports of each walker, whose engines give them at once: mailboxes are read between two batches."""
        stopping = self.stopping()
        while len(self.outbox) and not stopping:  # they come faster than they are taken
            time.sleep(PAUSE)
            self.outbox.pump()
            stopping = self.stopping()
        if stopping:
            return
        for walker in walkers:
            command = self.arrived(walker.index)
            with self.context.stop_on_disk_error(), self.ensemble.contain_engine_errors(walker):
                if command is not None:
                    self.pace.answer(walker.index)
                    self.ensemble.restart(walker, command, self.coordinates(walker.index, command))
                n_reports = min(self.pace.left(walker.index), self.context.config.emulation.batch_reports)
                self.gather(cast("BatchedWalker", walker).reports(n_reports))
            if walker.retired:
                self.pace.lift()  # a round that lacks its frames is late
        if all(self.pace.left(walker.index) == 0 for walker in walkers):
            time.sleep(PAUSE)
        self.ship()
        self.post()

    def gather(self, batch: Batch | None) -> None:
        """Keep a batch until it is shipped; a program that watches its walker sees the newest frame."""
        if batch is not None:
            self.ensemble.show(newest_row(batch))
            self.oldest = self.oldest if self.batches else time.monotonic()
            self.batches.append(batch)
            self.pace.count(batch.walker, len(batch))

    def patience(self, walker: Walker, command: RestartCommand | None) -> AbstractContextManager[None]:
        """The first steps with a topology may take as long as a start, and so may each restart of a program."""
        topology = walker.topology if command is None else command.topology
        if command is not None and self.context.config.simulation.engine in PROGRAMS:
            return self.context.heartbeat.expect_silence("restart of a program")
        if walker.propagator.steps and topology == walker.topology:
            return nullcontext()
        return self.context.heartbeat.expect_silence(f"first steps with topology {topology}")

    def coordinates(self, walker: int, command: RestartCommand) -> Coordinates | None:
        """The commanded frame; None if its ring does not hold it any more, or its topology is unknown."""
        n_atoms = self.context.info.n_atoms_of(command.topology)
        if n_atoms is None:
            self.context.log.warning(
                "decision %d names the unknown topology %d: refused", command.decision, command.topology
            )
            return None
        return self.context.plane.delivery.take(walker, command, n_atoms)

    def command(self, walker: int) -> RestartCommand | None:
        """The newest restart command for a walker that was not seen before, once its frame is here."""
        self.look()
        return self.arrived(walker)

    def arrived(self, walker: int) -> RestartCommand | None:
        """As :meth:`command`, of those that were read."""
        command = self.commands.get(walker)
        if command is None:
            return None
        unknown = self.context.info.n_atoms_of(command.topology) is None
        return self.commands.pop(walker) if unknown or self.context.plane.delivery.arrived(walker, command) else None

    def look(self) -> None:
        """Read every mailbox of mine: a stop holds at once, a restart at its walker's next report."""
        clock = time.perf_counter()
        for walker in self.ensemble.walkers:
            command = self.context.mailboxes.poll(walker.index)
            if command is not None and command.kind == CommandKind.STOP:
                self.told_to_stop = True
            elif command is not None and command.kind == CommandKind.RESTART:
                self.commands[walker.index] = command
            elif command is not None:
                self.pace.answer(walker.index)
        self.context.plane.progress()
        self.context.events.add("mailbox", time.perf_counter() - clock)

    def stopping(self) -> bool:
        """Whether time is up or a stop was commanded."""
        self.look()
        self.context.heartbeat()
        return self.context.control.poll() or self.told_to_stop

    def ship(self, *, everything: bool = False) -> None:
        """Hand the frames gathered so far to the stream when they are many or old enough."""
        settings = self.context.config.streams
        n_frames = len(self.rows) + sum(len(batch) for batch in self.batches)
        due = n_frames >= settings.block_frames or time.monotonic() - self.oldest > settings.block_delay
        if n_frames and (due or everything):
            with self.context.events.counted("io"):
                blocks = FrameBlock.by_topology(self.rows, Hop.COORDINATES) + blocks_of(self.batches)
                payloads = [block.pack(Hop.COORDINATES) for block in blocks]
            for payload in payloads:
                self.outbox.offer(payload)
            self.rows, self.batches = [], []
        self.outbox.pump()

    def finish(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint, close the trajectories, ship what is left and end the stream."""
        self.post(now=True, state=State.DRAINING, activity=Activity.DRAINING)
        with self.context.heartbeat.expect_silence("preparation"):  # an iteration of the minimiser at most
            self.preparation.free()
        checkpoints.last()
        self.ensemble.end()
        self.ship(everything=True)
        self.outbox.flush(self.context.should_give_up)
        self.outbox.writer.close()
        self.post(now=True, activity=Activity.DRAINING, stop=self.stop_reason())

    def stop_reason(self) -> StopReason:
        """Why this rank stopped."""
        if self.told_to_stop:
            return StopReason.TARGET_RMSD
        if self.context.control.over:
            return self.context.control.reason
        retired = all(walker.retired for walker in self.ensemble.walkers)
        return StopReason.FAILURE if retired else StopReason.ALL_ENDED
