"""The training role: keep the model fresh on the newest frames and publish its weights.

Several training ranks train one model: each on the frames of its share of the streams, all round by round together.
"""

from __future__ import annotations

import logging
import time

import numpy as np

from ..errors import ModelError
from ..frames.block import FrameBlock, Hop
from ..layout.links import TO_TRAINING, WEIGHTS
from ..model import ModelWeights
from ..monitor.status import Activity, State
from ..parallel.collectives import Agreement
from ..rundir.checkpoints import Part
from .checkpoint import Checkpoints
from .context import IDLE_SECONDS, StreamContext
from .trainer import Trainer


class Training:
    """One training rank."""

    def __init__(self, context: StreamContext):
        self.context = context
        self.trainer = Trainer(context, self.between_batches, self.publish)
        self.checkpoints: Checkpoints | None = None  # once the work has begun
        self.unsaved = 0  # versions that the disk has refused
        # Frames that have come since the last round.
        self.fresh = 0
        # Frames of all ranks' windows at the last round, 0 before the first.
        self.trained_on = float(len(self.trainer.window)) if self.trainer.versions.newest else 0.0

    def run(self) -> None:
        """Train whenever the window has grown enough, until the streams end."""
        context = self.context
        self.inboxes, self.outboxes = context.streams.inboxes(TO_TRAINING), context.streams.outboxes(WEIGHTS)
        self.agreement = Agreement(context.comm)
        self.checkpoints = checkpoints = Checkpoints(context, self.snapshot)
        context.status.update(now=True, state=State.RUNNING, activity=Activity.LOADING)
        with context.events.span("start"):
            self.trainer.load()
        while (totals := self.agree())[0] < context.comm.Get_size():
            if self.due(*totals):
                self.fresh = 0
                self.trainer.round()
            else:
                self.rest()
        self.finish(checkpoints)

    def agree(self) -> np.ndarray:
        """What all training ranks know together.

        How many have ended, their fresh and windowed frames, and how many cannot train.
        """
        while True:
            self.drain()
            unable = self.trainer.model is None or not len(self.trainer.window) or self.over()
            totals = self.agreement.ask(self.ended(), self.fresh, len(self.trainer.window), unable)
            if totals is not None:
                return totals
            self.rest()

    def rest(self) -> None:
        """Leave the core to others for a moment."""
        self.context.status.update(activity=Activity.WAITING)
        time.sleep(IDLE_SECONDS)

    def snapshot(self) -> Part:
        """The model and the window as a part of a checkpoint."""
        part = self.trainer.snapshot()
        window = {"window": self.trainer.window.copy().pack(Hop.FEATURES)} if len(self.trainer.window) else {}
        return Part(part.values, {**part.arrays, **window})

    def ended(self) -> bool:
        """Whether every aggregator has ended its stream, or the time for draining is over."""
        return all(inlet.ended for inlet in self.inboxes) or self.context.control.overdue

    def over(self) -> bool:
        """Whether what I could still learn is of no use: not yet where my walkers alone have come to their end."""
        alone = self.context.comm.Get_size() == 1
        return self.ended() and (alone or self.context.control.over)

    def drain(self) -> None:
        """Take every block that has arrived, and send what waits: called between batches, too."""
        clock = time.perf_counter()
        for inlet in self.inboxes:
            for payload in inlet.arrived():
                block = FrameBlock.unpack(payload)
                self.trainer.window.append(block)
                self.fresh += len(block)
                self.context.heartbeat()
        for outbox in self.outboxes:
            outbox.pump()
        self.context.plane.progress()
        if self.checkpoints is not None:
            self.checkpoints.look()
        self.context.status.update(window=len(self.trainer.window))
        self.context.heartbeat()
        self.context.control.poll()
        self.trainer.drain_s += time.perf_counter() - clock

    def due(self, _ended: float, fresh: float, frames: float, unable: float) -> bool:
        """Whether enough frames are new since the last round, counted over all training ranks."""
        settings = self.context.config.training
        wanted = (settings.retrain_growth - 1) * self.trained_on if self.trained_on else settings.first_frames
        if self.trained_on and settings.retrain_frames is not None:
            wanted = min(wanted, settings.retrain_frames)
        if unable or fresh < wanted:
            return False
        self.trained_on = frames
        return True

    def publish(self, weights: ModelWeights) -> bool:
        """Save a version of the model and offer its weights to inference, where the newest wins; whether it was saved.

        A version that the disk refuses steers nobody, for what decisions name must be there; the run continues.
        """
        try:
            self.trainer.versions.save(weights)
        except ModelError as error:
            self.context.log.log(
                logging.INFO if self.unsaved else logging.ERROR,
                "the run continues with model version %d: %s",
                self.trainer.versions.newest,
                error,
            )
            self.unsaved += 1
            return False
        for outbox in self.outboxes:
            outbox.offer(weights.pack())
            outbox.pump()
        return True

    def between_batches(self) -> bool:
        """Drain; whether the round is to end."""
        self.drain()
        return self.over()

    def finish(self, checkpoints: Checkpoints) -> None:
        """Send the last version and end the stream."""
        self.context.status.update(now=True, state=State.DRAINING, activity=Activity.DRAINING)
        for outbox in self.outboxes:
            outbox.flush(self.context.should_give_up)
            outbox.writer.close()
        for inlet in self.inboxes:
            inlet.close()
        checkpoints.last()
        if self.trainer.model is not None:
            self.trainer.model.free()
