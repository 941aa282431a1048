"""The first aggregator's second duty: the live view while the run lasts, the summary at its end."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from ..errors import DiskError
from ..frames.window import inference_frames
from ..monitor import status, summary
from ..monitor.progress import MAX_NAMES, Progress, figures
from ..monitor.shortfalls import shortfalls
from ..monitor.status import State, StopReason, read_records
from ..rundir.checkpoints import cure
from ..rundir.disk import BestEffort, inode, write_json
from ..steering.plugins import GuardedStrategy
from .checkpoint import CheckpointCoordinator
from .context import IDLE_SECONDS, Context, StreamContext

SUMMARY_SECONDS = 30.0
GONE = "{} was deleted or renamed during the run"


class Leader:
    """Reads every rank's record from the board. On other ranks than the first aggregator it does nothing."""

    def __init__(self, context: Context):
        self.context = context
        self.directory = context.info.directory
        output = context.config.output
        self.progress = Progress(output.progress) if context.leads else None
        self.due = self.summary_due = time.monotonic()
        self.inode, self.best_effort = inode(self.directory), BestEffort(logging.ERROR)
        self.said = False  # that there are too many failures
        self.keeper = CheckpointCoordinator(context) if context.leads and isinstance(context, StreamContext) else None

    def tick(self) -> None:
        """Refresh the live view and the summary, and order stops and checkpoints, when they are due."""
        now = time.monotonic()
        if self.progress is None or now < self.due:
            return
        config = self.context.config
        self.due = now + config.output.progress_interval
        records = self.records()
        view = summary.view(records, self.context.layout.status_slots, self.facts(), self.context.control.left_s)
        view["prepares"] = [config.system.topologies[i] for i in view["prepares"]]
        if self.gone:
            self.context.stop_for(DiskError(GONE.format(self.directory)))
        else:
            with self.best_effort.write("the live view"):
                write_json(self.directory / "status.json", view)
        with self.best_effort.write("progress on standard output"):
            self.progress.show(view)
        self.context.control.order_stop(StopReason(int(records["wants_stop"].max())))
        if self.too_many_failures(records):
            self.context.control.order_stop(StopReason.FAILURE)
        if self.keeper is not None:
            self.keeper.tick(records)
        if now >= self.summary_due:
            self.summary_due = now + SUMMARY_SECONDS
            with self.best_effort.write("the summary so far"):
                write_json(self.directory / "summary.json", self.summary(records, completed=False))

    def see_to_the_end(self, whole: bool = True) -> bool:
        """Wait, not longer than the time for draining, until every rank is done; write the summary.

        Parameters
        ----------
        whole
            False where the run is known not to have come to its end.

        Returns
        -------
        bool
            Whether every rank is done; on other ranks than the first aggregator always true.
        """
        if self.progress is None:
            return True
        while not self.all_done() and not self.context.control.overdue:
            self.context.detector.poll()
            self.context.control.poll()
            self.tick()
            time.sleep(IDLE_SECONDS)
        self.due = 0.0
        self.tick()
        if self.keeper is not None:
            self.keeper.complete(self.records())
        records = self.records()
        done = bool((records["state"] == State.DONE)[self.left()].all())
        some = len(self.context.detector.lost) < len(self.context.layout.ranks("simulation"))
        borne = not self.too_many_failures(records)
        written = self.all_is_written(records)
        completed = whole and done and some and borne and written
        result = self.summary(
            records, completed=completed, ended=True, unfinished="" if completed else self.unfinished(records)
        )
        if not some:
            self.context.log.error("the run ends: all simulation ranks are lost%s", cure(self.directory))
        kept = self.keep_summary(result)
        with self.best_effort.write("the final summary on standard output"):
            self.progress.finish(result, self.directory)
        return result["completed"] and kept

    def unfinished(self, records: np.ndarray) -> str:
        """Why the run did not complete; "" if the reason for which it stopped says it all."""
        layout, simulations = self.context.layout, self.context.layout.ranks("simulation")
        if any(records["refusal"]):
            return ""
        if len(self.context.detector.lost) >= len(simulations):
            return "all simulation ranks are lost"
        if self.too_many_failures(records):
            return f"more than {self.context.config.faults.failures_per_run} failures of the molecular dynamics"
        late = [
            f"{layout.status_slots[slot]} rank {slot}" for slot in self.left() if records["state"][slot] != State.DONE
        ]
        if late:
            drain = self.context.control.drain_s
            return f"{', '.join(late[:MAX_NAMES])} did not finish within {drain:.0f} s: see logs/, or raise run.drain"
        return "a part of it failed: see logs/"

    @property
    def gone(self) -> bool:
        """Whether the run directory is not where it was, so that nobody finds what is written to it."""
        return inode(self.directory) != self.inode

    def all_is_written(self, records: np.ndarray) -> bool:
        """Whether the disk has refused no rank a record; else one line says which, why and how to continue."""
        refusals = [text.decode(errors="replace") for text in records["refusal"].tolist() if text]
        if refusals and self.gone:
            self.context.log.error(
                "the run ends: %s; if it was renamed, --resume continues there", GONE.format(self.directory)
            )
        elif refusals:
            how = cure(self.directory) or "; there is no checkpoint to resume from"
            self.context.log.error(
                "the run ends: %s; make room or repair it, then%s", refusals[0], how.removeprefix(";")
            )
        return not refusals

    def keep_summary(self, result: dict[str, Any]) -> bool:
        """Write ``summary.json``; if the disk refuses it, its essence goes to standard error."""
        try:
            write_json(self.directory / "summary.json", result)
            return True
        except OSError as error:
            self.context.log.error(
                "%s cannot be written: %s; in short: %s",
                self.directory / "summary.json",
                error.strerror or error,
                "; ".join(figures(result)),
            )
            return False

    def too_many_failures(self, records: np.ndarray) -> bool:
        """Whether the molecular dynamics has failed more often than is allowed; logged once."""
        simulations = status.of_role(records, self.context.layout.status_slots, "simulation")
        failures, limit = int(simulations["failures"].sum()), self.context.config.faults.failures_per_run
        if failures > limit and not self.said:
            self.said = True
            self.context.log.error(
                "%d failures of the molecular dynamics, and faults.failures_per_run is %d: the run "
                "ends; failures/ has the states",
                failures,
                limit,
            )
        return failures > limit

    def all_done(self) -> bool:
        """Whether every rank has posted its last record."""
        return bool((self.records()["state"] == State.DONE)[self.left()].all())

    def left(self) -> list[int]:
        """Seats of the ranks that are not lost."""
        lost = self.context.detector.lost
        return [slot for slot in range(len(self.context.layout.status_slots)) if slot not in lost]

    def records(self) -> np.ndarray:
        """The newest record of every slot."""
        return read_records(self.context.board, len(self.context.layout.status_slots))

    def summary(
        self, records: np.ndarray, *, completed: bool, ended: bool = False, unfinished: str = ""
    ) -> dict[str, Any]:
        """The content of ``summary.json``; that of a run that has ended says what it has left undone."""
        facts, info = {**self.facts(), "completed": completed, "unfinished": unfinished}, self.context.info
        if ended:
            said = shortfalls(records, self.context.layout.status_slots, {**facts, **self.settings()})
            facts["note"] = "; ".join(filter(None, [facts["note"], *said]))
        return summary.summarise(records, self.context.layout.status_slots, facts, info.carried, info.elapsed_s)

    def settings(self) -> dict[str, Any]:
        """Settings that say how much would have been enough."""
        config = self.context.config
        return {
            "archive": config.aggregation.archive,
            "model": config.training.model,
            "needs_model": bool(GuardedStrategy(config.steering).needs & {"latents", "outliers"}),
            "first_frames": config.training.first_frames,
            "round_frames": inference_frames(config, self.context.layout.n_walkers)[0],
            "instant_model": config.steering.instant_model,
        }

    def facts(self) -> dict[str, Any]:
        """What the view and the summary say besides the records."""
        config, layout = self.context.config, self.context.layout
        of_topology = ".*" if len(config.system.topologies) > 1 else ""
        return {
            "usecase": config.run.usecase,
            "mode": config.run.mode,
            "strategy": config.steering.strategy,
            "note": config.note,
            "target": config.system.target_name,
            "directory": str(self.directory),
            "duration_s": config.run.duration,
            "session": self.context.info.session,
            "walkers": layout.n_walkers,
            "lost_ranks": sorted(self.context.detector.lost),
            "lost_walkers": list(self.context.detector.lost_walkers),
            "n_ranks": len(layout.roles),
            "ranks": {role: len(layout.ranks(role)) for role in dict.fromkeys(layout.status_slots)},
            "trajectory": f"trajectories/sim-{{:04d}}{of_topology}.{config.simulation.trajectory_format}",
        }
