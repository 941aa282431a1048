"""The inference role: embed the window, find the rare conformations, decide who restarts where."""

from __future__ import annotations

import time

import numpy as np

from .. import model
from ..errors import ModelError
from ..frames import CommandKind, FrameBlock, FrameWindow, RestartCommand
from ..model import ModelWeights, Setup
from ..rundir import Lines
from ..status import Activity, State
from ..steering.outliers import Outliers, find_outliers
from ..steering.policy import Policy, Restart
from ..wiring import TO_INFERENCE, WEIGHTS
from .context import IDLE_SECONDS, Context
from .decisions import Ledger
from .embedding import Embedding


class Inference:
    """One inference rank."""

    def __init__(self, context: Context):
        config = context.config
        self.context, self.settings = context, config.steering
        n_walkers, reports = context.layout.n_walkers, self.settings.round_reports
        reports = config.simulation.reports_per_segment if reports == "auto" else reports
        self.round_frames = n_walkers * reports
        wanted = max(n_walkers, round(self.settings.window_rounds * self.round_frames))
        self.window = FrameWindow(min(wanted, self.settings.window_frames))
        self.policy = Policy(self.settings, n_walkers, config.run.seed)
        self.embedding: Embedding | None = None
        if self.policy.needs_model:
            model.check(config.training, context.facts.n_residues)
        self.fresh, self.rounds = 0, 0
        self.best_rmsd = np.inf
        self.stopped = False

    def run(self) -> None:
        """Decide a round whenever every walker has reported often enough, until the streams end."""
        context, directory = self.context, self.context.facts.directory
        self.inlets = context.inlets(TO_INFERENCE)
        (self.weights_inlet,) = context.inlets(WEIGHTS)
        context.status.update(now=True, state=State.RUNNING, activity=Activity.LOADING)
        with context.events.span("start"):
            if self.policy.needs_model:
                self.load()
        with Ledger(context) as self.ledger, Lines(directory / "rounds.jsonl") as self.lines:
            while not all(inlet.ended for inlet in (*self.inlets, self.weights_inlet)) and not context.overdue:
                moved = self.drain()
                self.ledger.collect()
                self.stop_at_target()
                if self.due():
                    self.round()
                elif not moved:
                    context.status.update(activity=Activity.WAITING)
                    time.sleep(IDLE_SECONDS)
            self.finish()

    def load(self) -> None:
        """Make the model that embeds; the run goes on without one that cannot be made."""
        context = self.context
        try:
            self.embedding = Embedding(model.create(Setup(
                context.config.training, context.facts.n_residues, context.config.run.seed, context.threads,
                context.gpu)))
        except ModelError as error:
            self.context.log.error("the run goes on without a model: %s", error)

    def drain(self) -> bool:
        """Take every block of features and the newest weights that have arrived."""
        moved = False
        for inlet in self.inlets:
            while (payload := inlet.poll()) is not None:
                block = FrameBlock.unpack(payload)
                self.window.append(block)
                self.fresh += len(block)
                self.best_rmsd = np.nanmin(block["rmsd"], initial=self.best_rmsd)
                moved = True
        newest = None
        while (payload := self.weights_inlet.poll()) is not None:
            newest = payload
        if newest is not None and self.embedding is not None:
            self.take(newest)
        self.context.status.update(window=len(self.window))
        return moved

    def take(self, payload: np.ndarray) -> None:
        """Go over to newer weights."""
        try:
            self.embedding.load(ModelWeights.unpack(payload))
        except ModelError as error:
            self.context.log.error("the run goes on with model version %d: %s", self.embedding.version, error)

    def due(self) -> bool:
        """Whether a round can be decided: enough new frames, time left to act, and a model if one is needed."""
        modelled = self.embedding is not None and self.embedding.version > 0
        ready = self.settings.strategy != "none" and (modelled or not self.policy.needs_model)
        return ready and not self.stopped and self.fresh >= self.round_frames and self.context.left_s > 0

    def round(self) -> None:
        """One round: embed, find outliers, choose restarts, command them."""
        context = self.context
        context.status.update(activity=Activity.EMBEDDING)
        self.fresh = 0
        self.rounds += 1
        with context.events.span("inference_round", round=self.rounds, frames=len(self.window)) as span:
            block = self.window.block()
            clock = time.perf_counter()
            latents = self.embed(block)
            embedded = time.perf_counter()
            outliers = None if latents is None else find_outliers(latents, self.settings)
            found = time.perf_counter()
            restarts = self.policy.choose(block, latents, outliers, self.ledger.idle(block))
            version = 0 if self.embedding is None else self.embedding.version
            for restart in restarts:
                self.command(block, restart, outliers, version)
            span.update(decisions=len(restarts), embed_s=embedded - clock, outliers_s=found - embedded,
                        model_version=version)
        self.record(block, outliers, restarts, version)

    def embed(self, block: FrameBlock) -> np.ndarray | None:
        """Latents of the window; None without a model, or with one that fails."""
        try:
            return None if self.embedding is None else self.embedding.embed(block)
        except ModelError as error:
            self.context.log.error("no restarts in this round: %s", error)
            return None

    def command(self, block: FrameBlock, restart: Restart, outliers: Outliers | None, version: int) -> None:
        """Write one restart into its walker's mailbox, and into the ledger."""
        i = restart.index
        command = RestartCommand(
            kind=CommandKind.RESTART, decision=self.ledger.next_decision(), decided=time.time(),
            model_version=version, topology=int(block["topology"][i]),
            source_simulation=int(block["simulation"][i]), source_segment=int(block["segment"][i]),
            source_frame=int(block["frame"][i]), aggregator=int(block["aggregator"][i]),
            ring_slot=int(block["ring_slot"][i]), slot_generation=int(block["slot_generation"][i]),
            velocity_seed=restart.velocity_seed)
        self.ledger.send(restart, command, outliers)

    def record(self, block: FrameBlock, outliers: Outliers | None, restarts: list[Restart], version: int) -> None:
        """Write the round's line, log and status."""
        n_outliers = 0 if outliers is None else int(outliers.mask.sum())
        eps = None if outliers is None or not np.isfinite(outliers.eps) else float(outliers.eps)
        rmsd = block["rmsd"][np.isfinite(block["rmsd"])]
        self.lines.append({
            "round": self.rounds, "time": time.time(), "frames": len(block), "model_version": version,
            "outliers": n_outliers, "eps": eps, "method": None if outliers is None else outliers.method,
            "best_rmsd_angstrom": float(rmsd.min()) if len(rmsd) else None,
            "median_rmsd_angstrom": float(np.median(rmsd)) if len(rmsd) else None, "decisions": len(restarts)})
        self.context.log.info("round %d: %d frames, model %d, %d outliers, %d restarts", self.rounds, len(block),
                              version, n_outliers, len(restarts))
        spent = self.context.events.totals["inference_round"].seconds
        self.context.status.update(
            now=True, rounds=self.rounds, iterations=self.rounds, iteration_s=spent, busy_s=spent,
            outliers=n_outliers, eps=np.nan if eps is None else eps, version=version)

    def stop_at_target(self) -> None:
        """Tell every walker to stop once a frame is as near the target as was asked."""
        target = self.context.config.run.target_rmsd_angstrom
        if target is None or self.stopped or self.best_rmsd > target:
            return
        self.context.log.info("target RMSD of %.2f angstrom reached: stopping", target)
        self.stopped = True
        for walker in range(self.context.layout.n_walkers):
            self.context.mailboxes.send(walker, RestartCommand(CommandKind.STOP, -1, time.time()))

    def finish(self) -> None:
        """Take the last receipts and close."""
        self.context.status.update(now=True, state=State.DRAINING, activity=Activity.DRAINING)
        self.ledger.collect()
        for inlet in (*self.inlets, self.weights_inlet):
            inlet.close()
