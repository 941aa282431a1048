"""Rounds of training on one rank, wherever its frames come from: the model, its versions, what is recorded of them."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import model
from ..clock import monotonic
from ..errors import ModelError, NothingToLearnError
from ..frames.block import FrameBlock
from ..frames.window import FrameWindow
from ..model import Epoch, ModelWeights, Ranks, Round, Setup, Supervisor
from ..model.versions import Versions
from ..monitor.status import Activity, DataParallel
from ..parallel.collectives import Agreement
from ..rundir.checkpoints import Part
from ..rundir.disk import read_lines
from .context import IDLE_SECONDS, Context
from .emulation import stage_seconds, wait_until

if TYPE_CHECKING:
    from ..parallel.bare_mpi import MPI

#: How long a rank without a model waits to hear whether the others have none either, s.
VOTE_SECONDS = 60.0


class Trainer(Supervisor):
    """One rank of those that train together.

    Parameters
    ----------
    between_batches
        Called between two batches; True asks the round to end.
    publish
        Saves a version of the model and passes it on; whether that was done. Called on the first of the ranks.

    Raises
    ------
    ModelError
        What can be known of a model to come before it is made.
    """

    def __init__(self, context: Context, between_batches: Callable[[], bool], publish: Callable[[ModelWeights], bool]):
        self._between_batches = between_batches
        self._publish = publish
        self.context, self.settings = context, context.config.training
        self.model: model.Model | None = None
        ranks = context.layout.ranks("training")
        if self.settings.model != "none":
            model.check(self.settings, context.info.n_residues, len(ranks))
        self.leads = context.rank == ranks[0]
        self.window = FrameWindow(self.settings.window_frames)
        self.versions = Versions(context.info.directory / "models", self.settings.keep_versions)
        self.rounds = 0
        self.samples = 0
        # The version whose state the model starts with.
        self.version = 0
        # State of the model between two rounds, with its optimiser's.
        self.state: list[np.ndarray] = []
        # Spent on streams in the present round.
        self.drain_s = 0.0
        self.resume()

    def resume(self) -> None:
        """Continue with the model of an earlier session, and with my share of its windows."""
        context = self.context
        parts = [context.store.read_part(entry) for entry in context.info.resumed_parts("training")]
        if not parts:
            return
        ranks = context.layout.ranks("training")
        first, mine = parts[0], parts[ranks.index(context.rank) :: len(ranks)]
        rounds, samples = recorded(context.info.directory)
        self.rounds = max(first.values["rounds"], rounds, self.versions.newest_round)
        self.samples = max(sum(p.values["samples"] for p in parts), samples) if self.leads else 0
        self.version = first.values["version"]
        self.state = [first.arrays[f"model/{i}"] for i in range(first.values["n_arrays"])]
        for part in mine:
            if "window" in part.arrays:
                self.window.append(FrameBlock.unpack(part.arrays["window"]))
        record = self.context.status.record
        record["rounds"] = record["iterations"] = self.rounds if self.leads else 0
        record["samples"], record["version"] = self.samples, self.versions.newest

    def snapshot(self) -> Part:
        """The model as a part of a checkpoint."""
        arrays = {f"model/{i}": array for i, array in enumerate(self.state)}
        return Part(
            {
                "rounds": self.rounds,
                "samples": self.samples,
                "n_arrays": len(self.state),
                "version": self.versions.newest,
            },
            arrays,
        )

    def load(self) -> None:
        """Make the model, if there is to be one; the run continues without one that no rank can make."""
        context = self.context
        fault: ModelError | None = None
        if self.settings.model == "none":
            return
        votes = context.comm.Dup()
        setup = Setup(
            self.settings,
            context.info.n_residues,
            context.config.run.seed + context.info.session,
            context.threads,
            context.gpu,
            Ranks(context.comm),
        )
        try:
            with context.heartbeat.expect_silence("load"):
                self.model = made = model.create(setup)
                self.restore(made)
                self.state = made.state()
        except ModelError as error:
            fault = error
        if all_fail(votes, fault, context.heartbeat):
            context.log.error("the run continues without a model: %s", fault)
        elif self.model is not None:
            context.status.update(data_parallel=DataParallel[self.model.data_parallel.upper()])
        votes.Free()

    def restore(self, made: model.Model) -> None:
        """Restore the model's state of an earlier session, or the weights of a version that it published afterwards.

        A model that was changed since starts from fresh weights.
        """
        newest = self.versions.newest
        try:
            if self.state:
                made.restore(self.state)
            if self.context.info.resumed is not None and newest > self.version:
                made.load(ModelWeights.read(self.context.info.directory / "models" / f"v{newest:06d}").arrays)
        except ModelError as error:
            self.context.log.error("the model starts from fresh weights: %s", error)

    def go_on(self, error: ModelError) -> None:
        """Continue without a model, or raise `error` where other ranks may be waiting for this one."""
        if self.context.comm.Get_size() > 1 and not isinstance(error, NothingToLearnError):
            raise error
        self.context.log.error("the run continues without a new model: %s", error)

    def round(self) -> None:
        """Train on the window; publish the model if the round was accepted."""
        context, trained = self.context, self.model
        self.drain_s = 0.0
        if trained is None:
            raise ModelError("there is no model to train")
        with (
            context.heartbeat.expect_silence("round", activity=Activity.TRAINING),
            context.events.span("train_round", round=self.rounds + 1, window=len(self.window)) as span,
        ):
            started = time.monotonic()
            self.warn_of_small_window()
            try:
                result, arrays = trained.train(self.window.block(), self), trained.weights()
                self.state = trained.state()
            except ModelError as error:
                span.update(error=str(error))
                self.go_on(error)
                return
            self.rounds += 1
            wait_until(started + stage_seconds(context.config, "training", self.rounds), self.between_batches)
            self.samples += result.samples
            published = result.accepted and (
                not self.leads or self._publish(self.next_version(result, arrays, trained.architecture))
            )
            span.update(
                version=self.versions.newest,
                samples=result.samples,
                epochs=result.epochs,
                loss=result.loss,
                validation_loss=result.validation_loss,
                accepted=result.accepted,
                published=published,
                stopped=result.stopped,
                reason=result.reason,
                drain_s=self.drain_s,
                weights_crc32=checksum(arrays),
            )
        context.events.flush()
        self.tell(result)

    def warn_of_small_window(self) -> None:
        """Say once that batches are filled up."""
        size, window = self.settings.batch_size, len(self.window)
        if window < size and not self.rounds:
            self.context.log.warning(
                "the window of %d frames is smaller than a batch of %d, which is filled up with "
                "frames that do not count: lower training.batch_size",
                window,
                size,
            )

    def between_batches(self) -> bool:
        """Whether the round is to end."""
        return self._between_batches()

    def next_version(self, result: Round, arrays: list[np.ndarray], architecture: dict[str, Any]) -> ModelWeights:
        """The model as the next version."""
        features, system = self.context.config.features, self.context.config.system
        return ModelWeights(
            self.versions.newest + 1,
            arrays,
            {
                "created": time.time(),
                "round": self.rounds,
                "samples": result.samples,
                "epochs": result.epochs,
                "loss": result.loss,
                "validation_loss": result.validation_loss,
                "window": len(self.window),
                "architecture": architecture,
                "settings": self.settings.plain(),
                "n_residues": self.context.info.n_residues,
                "descriptor": system.descriptor,
                "cutoff_angstrom": features.cutoff_angstrom,
            },
        )

    def tell(self, result: Round) -> None:
        """Write the round's log line and status; rounds are counted once, by the first of the ranks."""
        context, train = self.context, self.context.events.totals["train_round"]
        context.log.info(
            "round %d: %d samples, %d epochs, loss %.4g, validation %.4g, %s",
            self.rounds,
            result.samples,
            result.epochs,
            result.loss,
            result.validation_loss,
            "accepted" if result.accepted else f"not accepted: {result.reason}",
        )
        if result.epochs:
            context.status.update(loss=result.loss, validation_loss=result.validation_loss)
        joint = {"iterations": self.rounds, "rounds": self.rounds, "iteration_s": train.seconds} if self.leads else {}
        context.status.update(
            now=True, samples=self.samples, version=self.versions.newest, busy_s=train.seconds, **joint
        )

    def epoch(self, epoch: Epoch) -> None:
        """Record the losses of an epoch, which are those of all ranks: the first of them does it."""
        if self.leads:
            self.context.events.record(
                "epoch",
                epoch.started,
                epoch.seconds,
                round=self.rounds + 1,
                loss=epoch.training.loss,
                validation_loss=epoch.validation.loss,
                **epoch.training.terms,
            )


