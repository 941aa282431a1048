"""The training role: keep the model fresh on the newest frames and publish its weights."""

from __future__ import annotations

import time

from .. import model
from ..frames import FrameBlock, FrameWindow
from ..model import ModelWeights, Round
from ..status import Activity, State
from ..wiring import TO_TRAINING, WEIGHTS
from .context import IDLE_SECONDS, Context


class Training:
    """One training rank."""

    def __init__(self, context: Context):
        self.context = context
        self.settings = context.config.training
        self.window = FrameWindow(self.settings.window_frames)
        self.seen, self.trained_on = 0, 0
        self.rounds, self.version, self.samples = 0, 0, 0

    def run(self) -> None:
        """Train whenever the window has grown enough, until the streams end."""
        context = self.context
        self.inlets = context.inlets(TO_TRAINING)
        (self.outbox,) = context.outboxes(WEIGHTS)
        context.status.update(now=True, state=State.RUNNING, activity=Activity.LOADING)
        with context.events.span("start"):
            if self.settings.model != "none":
                n_residues, seed = context.facts.n_residues, context.config.run.seed
                self.model = model.create(self.settings, n_residues, seed, context.gpu)
        while not self.ended():
            self.drain()
            if self.due():
                self.round()
            else:
                context.status.update(activity=Activity.WAITING)
                time.sleep(IDLE_SECONDS)
        self.finish()

    def ended(self) -> bool:
        """Whether every aggregator has ended its stream, or the time for draining is over."""
        return all(inlet.ended for inlet in self.inlets) or self.context.overdue

    def drain(self) -> None:
        """Take every block that has arrived: called between batches, too."""
        for inlet in self.inlets:
            while (payload := inlet.poll()) is not None:
                block = FrameBlock.unpack(payload)
                self.window.append(block)
                self.seen += len(block)
        self.outbox.pump()
        self.context.status.update(window=len(self.window))

    def due(self) -> bool:
        """Whether enough frames are new since the last round."""
        wanted = max(self.settings.first_frames, self.trained_on * self.settings.retrain_growth)
        return self.settings.model != "none" and self.seen >= wanted

    def round(self) -> None:
        """Train on the window; publish the model if it is fit for use."""
        context = self.context
        self.trained_on = self.seen
        context.status.update(now=True, activity=Activity.TRAINING)
        with context.events.span("train_round", round=self.rounds + 1, window=len(self.window)) as span:
            result = self.model.train(self.window.block(), self.ended, self.drain)
            self.rounds += 1
            self.samples += result.samples
            published = model.publishable(result, self.settings)
            if published:
                self.publish(result)
            span.update(version=self.version, samples=result.samples, epochs=result.epochs, loss=result.loss,
                        validation_loss=result.validation_loss, published=published, stopped=result.stopped)
        for number, epoch in enumerate(result.history):
            context.events.record("epoch", time.time(), epoch.seconds, round=self.rounds, epoch=number,
                                  loss=epoch.training.loss, validation_loss=epoch.validation.loss,
                                  reconstruction=epoch.training.reconstruction, divergence=epoch.training.divergence)
        context.log.info("round %d: %d samples, %d epochs, loss %.4g, validation %.4g, %s", self.rounds,
                         result.samples, result.epochs, result.loss, result.validation_loss,
                         f"published version {self.version}" if published else "not published")
        train = context.events.totals["train_round"]
        context.status.update(
            now=True, iterations=self.rounds, rounds=self.rounds, samples=self.samples, loss=result.loss,
            validation_loss=result.validation_loss, version=self.version, iteration_s=train.seconds,
            busy_s=train.seconds, bytes=self.outbox.writer.nbytes, blocks=self.outbox.writer.n_written)

    def publish(self, result: Round) -> None:
        """Save the model as the next version and offer its weights to inference, where the newest wins."""
        self.version += 1
        weights = ModelWeights(self.version, self.model.weights(), {
            "version": self.version, "created": time.time(), "samples": result.samples, "epochs": result.epochs,
            "loss": result.loss, "validation_loss": result.validation_loss, "window": len(self.window),
            "architecture": self.model.architecture})
        weights.save(self.context.facts.directory / "models")
        self.outbox.offer(weights.pack())
        self.outbox.pump()

    def finish(self) -> None:
        """Send the last version and end the stream."""
        self.context.status.update(now=True, state=State.DRAINING, activity=Activity.DRAINING)
        self.outbox.flush(lambda: self.context.overdue)
        for end in (self.outbox.writer, *self.inlets):
            end.close()
