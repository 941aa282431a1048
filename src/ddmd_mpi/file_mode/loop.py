"""File mode: every rank plays all stages in turn, iteration after iteration, with files in between.

Simulate, aggregate, train, infer: a stage starts when all ranks have ended the one before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol

from ..errors import DDMDError, DiskError
from ..faults.heartbeat import Heartbeat
from ..md.affinity import my_cores, on_cores
from ..monitor.events import EventLog
from ..monitor.status import Activity, State, StatusPost, StopReason
from ..parallel.collectives import Meeting
from ..roles.context import StageContext
from ..roles.leader import Leader
from ..rundir.checkpoints import Part, cure
from ..rundir.manifest import Entry
from .aggregation_stage import AggregationStage
from .checkpoints import StageCheckpoints
from .frame_files import FrameFiles
from .inference_stage import InferenceStage
from .restarts import Restarts
from .simulation_stage import Best, Recalled, Simulated, SimulationStage
from .training_stage import TrainingStage


class StageError(Exception):
    """What went wrong in a stage on one rank, raised on all of them: a sentence, and why the run stops."""


class Stage(Protocol):
    """A stage as the loop sees it: what it knows, and its end."""

    def snapshot(self) -> Part: ...
    def end(self) -> None: ...


@dataclass(frozen=True)
class Books:
    """The stages that the first rank plays alone."""

    aggregation: AggregationStage
    inference: InferenceStage

    def find(self, recalled: list[Recalled]) -> tuple[int, dict[int, tuple[int, ...]]]:
        """The last iteration of earlier sessions, and the walkers with a file in each; orders after it are void."""
        last, written = self.aggregation.resume(recalled)
        self.inference.resume(last)
        return last, written

    def keep(self, iteration: int, results: list[Simulated]) -> None:
        """Write what is to be written of an iteration."""
        self.inference.collect(results)
        self.aggregation.run(iteration, results)
        self.inference.count(iteration)


class Iteration:
    """One rank of file mode. Making it is collective over all ranks."""

    def __init__(self, context: StageContext):
        layout, rank, self.cores = context.layout, context.rank, my_cores()
        self.trainers = context.comm.Split(int(rank not in layout.ranks("training")), rank)
        self.context, self.contexts, self.settings = context, [context], context.config.file
        self.observer, self.meeting = Leader(context), Meeting(context.comm, self.tick)
        self.files = files = FrameFiles(context)
        restarts = Restarts(context.info.directory, context.config.system.name)
        self.simulation = SimulationStage(context, files, restarts, self.observer.tick)
        self.training: TrainingStage | None = None
        self.books: Books | None = None
        if rank in layout.ranks("training"):
            self.training = TrainingStage(self.stage("training", comm=self.trainers), files, self.observer.tick)
        if context.leads:
            aggregation = AggregationStage(self.stage("aggregation"), files)
            self.books = Books(aggregation, InferenceStage(self.stage("inference"), files, restarts))
        self.stage_checkpoints = StageCheckpoints(
            context, {c.role: stage.snapshot for c, stage in zip(self.contexts, self.stages, strict=True)}
        )
        self.iteration, self.best, self.commanded = 0, Best(), False
        self.failed = StopReason.FAILURE  # why the run stops, once a stage has failed
        self.active, self.retired = True, False

    @property
    def stages(self) -> list[Stage]:
        """The stages that I play, in the order of their contexts."""
        training = [] if self.training is None else [self.training]
        books: list[Stage] = [] if self.books is None else [self.books.aggregation, self.books.inference]
        return [self.simulation, *training, *books]

    def stage(self, role: str, **changes: Any) -> StageContext:
        """The context of one of my stages, with records of its own."""
        context, slot = self.context, self.context.layout.slot(self.context.rank, role)
        events = EventLog(context.info.directory / "events" / f"{role}-{context.rank:04d}.jsonl", role, context.rank)
        status = StatusPost(lambda record: context.board.put(slot, record), events)
        heartbeat = Heartbeat(status, context.detector, context.config.faults)
        self.contexts.append(replace(context, role=role, events=events, status=status, heartbeat=heartbeat, **changes))
        return self.contexts[-1]

    def run(self) -> bool:
        """Iterate until it is enough or a stage fails; whether it was enough. Collective over all ranks."""
        self.simulation.ensemble.begin()
        ended = self.unless_it_fails(self.play)
        reason = ended or self.failed
        self.context.log.info("%d iterations, then %s", self.iteration, reason.word)
        self.simulation.post(now=True, state=State.DRAINING, activity=Activity.DRAINING, stop=reason)
        closed = self.unless_it_fails(lambda: self.together("end", self.close))
        for context in self.contexts:
            context.status.update(now=True, state=State.DONE, activity=Activity.DONE)
        self.meeting.wait()
        self.context.board.settle()
        whole = bool(ended and closed)
        kept = self.unless_it_fails(lambda: self.together("books", self.observer.see_to_the_end, whole))
        return whole and bool(kept and kept[0])

    def play(self) -> StopReason:
        """Iterate, from the start or from where an earlier session ended, and write a checkpoint; why it is enough.

        A stage that fails leaves a checkpoint, too: all ranks are there.
        """
        self.together("begin", self.books.inference.begin if self.books else nothing)
        if self.context.info.resumed is not None:
            self.resume()
        try:
            reason = self.iterate()
        except StageError as error:
            if error.args[1] != StopReason.DISK:
                with suppress(StageError):
                    self.checkpoint()
            raise
        self.checkpoint()
        return reason

    def resume(self) -> None:
        """Continue after the last iteration that has left anything."""
        recalled = self.together("recall", self.simulation.recalled)
        self.best = min(r.best for r in recalled)
        found = self.together("files", self.books.find if self.books else nothing, recalled)
        self.iteration, self.files.written = found[0]
        self.context.log.info("resumes after iteration %d", self.iteration)

    def checkpoint(self) -> None:
        """Write my parts of a checkpoint; the first rank completes it."""
        parts = self.together("checkpoint", self.stage_checkpoints.write)
        self.context.board.settle()
        self.together("manifest", self.complete if self.context.leads else nothing, parts)

    def complete(self, parts: list[list[Entry]]) -> None:
        """Name the parts of all ranks."""
        self.stage_checkpoints.complete(chain.from_iterable(parts), self.observer.records())

    def iterate(self) -> StopReason:
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
        self.together("aggregation", self.books.keep if self.books else nothing, self.iteration, results)

    def learn(self) -> None:
        """Train, if it is time to, and decide the restarts of the next iteration."""
        again = (self.iteration - 1) % self.settings.retrain_every == 0
        train = self.training.run if self.training is not None and again else nothing
        self.together("training", train, alone=self.trainers.size == 1)
        self.commanded, due = self.together("inference", self.infer)[0]
        if due:
            self.checkpoint()

    def infer(self) -> tuple[bool, bool]:
        """Whether the next iteration starts with restarts, and whether to write a checkpoint before it.

        The first rank decides.
        """
        if self.books is None or self.training is None:
            return False, False
        newest = self.training.trainer.versions.newest
        return self.books.inference.run(self.iteration + 1, newest), self.stage_checkpoints.due

    def verdict(self, enough: bool = False) -> StopReason:
        """Why the run must end now, NONE if it continues: the first rank's decision, or a signal to any rank."""
        run, reason = self.context.config.run, StopReason.NONE
        target = run.target_rmsd_angstrom if run.target_arrivals == 1 else None
        if target is not None and self.best.rmsd <= target:
            reason = StopReason.TARGET_RMSD
        elif self.books is not None and self.books.inference.enough:
            reason = self.books.inference.enough
        elif not self.active:
            reason = StopReason.FAILURE if self.retired else StopReason.ALL_ENDED
        elif enough:
            reason = StopReason.ITERATIONS
        elif self.context.control.poll():
            reason = self.context.control.reason
        heard = self.meeting.exchange((reason, self.context.control.stop))
        stop = StopReason(max(stop for _, stop in heard))
        self.context.control.halt(stop)
        return heard[0][0] or stop

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
            said = (
                self.sentence(error),
                StopReason.DISK if isinstance(error, (DiskError, OSError)) else StopReason.FAILURE,
            )
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
            where = error.filename or self.context.info.directory
            return f"{where} cannot be written: {error.strerror or error}; make room, or choose another directory"
        return str(error)

    def unless_it_fails(self, function: Callable[[], Any]) -> Any:
        """What `function` comes to; None after an error that every rank has met, which the first one reports."""
        try:
            return function()
        except StageError as error:
            said, self.failed = error.args
            if self.context.leads:
                self.context.log.error("iteration %d: %s", self.iteration, said + cure(self.context.info.directory))
            return None

    def tick(self) -> None:
        """Look who is lost and what is ordered, and refresh the live view."""
        self.context.detector.poll()
        self.context.control.poll()
        self.observer.tick()

    def close(self) -> None:
        """Close the files of all my stages."""
        with ExitStack() as stack:
            stack.callback(self.trainers.Free)
            for context in self.contexts:
                stack.callback(context.events.free)
            for stage in self.stages:
                stack.callback(stage.end)


def nothing(*_: Any) -> None:
    """The part of a rank that has none in a stage."""
