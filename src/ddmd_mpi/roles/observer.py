"""The first aggregator's second duty: the live view while the run lasts, the summary at its end."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .. import rundir, status, summary
from ..checkpoints import cure
from ..progress import Progress
from ..status import STATUS_DTYPE, STOP_REASONS, State
from .checkpointing import Keeper
from .context import IDLE_SECONDS, Context

SUMMARY_SECONDS = 30.0


class Observer:
    """Reads every rank's record from the board. On other ranks than the first aggregator it does nothing."""

    def __init__(self, context: Context):
        self.context = context
        self.directory = context.facts.directory
        output = context.config.output
        self.progress = Progress(output.progress) if context.leads else None
        self.due = self.summary_due = time.monotonic()
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
        rundir.write_json(self.directory / "status.json", view)
        self.progress.show(view)
        self.context.control.order_stop(int(records["wants_stop"].max()))
        if self.too_many_failures(records):
            self.context.control.order_stop(STOP_REASONS.index("failure"))
        if self.keeper is not None:
            self.keeper.tick(records)
        if now >= self.summary_due:
            self.summary_due = now + SUMMARY_SECONDS
            self.write_summary(records, completed=False)

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
        records = self.records()
        if self.keeper is not None:
            self.keeper.complete(records)
        done = bool((records["state"] == State.DONE)[self.left()].all())
        some = len(self.context.vigil.lost) < len(self.context.layout.ranks("simulation"))
        borne = not self.too_many_failures(records)
        if not some:
            self.context.log.error("the run ends: all simulation ranks are lost%s", cure(self.directory))
        result = self.write_summary(records, completed=whole and done and some and borne)
        self.progress.finish(result, self.directory)
        return result["completed"]

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

    def write_summary(self, records: np.ndarray, *, completed: bool) -> dict[str, Any]:
        """Replace ``summary.json``."""
        facts, resumed = {**self.facts(), "completed": completed}, self.context.facts.resumed
        result = summary.summarise(records, self.context.layout.seats, facts, resumed and resumed.carried,
                                   self.context.facts.elapsed_s)
        rundir.write_json(self.directory / "summary.json", result)
        return result

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
    """The newest record of every seat on the board; of one that has posted none, zeros and no best RMSD."""
    records = np.zeros(n_seats, STATUS_DTYPE)
    records["best_rmsd"] = np.nan
    for seat in range(n_seats):
        sequence, record = board.get(seat)
        if sequence:
            records[seat] = record
    return records
