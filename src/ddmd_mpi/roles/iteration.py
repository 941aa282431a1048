"""File mode: every rank plays all stages in turn, iteration after iteration, with files in between.

Simulate, aggregate, train, infer: a stage begins when all ranks have ended the one before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import chain
from typing import Any

from ..checkpoints import Entry, cure
from ..errors import DDMDError, DiskError
from ..events import EventLog
from ..md.affinity import my_cores, on_cores
from ..parallel.meeting import Meeting
from ..status import STOP_REASONS, Activity, State, StatusPost
from ..streams.restarts import Restarts
from .context import Context
from .frame_files import FrameFiles
from .observer import Observer
from .stage_checkpoints import StageCheckpoints
from .stages import AggregationStage, Best, Desk, InferenceStage, Recalled, Simulated, SimulationStage, TrainingStage


class StageError(Exception):
    """What went wrong in a stage on one rank, raised on all of them: a sentence, and why the run stops."""


class Iteration:
    """One rank of file mode. Making it is collective over all ranks."""

    def __init__(self, context: Context):
        layout, rank, self.cores = context.layout, context.rank, my_cores()
        self.trainers = context.comm.Split(int(rank not in layout.ranks("training")), rank)
        self.context, self.contexts, self.settings = context, [context], context.config.file
        self.observer, self.meeting = Observer(context), Meeting(context.comm, self.tick)
        self.files = files = FrameFiles(context)
        restarts = Restarts(context.facts.directory, context.config.system.name)
        self.simulation = SimulationStage(context, files, restarts, self.tick)
        self.training = self.aggregation = self.inference = None
        if rank in layout.ranks("training"):
            self.training = TrainingStage(self.stage("training", comm=self.trainers), files, self.tick)
        if context.leads:
            self.aggregation = AggregationStage(self.stage("aggregation"), files)
            self.inference = InferenceStage(self.stage("inference", mailboxes=Desk()), files, restarts)
        self.checkpoints = StageCheckpoints(context, {
            c.role: stage.snapshot for c, stage in zip(self.contexts, self.stages, strict=True)})
        self.iteration, self.best, self.commanded = 0, Best(), False
        self.failed = "failure"  # why the run stops, once a stage has failed
        self.active, self.retired = True, False

    @property
    def stages(self) -> list[Any]:
        """The stages that I play, in the order of their contexts."""
        return [s for s in (self.simulation, self.training, self.aggregation, self.inference) if s is not None]

    def stage(self, role: str, **changes: Any) -> Context:
        """The context of one of my stages, with records of its own."""
        context, seat = self.context, self.context.layout.seat(self.context.rank, role)
        events = EventLog(context.facts.directory / "events" / f"{role}-{context.rank:04d}.jsonl", role, context.rank)
        status = StatusPost(lambda record: context.board.put(seat, record), events)
        status.within, status.patience = context.status.within, context.status.patience
        status.beat = context.vigil.look
        self.contexts.append(replace(context, role=role, events=events, status=status, **changes))
        return self.contexts[-1]

    def run(self) -> bool:
        """Iterate until it is enough or a stage fails; whether it was enough. Collective over all ranks."""
        self.simulation.begin()
        ended = self.unless_it_fails(self.play)
        reason = ended or self.failed
        self.context.log.info("%d iterations, then %s", self.iteration, reason)
        self.simulation.post(now=True, state=State.DRAINING, activity=Activity.DRAINING,
                             stop=STOP_REASONS.index(reason))
        closed = self.unless_it_fails(lambda: self.together("end", self.close))
        for context in self.contexts:
            context.status.update(now=True, state=State.DONE, activity=Activity.DONE)
        self.meeting.wait()
        self.context.board.settle()
        whole = bool(ended and closed)
        kept = self.unless_it_fails(lambda: self.together("books", self.observer.see_to_the_end, whole))
        return whole and bool(kept and kept[0])

    def play(self) -> str:
        """Iterate, from the begin or from where an earlier session ended, and write a checkpoint; why it is enough.

        A stage that fails leaves a checkpoint, too: all ranks are there.
        """
        self.together("begin", self.inference.begin if self.context.leads else nothing)
        if self.context.facts.resumed is not None:
            self.resume()
        try:
            reason = self.iterate()
        except StageError as error:
            if error.args[1] != "disk":
                with suppress(StageError):
                    self.checkpoint()
            raise
        self.checkpoint()
        return reason

    def resume(self) -> None:
        """Go on after the last iteration that has left anything."""
        recalled = self.together("recall", self.simulation.recalled)
        self.best = min(r.best for r in recalled)
        found = self.together("files", self.find if self.context.leads else nothing, recalled)
        self.iteration, self.files.written = found[0]
        self.context.log.info("goes on after iteration %d", self.iteration)

    def find(self, recalled: list[Recalled]) -> tuple[int, dict[int, tuple[int, ...]]]:
        """The last iteration of earlier sessions, and the walkers with a file in each; orders after it are void."""
        last, written = self.aggregation.resume(recalled)
        self.inference.restarts.forget(last)
        return last, written

    def checkpoint(self) -> None:
        """Write my parts of a checkpoint; the first rank completes it."""
        parts = self.together("checkpoint", self.checkpoints.write)
        self.context.board.settle()
        self.together("manifest", self.complete if self.context.leads else nothing, parts)

    def complete(self, parts: list[list[Entry]]) -> None:
        """Name the parts of all ranks."""
        self.checkpoints.complete(chain.from_iterable(parts), self.observer.records())

    def iterate(self) -> str:
        """Iterate until it is enough; why it is."""
        limit = self.settings.iterations or float("inf")
        while not (reason := self.verdict(self.iteration >= limit)):
            self.iteration += 1
            results = self.together("simulation", self.simulation.run, self.iteration, self.commanded)
            self.enter(results)
            if not self.verdict():
                with on_cores(self.cores):
                    self.learn()
        return reason

    def enter(self, results: list[Simulated]) -> None:
        """Note what the simulations have done, which every rank knows, and keep the books."""
        self.files.written[self.iteration] = tuple(walker for result in results for walker in result.walkers)
        self.best = min(self.best, *(result.best for result in results))
        self.active, self.retired = any(r.active for r in results), all(r.retired for r in results)
        self.together("aggregation", self.keep_books if self.context.leads else nothing, results)

    def keep_books(self, results: list[Simulated]) -> None:
        """What the first rank writes of an iteration."""
        self.inference.collect(results)
        self.aggregation.run(self.iteration, results)

    def learn(self) -> None:
        """Train, if it is time to, and decide the restarts of the next iteration."""
        trains = self.training is not None and (self.iteration - 1) % self.settings.retrain_every == 0
        self.together("training", self.training.run if trains else nothing, alone=self.trainers.size == 1)
        self.commanded, due = self.together("inference", self.infer if self.context.leads else nothing)[0]
        if due:
            self.checkpoint()

    def infer(self) -> tuple[bool, bool]:
        """Whether the next iteration begins with restarts, and whether to write a checkpoint before it."""
        return self.inference.run(self.iteration + 1, self.training.versions.newest), self.checkpoints.due

    def verdict(self, enough: bool = False) -> str:
        """Why the run shall end now, "" if it goes on: the first rank's word, or the signal that any rank has got."""
        target, reason = self.context.config.run.target_rmsd_angstrom, ""
        if target is not None and self.best.rmsd <= target:
            reason = "target_rmsd"
        elif not self.active:
            reason = "failure" if self.retired else "all simulations ended"
        elif enough:
            reason = "iterations"
        elif self.context.left_s <= 0:
            reason = self.context.control.reason
        heard = self.meeting.exchange((reason, self.context.control.stop))
        stop = max(stop for _, stop in heard)
        self.context.control.halt(stop)
        return heard[0][0] or STOP_REASONS[stop]

    def together(self, stage: str, function: Callable[..., Any], *arguments: Any, alone: bool = True) -> list[Any]:
        """What `function` comes to on each rank, once all have ended it.

        Parameters
        ----------
        alone
            Whether a rank plays the stage by itself; else others may be waiting in it, and its error ends the job.

        Raises
        ------
        StageError
            On every rank, if one has failed.
        """
        result = said = None
        try:
            result = function(*arguments)
        except (DDMDError, OSError) as error:
            if not alone:
                raise
            said = self.sentence(error), "disk" if isinstance(error, (DiskError, OSError)) else "failure"
        start, clock = time.time(), time.perf_counter()
        outcomes = self.meeting.exchange((result, said))
        waited = time.perf_counter() - clock
        self.context.events.record("wait", start, waited, iteration=self.iteration, stage=stage)
        said = next((said for _, said in outcomes if said), None)
        if said is not None:
            raise StageError(*said)
        return [result for result, _ in outcomes]

    def sentence(self, error: DDMDError | OSError) -> str:
        """An error in one sentence."""
        if isinstance(error, OSError):
            where = error.filename or self.context.facts.directory
            return f"{where} cannot be written: {error.strerror or error}; make room, or choose another directory"
        return str(error)

    def unless_it_fails(self, function: Callable[[], Any]) -> Any:
        """What `function` comes to; None after an error that every rank has met, which the first one reports."""
        try:
            return function()
        except StageError as error:
            said, self.failed = error.args
            if self.context.leads:
                self.context.log.error("iteration %d: %s", self.iteration, said + cure(self.context.facts.directory))
            return None

    def tick(self) -> None:
        """Refresh the live view, and look who is lost."""
        self.context.vigil.tick()
        self.observer.tick()

    def close(self) -> None:
        """Close the files of all my stages."""
        with ExitStack() as stack:
            stack.callback(self.trainers.Free)
            for context in self.contexts:
                stack.callback(context.events.free)
            for stage in self.stages:
                if stage is not self.aggregation:
                    stack.callback(stage.end)


def nothing(*_: Any) -> None:
    """The part of a rank that has none in a stage."""
