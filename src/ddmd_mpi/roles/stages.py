"""The stages of an iteration of file mode, each a turn of what the role of its name does in stream mode."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from ..checkpoints import Part
from ..errors import StreamError
from ..frames import Outcome, Receipt, RestartCommand
from ..model import ModelWeights
from ..rundir import Lines
from ..status import Activity, State, hop_counts
from ..streams.restarts import Order, Restarts
from ..wiring import SIMULATION, TO_INFERENCE, TO_TRAINING, WEIGHTS
from .context import Context
from .decider import Decider
from .decisions import Ledger
from .ensemble import Ensemble
from .frame_files import FrameFiles
from .trainer import Trainer
from .walker import Walker


class Best(NamedTuple):
    """The frame nearest the target."""

    rmsd: float = np.inf  # angstrom
    simulation: int = -1
    frame: int = -1


class Recalled(NamedTuple):
    """What a rank's walkers have done in earlier sessions."""

    frames: dict[int, int]  # in the trajectory of each walker
    best: Best


class Simulated(NamedTuple):
    """What a rank has done in an iteration."""

    walkers: tuple[int, ...]  # those with a file
    n_frames: int
    best: Best
    receipts: dict[int, Receipt] | None  # by walker; None where the restart points could not be read
    active: bool  # whether a walker can go on
    retired: bool  # whether all walkers have failed too often


class SimulationStage(Ensemble):
    """A segment of every walker of mine.

    A walker whose segment fails is done for this iteration; the segment after it begins with the next one.
    """

    def __init__(self, context: Context, files: FrameFiles, restarts: Restarts, meanwhile: Callable[[], object]):
        super().__init__(context)
        self.files, self.restarts, self.meanwhile = files, restarts, meanwhile
        self.rows: dict[int, list[dict]] = {}
        self.beginnings: dict[int, dict[int, dict]] = {}  # walker -> segment -> how it began
        self.receipts: dict[int, Receipt] = {}

    def run(self, iteration: int, commanded: bool) -> Simulated:
        """Obey what inference has decided, simulate, and write the frames."""
        self.rows, self.beginnings, self.receipts = {}, {}, {}
        self.post(now=True, state=State.RUNNING, activity=Activity.MD)
        going = [w for w in self.walkers if w.active]
        orders = self.orders(iteration, going) if commanded else {}
        for walker in going:
            if orders and walker.index in orders:
                with self.contained(walker):
                    self.restart(walker, *orders[walker.index][1:])
        while going and not self.stopping():
            going = [walker for walker in going if self.advance(walker)]
            if going:
                self.pause(going)
        for walker in self.walkers:
            walker.close()
        self.write(iteration)
        self.post(now=True, activity=Activity.WAITING)
        rows = [row for of_walker in self.rows.values() for row in of_walker]
        best = min((Best(float(r["rmsd"]), r["simulation"], r["frame"]) for r in rows if r["rmsd"] == r["rmsd"]),
                   default=Best())
        return Simulated(tuple(self.rows), len(rows), best, None if orders is None else self.receipts,
                         any(w.active for w in self.walkers), all(w.retired for w in self.walkers))

    def recalled(self) -> Recalled:
        """What the trajectories held when this session began."""
        histories = {w.index: w.trajectory.history for w in self.walkers}
        best = min((Best(h.best[0], walker, h.best[1]) for walker, h in histories.items()))
        return Recalled({walker: h.n_frames for walker, h in histories.items()}, best)

    def orders(self, iteration: int, walkers: list[Walker]) -> dict[int, Order] | None:
        """What inference has decided for these walkers; None if it cannot be read."""
        with self.context.events.span("io", iteration=iteration):
            try:
                return self.restarts.read(iteration, [w.index for w in walkers])
            except StreamError as error:
                self.context.log.warning("no restarts in iteration %d: %s", iteration, error)
                return None

    def answer(self, walker: int, receipt: Receipt) -> None:
        """Keep the receipt for inference."""
        self.receipts[walker] = receipt

    def stopping(self) -> bool:
        """Whether the time is up."""
        self.meanwhile()
        return self.context.left_s <= 0

    def advance(self, walker: Walker) -> bool:
        """One report of a walker; whether its segment goes on."""
        goes_on = False
        with self.contained(walker):
            row = walker.report(self.stopping)
            if row is not None:
                self.rows.setdefault(walker.index, []).append(row)
                self.beginnings.setdefault(walker.index, {})[row["segment"]] = walker.beginning
            goes_on = walker.active and not walker.complete
        self.post()
        return goes_on

    def write(self, iteration: int) -> None:
        """Write a file for every walker that has frames."""
        with self.context.events.span("io", iteration=iteration, files=len(self.rows)) as span:
            span["bytes"] = sum(self.files.write(iteration, walker, rows, self.beginnings[walker])
                                for walker, rows in self.rows.items())
        written = {"bytes": span["bytes"], "blocks": len(self.rows)}
        self.context.status.add(**written, **hop_counts(SIMULATION, **written))


