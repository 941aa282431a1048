"""The ledger of restart decisions: which are under way, and what became of each (``decisions.jsonl``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..frames import FrameBlock, Outcome, Receipt, RestartCommand
from ..rundir import Lines
from ..steering.outliers import Outliers
from ..steering.policy import Restart
from .context import Context


@dataclass
class Pending:
    """A decision without a receipt."""

    walker: int
    line: dict[str, Any]


class Ledger:
    """Sends decisions and writes one line for each, when its receipt is there or when the run ends."""

    def __init__(self, context: Context):
        self.context = context
        self.pending: dict[int, Pending] = {}  # by decision
        self.restarted: dict[int, int] = {}  # walker -> the segment that its last restart began
        self.latency_ms: list[float] = []
        self.apply_ms: list[float] = []
        self.names = context.config.system.topologies
        self._decisions = 0
        self._lines = Lines(context.facts.directory / "decisions.jsonl")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()

    def free(self) -> None:
        """Write the decisions that were never answered, and close the file."""
        for pending in self.pending.values():
            self._lines.append({**pending.line, "outcome": "undelivered"})
        self._lines.free()

    def next_decision(self) -> int:
        """Id of the next decision."""
        self._decisions += 1
        return self._decisions - 1

    def idle(self, block: FrameBlock) -> np.ndarray:
        """Which walkers may be commanded, shape (n_walkers,): none that has a command under way, and none whose
        newest frame is older than its last restart.
        """
        idle = np.zeros(self.context.layout.n_walkers, bool)
        newest = {int(s): i for i, s in enumerate(block["simulation"])}
        busy = {p.walker for p in self.pending.values()}
        for walker, i in newest.items():
            idle[walker] = walker not in busy and block["segment"][i] >= self.restarted.get(walker, 0)
        return idle

    def send(self, restart: Restart, command: RestartCommand, outliers: Outliers | None) -> None:
        """Put a command into its walker's mailbox and remember it until its receipt comes."""
        self.context.mailboxes.send(restart.walker, command)
        self.pending[command.decision] = Pending(restart.walker, {
            "decision": command.decision, "simulation": restart.walker,
            "strategy": self.context.config.steering.strategy, "model_version": command.model_version,
            "decided": command.decided, "delivered": None, "first_step": None, "outcome": None, "segment": None,
            "source": {
                "simulation": command.source_simulation, "segment": command.source_segment,
                "frame": command.source_frame, "topology": self.names[command.topology],
                "rmsd_angstrom": number(restart.rmsd), "score": number(restart.score),
                "aggregator": command.aggregator, "slot": command.ring_slot, "generation": command.slot_generation},
            "replaced": {"rmsd_angstrom": number(restart.walker_rmsd), "score": number(restart.walker_score)},
            "velocity_seed": command.velocity_seed,
            "outlier_method": None if outliers is None else outliers.method,
            "eps": None if outliers is None else number(outliers.eps)})
        self.context.status.add(decisions=1)

    def collect(self) -> None:
        """Read the receipts of the walkers that have a command under way."""
        for walker in {p.walker for p in self.pending.values()}:
            for receipt in self.context.mailboxes.receipts(walker):
                self._settle(receipt)

    def _settle(self, receipt: Receipt) -> None:
        pending = self.pending.pop(receipt.decision, None)
        if pending is None:
            return
        outcome, status = Outcome(receipt.outcome), self.context.status
        applied = outcome is Outcome.APPLIED
        if applied:
            self.restarted[pending.walker] = receipt.segment
            self.latency_ms.append((receipt.first_step - pending.line["decided"]) * 1000)
            self.apply_ms.append((receipt.first_step - receipt.received) * 1000)
            status.update(**percentiles("latency", self.latency_ms), **percentiles("apply", self.apply_ms))
        status.add(delivered=applied, stale=outcome is Outcome.STALE, failed=outcome is Outcome.FAILED)
        self._lines.append({
            **pending.line, "outcome": outcome.name.lower(), "delivered": receipt.received,
            "first_step": receipt.first_step if applied else None, "segment": receipt.segment if applied else None})


def percentiles(name: str, values_ms: list[float]) -> dict[str, float]:
    """The status fields of the median, the 99th percentile and the maximum of times in ms."""
    p50, p99 = np.percentile(values_ms, (50, 99))
    return {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99, f"{name}_max_ms": max(values_ms)}


def number(value: float) -> float | None:
    """A float that JSON knows: None for NaN and infinities."""
    return float(value) if np.isfinite(value) else None
