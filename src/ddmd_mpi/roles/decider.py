"""Rounds of inference, wherever the window comes from: embed it, find the rare conformations, decide who restarts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import model
from ..errors import ModelError
from ..frames import CommandKind, FrameBlock, RestartCommand
from ..model import ModelWeights, Setup
from ..rundir import Lines, read_lines
from ..status import Activity
from ..steering.ligands import LigandCensus, first_topology
from ..steering.outliers import Outliers, find_outliers
from ..steering.policy import Policy, Restart
from .context import Context
from .decisions import Ledger
from .embedding import Embedding
from .emulation import stage_seconds, wait_until
from .versions import found


class Decider:
    """The inference rank's policy, its model, and its records.

    Raises
    ------
    ModelError
        What can be known of a model to come before it is made.
    """

    def __init__(self, context: Context):
        config = context.config
        self.context, self.settings = context, config.steering
        self.policy = Policy(
            self.settings, context.layout.n_walkers, config.run.seed, config.features.ligand_contacts,
            LigandCensus(topologies_at_begin(context), len(config.system.topologies), self.settings))
        self.embedding: Embedding | None = None
        if self.policy.needs_model:
            model.check(config.training, context.facts.n_residues)
        self.rounds = last_round(context.facts.directory / "rounds.jsonl")
        context.status.record["rounds"] = context.status.record["iterations"] = self.rounds
        self.ledger: Ledger
        self.lines: Lines

    def load(self) -> None:
        """Make the model that embeds; the run goes on without one that cannot be made."""
        context = self.context
        try:
            with context.status.expect_silence("load"):
                self.embedding = Embedding(model.create(Setup(
                    context.config.training, context.facts.n_residues, context.config.run.seed, context.threads,
                    context.gpu)))
        except ModelError as error:
            self.context.log.error("the run goes on without a model: %s", error)
            return
        newest = max(dict(found(context.facts.directory / "models")), default=0)
        if context.facts.resumed is not None and newest:
            self.take(lambda: ModelWeights.read(context.facts.directory / "models" / f"v{newest:06d}"))

    @property
    def ready(self) -> bool:
        """Whether a round could decide anything: there is a strategy, and a model if that needs one."""
        modelled = self.embedding is not None and self.embedding.version > 0
        return self.settings.strategy != "none" and (modelled or not self.policy.needs_model)

    def round(self, block: FrameBlock) -> None:
        """One round on the window `block`: embed, find outliers, choose restarts, command them."""
        context, status = self.context, self.context.status
        self.rounds += 1
        with status.expect_silence("round", activity=Activity.EMBEDDING), \
                context.events.span("inference_round", round=self.rounds, frames=len(block)) as span:
            started, clock = time.monotonic(), time.perf_counter()
            latents = self.embed(block)
            embedded = time.perf_counter()
            outliers = None if latents is None else find_outliers(latents, self.settings)
            found = time.perf_counter()
            wait_until(started + stage_seconds(context.config, "inference", self.rounds), lambda: context.left_s <= 0)
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
            "median_rmsd_angstrom": float(np.median(rmsd)) if len(rmsd) else None, "decisions": len(restarts),
            **self.walkers_per_ligand()})
        self.context.log.info("round %d: %d frames, model %d, %d outliers, %d restarts", self.rounds, len(block),
                              version, n_outliers, len(restarts))
        spent = self.context.events.totals["inference_round"].seconds
        self.context.status.update(
            now=True, rounds=self.rounds, iterations=self.rounds, iteration_s=spent, busy_s=spent,
            outliers=n_outliers, eps=np.nan if eps is None else eps, version=version)

    def walkers_per_ligand(self) -> dict[str, dict[str, int]]:
        """Walkers of each complex once the restarts of this round are done; nothing for a run of one topology."""
        names = self.context.config.system.topologies
        counts = dict(zip(names, self.policy.census.counts.tolist(), strict=True))
        return {"walkers_per_ligand": counts} if len(names) > 1 else {}

    def take(self, read: Callable[[], ModelWeights]) -> ModelWeights | None:
        """Go over to the newer weights that `read` gives; they are returned, None for none that can be used."""
        try:
            weights = read()
            self.embedding.load(weights)
            return weights
        except ModelError as error:
            self.context.log.error("the run goes on with model version %d: %s", self.embedding.version, error)
            return None


def topologies_at_begin(context: Context) -> np.ndarray:
    """Index of the topology with which each walker begins this session, shape (n_walkers,)."""
    resumed, n_topologies = context.facts.resumed, len(context.config.system.topologies)
    found = np.array([first_topology(w, n_topologies) for w in range(context.layout.n_walkers)])
    if resumed is not None and n_topologies > 1:
        for entry in resumed.of_role("simulation"):
            for walker, known in context.store.read_part(entry, only=()).values.items():
                found[int(walker)] = known["topology"]
    return found


def last_round(path: Path) -> int:
    """Number of the last round that is recorded, 0 for none."""
    return max((line["round"] for line in read_lines(path)), default=0)
