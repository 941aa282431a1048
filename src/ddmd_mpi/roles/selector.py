"""Rounds of inference, wherever the window comes from: embed it, find the rare conformations, decide who restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .. import model
from ..errors import ModelError
from ..frames.block import FrameBlock
from ..frames.command import CommandKind, RestartCommand
from ..model import Model, ModelWeights, Setup
from ..model.versions import found
from ..monitor.status import Activity
from ..rundir.disk import Lines, read_lines
from ..steering.instant import INSTANT, instant_latents
from ..steering.ligand_quota import LigandCensus, first_topology
from ..steering.outliers import Outliers, find_outliers
from ..steering.policy import Policy, Restart
from ..steering.stop_rules import StopRules
from .context import CommandChannel, Context
from .decision_log import used_frames
from .emulation import stage_seconds, wait_until
from .restart_tracker import RestartTracker


class RestartSelector:
    """The inference rank's policy, its model, and its records.

    Parameters
    ----------
    mailboxes
        Carry its commands.

    Raises
    ------
    ModelError
        What can be known of a model to come before it is made.
    ConfigError
        If a strategy of the user's own cannot be had.
    """

    def __init__(self, context: Context, mailboxes: CommandChannel):
        config = context.config
        self.context, self.settings = context, config.steering
        self._mailboxes = mailboxes
        self.policy = Policy(
            self.settings,
            context.layout.n_walkers,
            config.run.seed,
            config.features.ligand_contacts,
            LigandCensus(topologies_at_begin(context), len(config.system.topologies), self.settings),
            config.coordinate,
        )
        self.stop_rules = StopRules(config.run, config.simulation.report_interval_ps)
        self.embedding: Embedding | None = None
        self.unmade = False  # whether the model could not be made
        if self.policy.needs_model:
            model.check(config.training, context.info.n_residues)
        # What the model said when it last failed; None if it did not.
        self._failure: str | None = None
        # Whether the strategy's last verdict was as it must be.
        self._sound = True
        self.rounds = last_round(context.info.directory / "rounds.jsonl")
        context.status.record["rounds"] = context.status.record["iterations"] = self.rounds
        self.tracker: RestartTracker
        self.lines: Lines

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keep the records of decisions and rounds open; recall what those of earlier sessions say."""
        directory = self.context.info.directory
        tracker = RestartTracker(self.context, self._mailboxes)
        with tracker as self.tracker, Lines(directory / "rounds.jsonl") as self.lines:
            if self.context.info.resumed is not None:
                lines = self.tracker.resume()
                self.policy.recall(used_frames(lines))
                self.stop_rules.recall(lines)
            yield

    def collect(self) -> None:
        """Read the receipts that have arrived, and write off what is under way to lost walkers."""
        self.tracker.collect()
        self.policy.give_back(self.tracker.write_off(self.context.detector.lost_walkers))

    def load(self) -> None:
        """Make the model that embeds; the run continues without one that cannot be made."""
        context = self.context
        try:
            with context.heartbeat.expect_silence("load"):
                self.embedding = Embedding(
                    model.create(
                        Setup(
                            context.config.training,
                            context.info.n_residues,
                            context.config.run.seed,
                            context.threads,
                            context.gpu,
                        )
                    )
                )
        except ModelError as error:
            self.unmade = True
            how = "by principal components" if self.settings.instant_model else "without restarts"
            self.context.log.error("the model cannot be made, the run continues %s: %s", how, error)
            return
        newest = max(dict(found(context.info.directory / "models")), default=0)
        if context.info.resumed is not None and newest:
            self.load_version(newest)

    @property
    def ready(self) -> bool:
        """Whether a round could decide anything: there is a strategy, and a model if that needs one."""
        latents = self.modelled or self.settings.instant_model
        return self.settings.strategy != "none" and (latents or not self.policy.needs_model)

    @property
    def modelled(self) -> bool:
        """Whether a version of the model is there to embed with."""
        return self.embedding is not None and self.embedding.version > 0

    @property
    def model_name(self) -> str | None:
        """What embeds the next round, as records call it; None for a strategy that needs no model."""
        name = self.context.config.training.model if self.modelled else INSTANT
        return name if self.policy.needs_model else None

    def round(self, block: FrameBlock) -> list[Restart]:
        """One round on the window `block`: embed, find outliers, choose restarts, command them; which they are."""
        context = self.context
        self.rounds += 1
        with (
            context.heartbeat.expect_silence("round", activity=Activity.EMBEDDING),
            context.events.span("inference_round", round=self.rounds, frames=len(block)) as span,
        ):
            started, clock = time.monotonic(), time.perf_counter()
            latents = self.embed(block)
            embedded = time.perf_counter()
            outliers = None
            if latents is not None and self.policy.needs_outliers:
                outliers = find_outliers(latents, self.settings)
            found = time.perf_counter()
            wait_until(started + stage_seconds(context.config, "inference", self.rounds), context.control.poll)
            restarts = self.policy.choose(block, latents, outliers, self.tracker.idle(block))
            version = 0 if self.embedding is None else self.embedding.version
            for restart in restarts:
                self.command(block, restart, outliers, version)
            span.update(
                decisions=len(restarts), embed_s=embedded - clock, outliers_s=found - embedded, model_version=version
            )
        self.record(block, outliers, restarts, version)
        return restarts

    def complain(self) -> dict[str, str]:
        """Say in the log what is wrong with the strategy's verdict, once until it is sound again; for the records."""
        complaint = self.policy.strategy.complaint
        if complaint is not None and self._sound:
            self.context.log.error("%s; the run continues", complaint)
        elif complaint is None and not self._sound:
            self.context.log.info("strategy %s decides again", self.settings.strategy)
        self._sound = complaint is None
        return {} if complaint is None else {"complaint": complaint}

    def embed(self, block: FrameBlock) -> np.ndarray | None:
        """Latents of the window; None for a strategy that needs none, or with a model that fails."""
        if not self.policy.needs_model:
            return None
        try:
            if self.embedding is None or not self.embedding.version:
                return instant_latents(block)
            latents = self.embedding.embed(block)
        except ModelError as error:
            if str(error) != self._failure:
                self.context.log.error("no restarts until the model embeds again: %s", error)
            self._failure = str(error)
            return None
        if self._failure is not None:
            self.context.log.info("the model embeds again")
        self._failure = None
        return latents

    def command(self, block: FrameBlock, restart: Restart, outliers: Outliers | None, version: int) -> None:
        """Command one restart."""
        i = restart.index
        command = RestartCommand(
            kind=CommandKind.RESTART,
            decision=self.tracker.next_decision(),
            decided=time.time(),
            model_version=version,
            topology=int(block["topology"][i]),
            source_walker=int(block["walker"][i]),
            source_segment=int(block["segment"][i]),
            source_frame=int(block["frame"][i]),
            aggregator=int(block["aggregator"][i]),
            ring_slot=int(block["ring_slot"][i]),
            slot_generation=int(block["slot_generation"][i]),
            velocity_seed=restart.velocity_seed,
        )
        self.stop_rules.lineages.decided(command.decision, command.source_walker, command.source_segment)
        self.tracker.send(restart, command, outliers, self.model_name)

    def record(self, block: FrameBlock, outliers: Outliers | None, restarts: list[Restart], version: int) -> None:
        """Write the round's line, log and status."""
        n_outliers = 0 if outliers is None else int(outliers.mask.sum())
        eps = None if outliers is None or not np.isfinite(outliers.eps) else float(outliers.eps)
        rmsd = block["rmsd"][np.isfinite(block["rmsd"])]
        self.lines.append(
            {
                "round": self.rounds,
                "time": time.time(),
                "frames": len(block),
                "model": self.model_name,
                "model_version": version,
                "outliers": n_outliers,
                "eps": eps,
                "method": None if outliers is None else outliers.method,
                "best_rmsd_angstrom": float(rmsd.min()) if len(rmsd) else None,
                "median_rmsd_angstrom": float(np.median(rmsd)) if len(rmsd) else None,
                "decisions": len(restarts),
                **self.walkers_per_ligand(),
                **self.complain(),
            }
        )
        self.context.log.info(
            "round %d: %d frames, model %s version %d, %d outliers, %d restarts",
            self.rounds,
            len(block),
            self.model_name,
            version,
            n_outliers,
            len(restarts),
        )
        spent = self.context.events.totals["inference_round"].seconds
        self.context.status.update(
            now=True,
            rounds=self.rounds,
            iterations=self.rounds,
            iteration_s=spent,
            busy_s=spent,
            outliers=n_outliers,
            eps=np.nan if eps is None else eps,
            version=version,
        )

    def walkers_per_ligand(self) -> dict[str, dict[str, int]]:
        """Walkers of each complex once the restarts of this round are done; nothing for a run of one topology."""
        names = self.context.config.system.topologies
        counts = dict(zip(names, self.policy.census.counts.tolist(), strict=True))
        return {"walkers_per_ligand": counts} if len(names) > 1 else {}

    def load_version(self, number: int) -> ModelWeights | None:
        """Change to a version of the model that is on the disk; its weights, None if they cannot be used."""
        path = self.context.info.directory / "models" / f"v{number:06d}"
        return self._change_to(lambda: ModelWeights.read(path))

    def load_payload(self, payload: np.ndarray) -> None:
        """Change to a version of the model that has come by a stream."""
        self._change_to(lambda: ModelWeights.unpack(payload))

    def _change_to(self, read: Callable[[], ModelWeights]) -> ModelWeights | None:
        """Change to other weights, if they can be used; else the model stays as it is."""
        if self.embedding is None:
            return None
        try:
            weights = read()
            self.embedding.load(weights)
            return weights
        except ModelError as error:
            self.context.log.error("the run continues with model version %d: %s", self.embedding.version, error)
            return None


