"""The simulation role: advance my walkers in turn, stream their frames, obey my mailboxes."""

from __future__ import annotations

import time

import numpy as np

from ..errors import EngineError
from ..frames import CommandKind, FrameBlock, Hop, Outcome, Receipt, RestartCommand
from ..md.affinity import stay_on_one_core
from ..md.engines import check_engine, engine_maker
from ..md.structures import load_structures
from ..md.trajectory import Trajectory
from ..status import STOP_REASONS, Activity, State
from ..structure.features import FeatureCalculator
from ..wiring import SIMULATION
from .context import Context
from .emulation import SLICE_SECONDS, EmulatedWalker
from .walker import Walker


class Simulation:
    """One simulation rank."""

    def __init__(self, context: Context):
        self.context = context
        self.structures = load_structures(context.config.system)
        self._bind()
        self.make_engine = engine_maker(context.config, self.structures, context.gpu)
        self.walkers = [self._walker(w) for w in context.layout.walkers(context.rank)]
        self.commands: dict[int, RestartCommand] = {}
        self.rows: list[dict] = []
        self.oldest = 0.0
        self.told_to_stop = False

    def run(self) -> None:
        """Simulate until the time is up or a stop is commanded, then end the stream."""
        context = self.context
        (self.outbox,) = context.outboxes(SIMULATION)
        context.log.info("%d walkers on platform %s", len(self.walkers), self.walkers[0].engine.platform)
        context.status.update(now=True, state=State.RUNNING, activity=Activity.MD)
        self.started = time.time()
        while not self.stopping():
            active = [w for w in self.walkers if w.active]
            if not active:
                break
            for walker in active:
                self.turn(walker)
            time.sleep(min(SLICE_SECONDS, *(walker.left_s for walker in active)))
        self.finish()

    def turn(self, walker: Walker) -> None:
        """One report of one walker: command, integration, frame."""
        try:
            command = None if walker.under_way else self.command(walker.index)
            if command is not None:
                self.restart(walker, command)
            row = walker.report(self.stopping)
        except EngineError as error:
            self.context.log.warning("walker %d: %s", walker.index, error)
            self.recover(walker, error)
            row = None
            if walker.retired:
                self.context.log.error("walker %d has failed %d times: retired", walker.index, walker.failures)
        if row is not None:
            self.oldest = self.oldest if self.rows else time.monotonic()
            self.rows.append(row)
        self.ship()
        self.post()

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
        return self.told_to_stop or self.context.left_s <= 0

    def restart(self, walker: Walker, command: RestartCommand) -> None:
        """Fetch the commanded frame from its ring and restart there; a stale one is refused."""
        context = self.context
        coordinates = context.ring.fetch(command.aggregator, command.ring_slot, command.slot_generation)
        if coordinates is None:
            receipt = Receipt(command.decision, Outcome.STALE, -1, time.time(), 0.0)
        else:
            try:
                receipt = walker.restart(command, coordinates)
            except EngineError:
                receipt = Receipt(command.decision, Outcome.FAILED, -1, time.time(), 0.0)
                context.mailboxes.answer(walker.index, receipt)
                raise
        context.mailboxes.answer(walker.index, receipt)
        context.log.info("walker %d: decision %d %s", walker.index, command.decision,
                         Outcome(receipt.outcome).name.lower())

    def recover(self, walker: Walker, error: EngineError) -> None:
        """Take a failed walker back to its last good restart point, or retire it."""
        while not walker.retired:
            try:
                walker.recover(error)
                return
            except EngineError as again:
                error = again

    def ship(self, *, everything: bool = False) -> None:
        """Hand the frames gathered so far to the stream when they are many or old enough."""
        clock = time.perf_counter()
        settings = self.context.config.streams
        due = len(self.rows) >= settings.block_frames or time.monotonic() - self.oldest > settings.block_delay
        if self.rows and (due or everything):
            self.outbox.offer(FrameBlock.from_rows(self.rows, Hop.COORDINATES).pack(Hop.COORDINATES))
            self.rows = []
        self.outbox.pump()
        self.context.events.add("io", time.perf_counter() - clock)

    def post(self, *, now: bool = False, **values: float) -> None:
        """Tell the board how far this rank is."""
        walkers, events = self.walkers, self.context.events
        self.context.status.update(
            now=now, frames=sum(w.frames for w in walkers), ns=sum(w.ps for w in walkers) / 1000,
            segments=sum(w.segments for w in walkers), iterations=sum(w.segments for w in walkers),
            failures=sum(w.failures for w in walkers), iteration_s=events.seconds("md"), busy_s=events.seconds("md"),
            bytes=self.outbox.writer.nbytes, blocks=self.outbox.writer.n_written, max_queue=self.outbox.max_depth,
            dropped=self.outbox.dropped, **values)

    def finish(self) -> None:
        """Close the trajectories, ship what is left and end the stream."""
        context, loop_s = self.context, time.time() - self.started
        seconds = {f"{name}_s": total.seconds for name, total in context.events.totals.items()}
        context.events.record("totals", self.started, loop_s, loop_s=loop_s, steps=sum(w.steps for w in self.walkers),
                              **seconds)
        self.post(now=True, state=State.DRAINING, activity=Activity.DRAINING)
        for walker in self.walkers:
            walker.end()
        self.ship(everything=True)
        self.outbox.flush(lambda: context.overdue)
        self.outbox.writer.close()
        self.post(now=True, stop=self.stop_reason())

    def stop_reason(self) -> int:
        """Why this rank stopped, as an index of the reasons."""
        if self.told_to_stop:
            return STOP_REASONS.index("target_rmsd")
        if self.context.left_s <= 0:
            return STOP_REASONS.index("duration")
        retired = all(walker.retired for walker in self.walkers)
        return STOP_REASONS.index("failure" if retired else "all simulations ended")

    def _bind(self) -> None:
        """Take a core of my own where the platform is a CPU and one thread does the work."""
        settings, layout, rank = self.context.config.simulation, self.context.layout, self.context.rank
        platform = check_engine(self.context.config, self.structures, self.context.gpu)
        if settings.bind and platform == "CPU" and settings.threads == 1:
            neighbours = [r for r in layout.ranks("simulation") if layout.nodes[r] == layout.nodes[rank]]
            core = stay_on_one_core(neighbours.index(rank))
            if core is not None:
                self.context.log.info("bound to core %d", core)

    def _walker(self, index: int) -> Walker:
        config, facts, structures = self.context.config, self.context.facts, self.structures
        trajectory = Trajectory(facts.directory / "trajectories", index, structures.topology, config.simulation,
                                facts.order_parameters)
        features = FeatureCalculator(structures.target_nm, config.features)
        descriptor = np.asarray(structures.descriptor)
        kind = EmulatedWalker if config.simulation.engine == "emulated" else Walker
        return kind(index, self.make_engine(index), features, trajectory, descriptor, config, self.context.events)
