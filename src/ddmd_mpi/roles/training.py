"""The training role: keep the model fresh on the newest frames and publish its weights.

Several training ranks train one model: each on the frames of its share of the streams, all round by round together.
"""

from __future__ import annotations

import time
import zlib

import numpy as np

from .. import model
from ..errors import ModelError, NothingToLearnError
from ..frames import FrameBlock, FrameWindow
from ..model import Epoch, ModelWeights, Ranks, Round, Setup, Supervisor
from ..parallel.agreement import Agreement
from ..status import DATA_PARALLEL, Activity, State
from ..wiring import TO_TRAINING, WEIGHTS
from .context import IDLE_SECONDS, Context
from .versions import Versions


class Training(Supervisor):
    """One training rank."""

    def __init__(self, context: Context):
        self.context, self.settings = context, context.config.training
        self.model: model.Model | None = None
        if self.settings.model != "none":
            model.check(self.settings, context.facts.n_residues)
        self.leads = context.rank == context.layout.ranks("training")[0]
        self.window = FrameWindow(self.settings.window_frames)
        self.fresh, self.trained_on, self.rounds, self.samples, self.drain_s = 0, 0.0, 0, 0, 0.0

    def run(self) -> None:
        """Train whenever the window has grown enough, until the streams end."""
        context = self.context
        self.inlets, self.outboxes = context.inlets(TO_TRAINING), context.outboxes(WEIGHTS)
        self.versions = Versions(context.facts.directory / "models", self.settings.keep_versions)
        self.agreement = Agreement(context.comm)
        context.status.update(now=True, state=State.RUNNING, activity=Activity.LOADING)
        with context.events.span("start"):
            self.load()
        while (totals := self.agree())[0] < context.comm.Get_size():
            if self.due(*totals):
                self.round()
        self.finish()

    def load(self) -> None:
        """Make the model, if there is to be one; the run goes on without one that cannot be made."""
        context = self.context
        if self.settings.model == "none":
            return
        setup = Setup(self.settings, context.facts.n_residues, context.config.run.seed, context.threads, context.gpu,
                      Ranks(context.comm))
        try:
            self.model = model.create(setup)
        except ModelError as error:
            self.go_on(error)
        else:
            context.status.update(data_parallel=DATA_PARALLEL.index(self.model.data_parallel))

    def go_on(self, error: ModelError) -> None:
        """Go on without a model, or raise `error` where other ranks may be waiting for this one."""
        if self.context.comm.Get_size() > 1 and not isinstance(error, NothingToLearnError):
            raise error
        self.context.log.error("the run goes on without a new model: %s", error)

    def agree(self) -> np.ndarray:
        """What all training ranks know together: how many have ended, their fresh and windowed frames, and how many
        cannot train.
        """
        while True:
            self.drain()
            unable = self.model is None or not len(self.window)
            totals = self.agreement.ask(self.ended(), self.fresh, len(self.window), unable)
            if totals is not None:
                return totals
            self.context.status.update(activity=Activity.WAITING)
            time.sleep(IDLE_SECONDS)

    def ended(self) -> bool:
        """Whether every aggregator has ended its stream, or the time for draining is over."""
        return all(inlet.ended for inlet in self.inlets) or self.context.overdue

    def drain(self) -> None:
        """Take every block that has arrived, and send what waits: called between batches, too."""
        clock = time.perf_counter()
        for inlet in self.inlets:
            while (payload := inlet.poll()) is not None:
                block = FrameBlock.unpack(payload)
                self.window.append(block)
                self.fresh += len(block)
        for outbox in self.outboxes:
            outbox.pump()
        self.context.status.update(window=len(self.window))
        self.drain_s += time.perf_counter() - clock

    def due(self, ended: float, fresh: float, frames: float, unable: float) -> bool:
        """Whether enough frames are new since the last round, counted over all training ranks."""
        settings = self.settings
        wanted = (settings.retrain_growth - 1) * self.trained_on if self.trained_on else settings.first_frames
        if self.trained_on and settings.retrain_frames is not None:
            wanted = min(wanted, settings.retrain_frames)
        if ended or unable or fresh < wanted:
            return False
        self.trained_on = frames
        return True

    def round(self) -> None:
        """Train on the window; publish the model if the round was accepted."""
        context, self.fresh, self.drain_s = self.context, 0, 0.0
        context.status.update(now=True, activity=Activity.TRAINING)
        with context.events.span("train_round", round=self.rounds + 1, window=len(self.window)) as span:
            try:
                result = self.model.train(self.window.block(), self)
            except ModelError as error:
                span.update(error=str(error))
                self.go_on(error)
                return
            self.rounds += 1
            self.samples += result.samples
            arrays = self.model.weights()
            if result.accepted and self.leads:
                self.publish(result, arrays)
            span.update(version=self.versions.newest, samples=result.samples, epochs=result.epochs, loss=result.loss,
                        validation_loss=result.validation_loss, published=result.accepted, stopped=result.stopped,
                        reason=result.reason, drain_s=self.drain_s, weights_crc32=checksum(arrays))
        self.tell(result)

    def publish(self, result: Round, arrays: list[np.ndarray]) -> None:
        """Save the model as the next version and offer its weights to inference, where the newest wins."""
        features, system = self.context.config.features, self.context.config.system
        weights = ModelWeights(self.versions.newest + 1, arrays, {
            "created": time.time(), "samples": result.samples, "epochs": result.epochs, "loss": result.loss,
            "validation_loss": result.validation_loss, "window": len(self.window),
            "architecture": self.model.architecture, "settings": self.settings.model_dump(mode="json"),
            "n_residues": self.context.facts.n_residues, "descriptor": system.descriptor,
            "cutoff_angstrom": features.cutoff_angstrom})
        self.versions.save(weights)
        for outbox in self.outboxes:
            outbox.offer(weights.pack())
            outbox.pump()

    def tell(self, result: Round) -> None:
        """Write the round's log line and status; rounds are counted once, by the first of the ranks."""
        context, train = self.context, self.context.events.totals["train_round"]
        context.log.info("round %d: %d samples, %d epochs, loss %.4g, validation %.4g, %s", self.rounds,
                         result.samples, result.epochs, result.loss, result.validation_loss,
                         "accepted" if result.accepted else f"not accepted: {result.reason}")
        if result.epochs:
            context.status.update(loss=result.loss, validation_loss=result.validation_loss)
        joint = {"iterations": self.rounds, "rounds": self.rounds, "iteration_s": train.seconds} if self.leads else {}
        context.status.update(
            now=True, samples=self.samples, version=self.versions.newest, busy_s=train.seconds, **joint,
            bytes=sum(o.writer.nbytes for o in self.outboxes), blocks=sum(o.writer.n_written for o in self.outboxes))

    def between_batches(self) -> bool:
        """Drain; whether the round is to end."""
        self.drain()
        return self.ended()

    def epoch(self, epoch: Epoch) -> None:
        """Record the losses of an epoch, which are those of all ranks: the first of them does it."""
        if self.leads:
            self.context.events.record(
                "epoch", epoch.started, epoch.seconds, round=self.rounds + 1, loss=epoch.training.loss,
                validation_loss=epoch.validation.loss, **epoch.training.terms)

    def finish(self) -> None:
        """Send the last version and end the stream."""
        self.context.status.update(now=True, state=State.DRAINING, activity=Activity.DRAINING)
        for outbox in self.outboxes:
            outbox.flush(lambda: self.context.overdue)
        for end in (*(outbox.writer for outbox in self.outboxes), *self.inlets):
            end.close()
        if self.model is not None:
            self.model.free()


def checksum(arrays: list[np.ndarray]) -> int:
    """One number for the bits of all arrays: ranks that train together must have the same."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array), crc)
    return crc
