"""The training role: keep the model fresh on the newest frames and publish its weights.

Several training ranks train one model: each on the frames of its share of the streams, all round by round together.
"""

from __future__ import annotations

import logging
import time

import numpy as np

from ..checkpoints import Part
from ..errors import ModelError
from ..frames import FrameBlock, Hop
from ..model import ModelWeights, Round
from ..parallel.agreement import Agreement
from ..status import Activity, State
from ..wiring import TO_TRAINING, WEIGHTS
from .checkpointing import Checkpoints
from .context import IDLE_SECONDS, Context
from .trainer import Trainer


class Training(Trainer):
    """One training rank."""

    def __init__(self, context: Context):
        super().__init__(context)
        self.unsaved = 0  # versions that the disk has refused
        self.fresh, self.trained_on = 0, float(len(self.window)) if self.versions.newest else 0.0

    def run(self) -> None:
        """Train whenever the window has grown enough, until the streams end."""
        context = self.context
        self.inlets, self.outboxes = context.inlets(TO_TRAINING), context.outboxes(WEIGHTS)
        self.agreement, self.checkpoints = Agreement(context.comm), Checkpoints(context, self.snapshot)
        context.status.update(now=True, state=State.RUNNING, activity=Activity.LOADING)
        with context.events.span("start"):
            self.load()
        while (totals := self.agree())[0] < context.comm.Get_size():
            if self.due(*totals):
                self.fresh = 0
                self.round()
        self.finish()

    def agree(self) -> np.ndarray:
        """What all training ranks know together: how many have ended, their fresh and windowed frames, and how many
        cannot train.
        """
        while True:
            self.drain()
            unable = self.model is None or not len(self.window) or self.over()
            totals = self.agreement.ask(self.ended(), self.fresh, len(self.window), unable)
            if totals is not None:
                return totals
            self.context.status.update(activity=Activity.WAITING)
            time.sleep(IDLE_SECONDS)

    def snapshot(self) -> Part:
        """The model and the window as a part of a checkpoint."""
        part = super().snapshot()
        window = {"window": self.window.copy().pack(Hop.FEATURES)} if len(self.window) else {}
        return Part(part.values, {**part.arrays, **window})

    def ended(self) -> bool:
        """Whether every aggregator has ended its stream, or the time for draining is over."""
        return all(inlet.ended for inlet in self.inlets) or self.context.overdue

    def over(self) -> bool:
        """Whether what I could still learn is of no use: not yet where my walkers alone have come to their end."""
        alone = self.context.comm.Get_size() == 1
        return self.ended() and (alone or self.context.left_s <= 0)

    def drain(self) -> None:
        """Take every block that has arrived, and send what waits: called between batches, too."""
        clock = time.perf_counter()
        for inlet in self.inlets:
            for payload in inlet.arrived():
                block = FrameBlock.unpack(payload)
                self.window.append(block)
                self.fresh += len(block)
        for outbox in self.outboxes:
            outbox.pump()
        self.checkpoints.look()
        self.context.status.update(window=len(self.window))
        self.drain_s += time.perf_counter() - clock

    def due(self, _ended: float, fresh: float, frames: float, unable: float) -> bool:
        """Whether enough frames are new since the last round, counted over all training ranks."""
        settings = self.settings
        wanted = (settings.retrain_growth - 1) * self.trained_on if self.trained_on else settings.first_frames
        if self.trained_on and settings.retrain_frames is not None:
            wanted = min(wanted, settings.retrain_frames)
        if unable or fresh < wanted:
            return False
        self.trained_on = frames
        return True

    def publish(self, result: Round, arrays: list[np.ndarray]) -> ModelWeights | None:
        """Save the model as the next version and offer its weights to inference, where the newest wins.

        A version that the disk refuses steers nobody, for what decisions name must be there; the run goes on.
        """
        try:
            weights = super().publish(result, arrays)
        except ModelError as error:
            self.context.log.log(logging.INFO if self.unsaved else logging.ERROR,
                                 "the run goes on with model version %d: %s", self.versions.newest, error)
            self.unsaved += 1
            return None
        for outbox in self.outboxes:
            outbox.offer(weights.pack())
            outbox.pump()
        return weights

    def between_batches(self) -> bool:
        """Drain; whether the round is to end."""
        self.drain()
        return self.over()

    def finish(self) -> None:
        """Send the last version and end the stream."""
        self.context.status.update(now=True, state=State.DRAINING, activity=Activity.DRAINING)
        for outbox in self.outboxes:
            outbox.flush(self.context.given_up)
        for end in (*(outbox.writer for outbox in self.outboxes), *self.inlets):
            end.close()
        self.checkpoints.last()
        if self.model is not None:
            self.model.free()
