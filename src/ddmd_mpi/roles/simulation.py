"""The simulation role: advance my walkers in turn, stream their frames, obey my mailboxes."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from ..frames import CommandKind, FrameBlock, Hop, Receipt, RestartCommand
from ..status import STOP_REASONS, Activity, State
from ..wiring import SIMULATION
from .checkpointing import Checkpoints
from .context import Context
from .ensemble import Ensemble
from .walker import Walker


class Simulation(Ensemble):
    """One simulation rank."""

    def __init__(self, context: Context):
        super().__init__(context)
        self.commands: dict[int, RestartCommand] = {}
        self.rows: list[dict] = []
        self.oldest = 0.0
        self.told_to_stop = False

    def run(self) -> None:
        """Simulate until the time is up or a stop is commanded, then end the stream."""
        context = self.context
        (self.outbox,) = context.outboxes(SIMULATION)
        self.begin()
        self.checkpoints = Checkpoints(context, self.snapshot)
        context.status.update(now=True, state=State.RUNNING, activity=Activity.MD)
        while not self.stopping():
            active = [w for w in self.walkers if w.active]
            if not active:
                break
            for walker in active:
                self.turn(walker)
            self.checkpoints.look()
            self.pause(active)
        self.finish()

    def turn(self, walker: Walker) -> None:
        """One report of one walker: command, integration, frame."""
        row, command = None, None if walker.under_way else self.command(walker.index)
        with self.context.on_record(), self.patience(walker, command), self.contained(walker):
            if command is not None:
                self.restart(walker, command, self.coordinates(command))
            row = walker.report(self.stopping)
        if row is not None:
            self.oldest = self.oldest if self.rows else time.monotonic()
            self.rows.append(row)
        self.ship()
        self.post()

    def patience(self, walker: Walker, command: RestartCommand | None) -> AbstractContextManager[None]:
        """The first steps with a topology may take as long as a start."""
        topology = walker.topology if command is None else command.topology
        if walker.steps and topology == walker.topology:
            return nullcontext()
        return self.context.status.expect_silence(f"first steps with topology {topology}")

    def coordinates(self, command: RestartCommand) -> tuple[np.ndarray, ...] | None:
        """The commanded frame from its ring; None when it is not kept any more, or its topology is unknown."""
        n_atoms = self.context.facts.n_atoms_of(command.topology)
        if n_atoms is None:
            self.context.log.warning("decision %d names the unknown topology %d: refused", command.decision,
                                     command.topology)
            return None
        return self.context.ring.fetch(command.aggregator, command.ring_slot, command.slot_generation, n_atoms)

    def command(self, walker: int) -> RestartCommand | None:
        """The newest restart command for a walker that was not seen before."""
        self.look()
        return self.commands.pop(walker, None)

    def look(self) -> None:
        """Read every mailbox of mine: a stop holds at once, a restart at its walker's next report."""
        clock = time.perf_counter()
        for walker in self.walkers:
            command = self.context.mailboxes.poll(walker.index)
            if command is not None and command.kind == CommandKind.STOP:
                self.told_to_stop = True
            elif command is not None and command.kind == CommandKind.RESTART:
                self.commands[walker.index] = command
        self.context.events.add("mailbox", time.perf_counter() - clock)

    def stopping(self) -> bool:
        """Whether time is up or a stop was commanded."""
        self.look()
        self.context.status.update()
        return self.told_to_stop or self.context.left_s <= 0

    def answer(self, walker: int, receipt: Receipt) -> None:
        """Put the receipt of a walker's command into its mailbox."""
        self.context.mailboxes.answer(walker, receipt)

    def ship(self, *, everything: bool = False) -> None:
        """Hand the frames gathered so far to the stream when they are many or old enough."""
        settings = self.context.config.streams
        due = len(self.rows) >= settings.block_frames or time.monotonic() - self.oldest > settings.block_delay
        if self.rows and (due or everything):
            with self.context.events.counted("io"):
                payloads = [block.pack(Hop.COORDINATES) for block in FrameBlock.by_topology(self.rows, Hop.COORDINATES)]
            for payload in payloads:
                self.outbox.offer(payload)
            self.rows = []
        self.outbox.pump()

    def finish(self) -> None:
        """Write a checkpoint, close the trajectories, ship what is left and end the stream."""
        self.post(now=True, state=State.DRAINING, activity=Activity.DRAINING)
        self.checkpoints.last()
        self.end()
        self.ship(everything=True)
        self.outbox.flush(self.context.given_up)
        self.outbox.writer.close()
        self.post(now=True, stop=self.stop_reason())

    def stop_reason(self) -> int:
        """Why this rank stopped, as an index of the reasons."""
        if self.told_to_stop:
            return STOP_REASONS.index("target_rmsd")
        if self.context.left_s <= 0:
            return STOP_REASONS.index(self.context.control.reason)
        retired = all(walker.retired for walker in self.walkers)
        return STOP_REASONS.index("failure" if retired else "all simulations ended")