class AggregationStage:
    """The books of an iteration, kept by the first rank, and the file that shows all its frames."""

    def __init__(self, context: Context, files: FrameFiles):
        self.context, self.files = context, files
        self.iteration = 0  # the last one

    def snapshot(self) -> Part:
        """The last iteration and the frames until then as a part of a checkpoint: what else I know is in the files."""
        return Part({"iteration": self.iteration, "archived": int(self.context.status.record["archived"])})

    def resume(self, walkers: list[Recalled]) -> tuple[int, dict[int, tuple[int, ...]]]:
        """Go on with the files of earlier sessions: the last iteration, and the walkers with a file in each.

        An iteration that was cut off is not done again: what it has written stays, and the next one follows.
        """
        context = self.context
        (entry,) = context.facts.resumed.of_role("aggregation")
        values = context.store.read_part(entry).values
        known = values["iteration"]
        younger = self.files.resume(known, {w: n for of_rank in walkers for w, n in of_rank.frames.items()})
        context.status.add(frames=younger, archived=values["archived"] + younger)
        self.iteration = max(known, *self.files.written) if self.files.written else known
        return self.iteration, self.files.written

    def run(self, iteration: int, results: list[Simulated]) -> None:
        """Count the frames, remember the best of them, and aggregate their files if that is wanted."""
        status, n_frames = self.context.status, sum(r.n_frames for r in results)
        self.iteration = iteration
        best = min(r.best for r in results)
        if best.frame >= 0 and not best.rmsd >= status.record["best_rmsd"]:
            status.update(best_rmsd=best.rmsd, best_simulation=best.simulation, best_frame=best.frame)
        if self.files.settings.aggregate:
            status.update(now=True, activity=Activity.MERGING)
            with self.context.events.span("block", iteration=iteration, frames=n_frames):
                self.files.aggregate(iteration)
            spent = self.context.events.totals["block"].seconds
            status.update(iteration_s=spent, busy_s=spent)
            status.add(iterations=1)
        status.add(frames=n_frames, archived=n_frames)
        status.update(now=True, state=State.RUNNING, activity=Activity.WAITING)


class TrainingStage(Trainer):
    """A round of training on the newest frames, of which each of the ranks that train together reads a share."""

    def __init__(self, context: Context, files: FrameFiles, meanwhile: Callable[[], object]):
        super().__init__(context)
        self.files, self.meanwhile, self.loaded = files, meanwhile, False

    def run(self) -> None:
        """One round; the model is made in the first one. Collective over the ranks that train."""
        context = self.context
        if not self.loaded:
            self.loaded = True
            context.status.update(now=True, state=State.RUNNING, activity=Activity.LOADING)
            with context.events.span("start"):
                self.load()
        if self.model is not None:
            self.window = self.files.window(
                self.settings.window_frames, context.events, context.comm.rank, context.comm.size)
            context.status.update(window=len(self.window))
            context.status.add(**hop_counts(TO_TRAINING, bytes=self.window.nbytes, blocks=1))
            if min(context.comm.allgather(len(self.window))):
                self.round()
        context.status.update(now=True, activity=Activity.WAITING)

    def between_batches(self) -> bool:
        """Whether the time is up."""
        self.meanwhile()
        return self.context.left_s <= 0

    def end(self) -> None:
        """Give the model back."""
        if self.model is not None:
            self.model.free()