def recorded(directory: Path) -> tuple[int, int]:
    """The last round of training and the samples of all rounds and ranks, by the events of a run."""
    spans = [
        span
        for path in directory.glob("events/training-*.jsonl")
        for span in read_lines(path)
        # A round that the loss of a rank has cut short has no result.
        if span["name"] == "train_round" and "error" not in span and "samples" in span
    ]
    return max((span["round"] for span in spans), default=0), sum(span["samples"] for span in spans)


def all_fail(comm: MPI.Comm, fault: ModelError | None, heartbeat: Callable[[], None]) -> bool:
    """Whether every rank has met a fault: then none waits for another; beats meanwhile. Collective over `comm`.

    Raises
    ------
    ModelError
        My fault, if the others have none, or are not heard of in time: they may be waiting for me in the model.
    """
    votes, limit = Agreement(comm), monotonic() + VOTE_SECONDS
    while (total := votes.ask(fault is not None)) is None and (fault is None or monotonic() < limit):
        heartbeat()
        time.sleep(IDLE_SECONDS)
    if fault is not None and (total is None or total[0] < comm.Get_size()):
        raise fault
    return fault is not None


def checksum(arrays: list[np.ndarray]) -> int:
    """One number for the bits of all arrays: ranks that train together must have the same."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
    return crc