class Embedding:
    """A model, and the latents of the frames that it was given last; none is embedded twice with the same version.

    Parameters
    ----------
    model
        Where the weights go.
    """

    def __init__(self, model: Model):
        self.version = 0
        self._model = model
        self._keys: np.ndarray
        self._latents: np.ndarray
        self._forget()

    def load(self, weights: ModelWeights) -> None:
        """Take newer weights; every latent of the older ones is forgotten."""
        self._model.load(weights.arrays)
        self.version = weights.version
        self._forget()

    def embed(self, block: FrameBlock) -> np.ndarray:
        """Latents of every frame of `block`, shape (n_frames, n_latent), float32."""
        keys = (block["walker"].astype(np.int64) << 40) | block["frame"]
        known = np.isin(keys, self._keys)
        latents = np.empty((len(block), self._model.n_latent), np.float32)
        latents[known] = self._latents[np.searchsorted(self._keys, keys[known])]
        if not known.all():
            latents[~known] = self._model.embed(block.take(~known))
        order = np.argsort(keys)
        self._keys, self._latents = keys[order], latents[order]
        return latents

    def _forget(self) -> None:
        self._keys = np.zeros(0, np.int64)
        self._latents = np.zeros((0, self._model.n_latent), np.float32)


def topologies_at_begin(context: Context) -> np.ndarray:
    """Index of the topology with which each walker starts this session, shape (n_walkers,)."""
    n_topologies = len(context.config.system.topologies)
    found = np.array([first_topology(w, n_topologies) for w in range(context.layout.n_walkers)])
    for entry in context.info.resumed_parts("simulation") if n_topologies > 1 else ():
        for walker, known in context.store.read_part(entry, only=()).values.items():
            found[int(walker)] = known["topology"]
    return found


def last_round(path: Path) -> int:
    """Number of the last round that is recorded, 0 for none."""
    return max((line["round"] for line in read_lines(path)), default=0)