class Desk:
    """In the place of the mailboxes: commands wait here to be written, receipts to be read."""

    def __init__(self) -> None:
        self.commands: dict[int, RestartCommand] = {}
        self._receipts: dict[int, Receipt] = {}

    def send(self, walker: int, command: RestartCommand) -> None:
        """Command a walker."""
        self.commands[walker] = command

    def receipts(self, walker: int) -> list[Receipt]:
        """The receipt of a walker that was not yet read."""
        return [self._receipts.pop(walker)] if walker in self._receipts else []

    def answer(self, walker: int, receipt: Receipt) -> None:
        """Take the receipt of a walker."""
        self._receipts[walker] = receipt
        self.commands.pop(walker, None)

    def refuse(self, walker: int, outcome: Outcome) -> None:
        """Answer in the place of a walker that never saw its command."""
        if walker in self.commands:
            self.answer(walker, Receipt(self.commands[walker].decision, outcome, -1, time.time(), 0.0))


class InferenceStage(Decider):
    """A round of inference on the newest frames, and the restart points of the next iteration."""

    def __init__(self, context: Context, files: FrameFiles, restarts: Restarts):
        super().__init__(context)
        self.files, self.restarts, self.desk = files, restarts, context.mailboxes
        self.loaded, self._records = False, ExitStack()

    def begin(self) -> None:
        """Open the records, once all ranks have mended the files of their walkers; recall what they say."""
        self.ledger = self._records.enter_context(Ledger(self.context))
        self.lines = self._records.enter_context(Lines(self.context.facts.directory / "rounds.jsonl"))
        self.policy.recall(self.ledger.sources)
        if self.context.facts.resumed is not None:
            (entry,) = self.context.facts.resumed.of_role("inference")
            self.policy.restore(self.context.store.read_part(entry).values["policy"])

    def snapshot(self) -> Part:
        """The policy's random numbers as a part of a checkpoint; what was decided is on record."""
        return Part({"policy": self.policy.state()})

    def collect(self, results: list[Simulated]) -> None:
        """Take what the ranks answered to the commands of the last iteration."""
        for rank, result in enumerate(results):
            for walker, receipt in (result.receipts or {}).items():
                self.desk.answer(walker, receipt)
            if result.receipts is None:
                for walker in self.context.layout.walkers(rank):
                    self.desk.refuse(walker, Outcome.FAILED)
        self.desk.commands.clear()  # the rest were for walkers that do not go on
        self.ledger.collect()

    def run(self, iteration: int, newest: int) -> bool:
        """One round, with the model's version `newest`; whether there are restart points for `iteration`."""
        context = self.context
        if self.policy.needs_model:
            self.follow(newest)
        commanded = False
        if self.ready:
            window = self.files.window(self.settings.window_frames, context.events)
            context.status.update(window=len(window))
            context.status.add(**hop_counts(TO_INFERENCE, bytes=window.nbytes, blocks=1))
            if len(window):
                self.round(window.block())
                commanded = self.write(iteration)
        elif self.settings.strategy != "none":
            context.log.info("no model yet: all walkers go on in iteration %d", iteration)
        context.status.update(now=True, activity=Activity.WAITING)
        return commanded

    def follow(self, newest: int) -> None:
        """Go over to the newest version of the model; the model is made for the first one."""
        if newest and not self.loaded:
            self.loaded = True
            self.context.status.update(now=True, state=State.RUNNING, activity=Activity.LOADING)
            with self.context.events.span("start"):
                self.load()
        if self.embedding is not None and newest > self.embedding.version:
            path = self.context.facts.directory / "models" / f"v{newest:06d}"
            with self.context.events.span("io", version=newest):
                weights = self.take(lambda: ModelWeights.read(path))
            if weights is not None:
                self.context.status.add(**hop_counts(WEIGHTS, bytes=sum(a.nbytes for a in weights.arrays), blocks=1))

    def write(self, iteration: int) -> bool:
        """Write the restart points of `iteration`; whether there are any."""
        orders = []
        with self.context.events.span("io", iteration=iteration):
            for walker, command in list(self.desk.commands.items()):
                frame = command.slot_generation, command.source_simulation, command.ring_slot
                try:
                    orders.append(Order(walker, command, self.files.segments.coordinates(*frame)))
                except StreamError as error:
                    self.context.log.warning("decision %d is stale: %s", command.decision, error)
                    self.desk.refuse(walker, Outcome.STALE)
            if orders:
                self.context.status.add(bytes=self.restarts.write(iteration, orders), blocks=1)
        self.ledger.collect()
        return bool(orders)

    def end(self) -> None:
        """Close the records."""
        self._records.close()
