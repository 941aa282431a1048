"""The first aggregator's second duty: the live view while the run lasts, the summary at its end."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from .. import rundir, status, summary
from ..checkpoints import cure
from ..disk import Dispensable
from ..errors import DiskError
from ..progress import Progress, figures
from ..status import STATUS_DTYPE, STOP_REASONS, State
from .checkpointing import Keeper
from .context import IDLE_SECONDS, Context

SUMMARY_SECONDS = 30.0
GONE = "{} was deleted or renamed while the run went on"


class Observer:
    """Reads every rank's record from the board. On other ranks than the first aggregator it does nothing."""

    def __init__(self, context: Context):
        self.context = context
        self.directory = context.facts.directory
        output = context.config.output
        self.progress = Progress(output.progress) if context.leads else None
        self.due = self.summary_due = time.monotonic()
        self.inode, self.dispensable = rundir.inode(self.directory), Dispensable(logging.ERROR)
        self.said = False  # that there are too many failures
        self.keeper = Keeper(context) if context.leads and context.announcements is not None else None

    def tick(self) -> None:
        """Refresh the live view and the summary, and order stops and checkpoints, when they are due."""
        now = time.monotonic()
        if self.progress is None or now < self.due:
            return
        config = self.context.config
        self.due = now + config.output.progress_interval
        records = self.records()
        view = status.view(records, self.context.layout.seats, self.facts(), self.context.left_s)
        if self.gone:
            self.context.stop_for(DiskError(GONE.format(self.directory)))
        else:
            with self.dispensable.write("the live view"):
                rundir.write_json(self.directory / "status.json", view)
        with self.dispensable.write("the view on its output"):
            self.progress.show(view)
        self.context.control.order_stop(int(records["wants_stop"].max()))
        if self.too_many_failures(records):
            self.context.control.order_stop(STOP_REASONS.index("failure"))
        if self.keeper is not None:
            self.keeper.tick(records)
        if now >= self.summary_due:
            self.summary_due = now + SUMMARY_SECONDS
            with self.dispensable.write("the summary so far"):
                rundir.write_json(self.directory / "summary.json", self.summary(records, completed=False))

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
        while not self.all_done() and not self.context.overdue:
            self.context.vigil.tick()
            self.tick()
            time.sleep(IDLE_SECONDS)
        self.due = 0.0
        self.tick()
        if self.keeper is not None:
            self.keeper.complete(self.records())
        records = self.records()
        done = bool((records["state"] == State.DONE)[self.left()].all())
        some = len(self.context.vigil.lost) < len(self.context.layout.ranks("simulation"))
        borne = not self.too_many_failures(records)
        written = self.all_is_written(records)
        result = self.summary(records, completed=whole and done and some and borne and written)
        if not some:
            self.context.log.error("the run ends: all simulation ranks are lost%s", cure(self.directory))
        kept = self.keep_summary(result)
        with self.dispensable.write("the last words on its output"):
            self.progress.finish(result, self.directory)
        return result["completed"] and kept

    @property
    def gone(self) -> bool:
        """Whether the run directory is not where it was, so that nobody finds what is written to it."""
        return rundir.inode(self.directory) != self.inode

    def all_is_written(self, records: np.ndarray) -> bool:
        """Whether the disk has refused no rank a record; else one line says which, why and how to go on."""
        refusals = [text.decode(errors="replace") for text in records["refusal"].tolist() if text]
        if refusals and self.gone:
            self.context.log.error("the run ends: %s; if it was renamed, --resume goes on with it",
                                   GONE.format(self.directory))
        elif refusals:
            how = cure(self.directory) or "; there is no checkpoint to go on from"
            self.context.log.error("the run ends: %s; make room or mend it, then%s", refusals[0], how.removeprefix(";"))
        return not refusals

    def keep_summary(self, result: dict[str, Any]) -> bool:
        """Write ``summary.json``; where the disk refuses it, its essence goes to standard error."""
        try:
            rundir.write_json(self.directory / "summary.json", result)
            return True
        except OSError as error:
            self.context.log.error("%s cannot be written: %s; in short: %s", self.directory / "summary.json",
                                   error.strerror or error, "; ".join(figures(result)))
            return False

    def too_many_failures(self, records: np.ndarray) -> bool:
        """Whether the molecular dynamics has failed more often than is borne; said once."""
        simulations = status.of_role(records, self.context.layout.seats, "simulation")
        failures, limit = int(simulations["failures"].sum()), self.context.config.faults.failures_per_run
        if failures > limit and not self.said:
            self.said = True
            self.context.log.error("%d failures of the molecular dynamics, and faults.failures_per_run is %d: the run "
                                   "ends; failures/ has the states", failures, limit)
        return failures > limit

    def all_done(self) -> bool:
        """Whether every rank has posted its last record."""
        return bool((self.records()["state"] == State.DONE)[self.left()].all())

    def left(self) -> list[int]:
        """Seats of the ranks that are not lost."""
        lost = self.context.vigil.lost
        return [seat for seat in range(len(self.context.layout.seats)) if seat not in lost]

    def records(self) -> np.ndarray:
        """The newest record of every seat."""
        return read_records(self.context.board, len(self.context.layout.seats))

    def summary(self, records: np.ndarray, *, completed: bool) -> dict[str, Any]:
        """The content of ``summary.json``."""
        facts, resumed = {**self.facts(), "completed": completed}, self.context.facts.resumed
        return summary.summarise(records, self.context.layout.seats, facts, resumed and resumed.carried,
                                 self.context.facts.elapsed_s)

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
            "session": self.context.facts.session,
            "walkers": layout.n_walkers,
            "lost_ranks": sorted(self.context.vigil.lost),
            "lost_walkers": list(self.context.vigil.lost_walkers),
            "n_ranks": len(layout.roles),
            "ranks": {role: len(layout.ranks(role)) for role in dict.fromkeys(layout.seats)},
            "trajectory": f"trajectories/sim-{{:04d}}{of_topology}.{config.simulation.trajectory_format}",
        }


def read_records(board: Any, n_seats: int) -> np.ndarray:
    """The newest record of every seat on the board."""
    records = no_records(n_seats)
    for seat in range(n_seats):
        sequence, record = board.get(seat)
        if sequence:
            records[seat] = record
    return records


def no_records(n_seats: int) -> np.ndarray:
    """The records of seats that have posted none: zeros and no best RMSD."""
    records = np.zeros(n_seats, STATUS_DTYPE)
    records["best_rmsd"] = np.nan
    return records
