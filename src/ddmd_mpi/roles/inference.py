"""The inference role: embed the window, find the rare conformations, decide who restarts where."""

from __future__ import annotations

import time

import numpy as np

from ..checkpoints import Part
from ..frames import CommandKind, FrameBlock, Hop, RestartCommand
from ..model import ModelWeights
from ..rundir import Lines
from ..status import STOP_REASONS, Activity, State
from ..window import FrameWindow, inference_frames
from ..wiring import TO_INFERENCE, WEIGHTS
from .checkpointing import Checkpoints
from .context import IDLE_SECONDS, Context
from .decider import Decider
from .decisions import Ledger
from .recall import KEYS, confirm, mark


class Inference(Decider):
    """One inference rank."""

    def __init__(self, context: Context):
        super().__init__(context)
        self.round_frames, n_frames = inference_frames(context.config, context.layout.n_walkers)
        self.window = FrameWindow(n_frames)
        self.fresh = 0
        self.best_rmsd = np.inf
        self.stopped = self.recalled = False
        if context.facts.resumed is not None:
            self.resume()

    def run(self) -> None:
        """Decide a round whenever every walker has reported often enough, until the streams end."""
        context, directory = self.context, self.context.facts.directory
        self.inlets = context.inlets(TO_INFERENCE)
        (self.weights_inlet,) = context.inlets(WEIGHTS)
        context.status.update(now=True, state=State.RUNNING, activity=Activity.LOADING)
        with context.events.span("start"):
            if self.policy.needs_model:
                self.load()
        checkpoints = Checkpoints(context, self.snapshot)
        with Ledger(context) as self.ledger, Lines(directory / "rounds.jsonl") as self.lines:
            self.policy.recall(self.ledger.sources)
            while not all(inlet.ended for inlet in (*self.inlets, self.weights_inlet)) and not context.overdue:
                moved = self.drain()
                self.ledger.collect()
                checkpoints.look()
                self.policy.give_back(self.ledger.lose(context.vigil.lost_walkers))
                self.stop_at_target()
                if self.due():
                    self.fresh = 0
                    self.confirm()
                    with context.on_record():
                        self.round(self.window.block())
                elif not moved:
                    context.status.update(activity=Activity.WAITING)
                    time.sleep(IDLE_SECONDS)
            self.finish()
        checkpoints.last()

    def snapshot(self) -> Part:
        """The window and the policy's random numbers as a part of a checkpoint; what was decided is on record."""
        arrays = {}
        if len(self.window):
            block = self.window.block()
            arrays = {"window": block.pack(Hop.FEATURES), **{name: block[name] for name in KEYS}}
        return Part({"fresh": self.fresh, "policy": self.policy.state()}, arrays)

    def resume(self) -> None:
        """Go on with the window of an earlier session, whose coordinates the aggregators take back."""
        for entry in self.context.facts.resumed.of_role("inference"):
            part = self.context.store.read_part(entry)
            self.fresh = part.values["fresh"]
            self.policy.restore(part.values["policy"])
            if "window" in part.arrays:
                block = FrameBlock.unpack(part.arrays["window"])
                self.window.append(mark(block, self.context.ring))
                self.best_rmsd, self.recalled = np.nanmin(block["rmsd"], initial=self.best_rmsd), True

    def confirm(self) -> None:
        """Before the first round after an earlier session: leave out coordinates that nobody has found again."""
        if self.recalled:
            self.recalled, block = False, confirm(self.window.block(), self.context.ring)
            self.window = FrameWindow(self.window.capacity)
            self.window.append(block)

    def drain(self) -> bool:
        """Take every block of features and the newest weights that have arrived."""
        moved = False
        for inlet in self.inlets:
            for payload in inlet.arrived():
                block = FrameBlock.unpack(payload)
                self.window.append(block)
                self.fresh += len(block)
                self.best_rmsd = np.nanmin(block["rmsd"], initial=self.best_rmsd)
                moved = True
        newest = None
        while (payload := self.weights_inlet.poll()) is not None:
            newest = payload
        if newest is not None and self.embedding is not None:
            self.take(lambda: ModelWeights.unpack(newest))
        self.context.status.update(window=len(self.window))
        return moved

    def due(self) -> bool:
        """Whether a round can be decided: enough new frames, time left to act, and a model if one is needed."""
        return self.ready and not self.stopped and self.fresh >= self.round_frames and self.context.left_s > 0

    def stop_at_target(self) -> None:
        """Stop the run once a frame is as near the target as was asked: walkers at once, then whoever trains."""
        target = self.context.config.run.target_rmsd_angstrom
        if target is None or self.stopped or self.best_rmsd > target:
            return
        self.context.log.info("target RMSD of %.2f angstrom reached: stopping", target)
        self.stopped = True
        for walker in range(self.context.layout.n_walkers):
            self.context.mailboxes.send(walker, RestartCommand(CommandKind.STOP, -1, time.time()))
        self.context.control.tell(STOP_REASONS.index("target_rmsd"))

    def finish(self) -> None:
        """Take the last receipts and close."""
        self.context.status.update(now=True, state=State.DRAINING, activity=Activity.DRAINING)
        self.ledger.collect()
        for inlet in (*self.inlets, self.weights_inlet):
            inlet.close()
