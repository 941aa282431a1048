"""Restart commands under way: sent to their walkers, matched with their receipts, and who may be commanded next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..frames.block import FrameBlock
from ..frames.command import Outcome, Receipt, RestartCommand
from ..steering.instant import INSTANT
from ..steering.outliers import Outliers
from ..steering.policy import Restart
from .context import CommandChannel, Context
from .decision_log import UNDELIVERED, DecisionLog, decision_line


@dataclass
class Pending:
    """A decision without a receipt, and its line in the log."""

    walker: int
    line: dict[str, Any]


class RestartTracker:
    """Sends the decisions of a run and finds out what becomes of each. A context manager.

    Parameters
    ----------
    mailboxes
        Carry the commands, and bring the receipts.
    """

    def __init__(self, context: Context, mailboxes: CommandChannel):
        self.context = context
        self.mailboxes = mailboxes
        self.log = DecisionLog(context.info.directory, context.stop_on_disk_error)
        self.latencies = Latencies()
        # By decision.
        self.pending: dict[int, Pending] = {}
        # The segment that the last restart of each walker started.
        self._restarted: dict[int, int] = {}
        self._decisions = 0

    def __enter__(self) -> RestartTracker:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        # After an error it is not known whether these are applied: a session that resumes finds out.
        if error is not None:
            self.pending.clear()
        self.free()

    def free(self) -> None:
        """Write the decisions that were never answered, and close the log."""
        for pending in self.pending.values():
            self.log.finish({**pending.line, **UNDELIVERED})
        self.log.free()

    def resume(self) -> list[dict[str, Any]]:
        """Continue after the decisions of earlier sessions; their lines."""
        lines = self.log.recall()
        self._decisions = max((line["decision"] + 1 for line in lines), default=0)
        outcomes = Counter(line["outcome"] for line in lines)
        self.context.status.add(
            decisions=len(lines),
            delivered=outcomes["applied"],
            stale=outcomes["stale"],
            failed=outcomes["failed"],
            instant=sum(line.get("model") == INSTANT for line in lines),
        )
        for line in lines:
            if line["outcome"] == "applied":
                self._restarted[line["walker"]] = line["segment"]
                if line["delivered"] is not None:
                    self.latencies.add(line["decided"], line["delivered"], line["first_step"])
        self.context.status.update(now=False, **self.latencies.fields())
        return lines

    def next_decision(self) -> int:
        """Id of the next decision."""
        self._decisions += 1
        return self._decisions - 1

    @property
    def commanded(self) -> set[int]:
        """Walkers that have a command under way."""
        return {pending.walker for pending in self.pending.values()}

    def idle(self, block: FrameBlock) -> np.ndarray:
        """Which walkers may be commanded, shape (n_walkers,).

        None that has a command under way, and none whose newest frame is older than its last restart.
        """
        idle = np.zeros(self.context.layout.n_walkers, bool)
        newest = {int(s): i for i, s in enumerate(block["walker"])}
        busy = self.commanded
        for walker, i in newest.items():
            idle[walker] = walker not in busy and block["segment"][i] >= self._restarted.get(walker, 0)
        idle[list(self.context.detector.lost_walkers)] = False
        return idle

    def send(self, restart: Restart, command: RestartCommand, outliers: Outliers | None, model: str | None) -> None:
        """Log a command, chosen by the `model` of that name; then put it into its walker's mailbox.

        Raises
        ------
        DiskError
            If the disk refuses it, which then is not sent.
        """
        config = self.context.config
        topology = config.system.topologies[command.topology]
        strategy = config.steering.strategy
        line = decision_line(restart, command, outliers, strategy=strategy, model=model, topology=topology)
        self.log.send(line)
        self.pending[command.decision] = Pending(restart.walker, line)
        self.mailboxes.send(restart.walker, command)
        self.context.status.add(decisions=1, instant=model == INSTANT)

    def collect(self) -> None:
        """Read the receipts of the walkers that have a command under way."""
        for walker in self.commanded:
            for receipt in self.mailboxes.receipts(walker):
                self._settle(receipt)

    def write_off(self, walkers: Iterable[int]) -> list[tuple[int, int]]:
        """Give up what is under way to lost walkers; the frames that they were to restart from, (walker, frame)."""
        lost = [d for d, pending in self.pending.items() if pending.walker in set(walkers)]
        lines = [self.pending.pop(decision).line for decision in lost]
        for line in lines:
            self.log.finish({**line, **UNDELIVERED})
        return [(line["source"]["walker"], line["source"]["frame"]) for line in lines]

    def _settle(self, receipt: Receipt) -> None:
        """Count and log what became of a decision; a second receipt of the same one does not count."""
        pending = self.pending.pop(receipt.decision, None)
        if pending is None:
            return
        outcome, status = Outcome(receipt.outcome), self.context.status
        applied = outcome is Outcome.APPLIED
        if applied:
            self._restarted[pending.walker] = receipt.segment
            self.latencies.add(pending.line["decided"], receipt.received, receipt.first_step)
            status.update(now=False, **self.latencies.fields())
        status.add(delivered=applied, stale=outcome is Outcome.STALE, failed=outcome is Outcome.FAILED)
        self.log.finish(
            {
                **pending.line,
                "outcome": outcome.name.lower(),
                "delivered": receipt.received,
                "first_step": receipt.first_step if applied else None,
                "segment": receipt.segment if applied else None,
            }
        )


class Latencies:
    """How long it took from a decision, and from its delivery, to the first step that followed, ms."""

    def __init__(self) -> None:
        self._of_decision: list[float] = []
        self._of_delivery: list[float] = []

    def add(self, decided: float, delivered: float, first_step: float) -> None:
        """Note the Unix times of an applied decision, s."""
        self._of_decision.append((first_step - decided) * 1000)
        self._of_delivery.append((first_step - delivered) * 1000)

    def fields(self) -> dict[str, float]:
        """Their percentiles as fields of the status record; none before the first decision."""
        return {**percentiles("latency", self._of_decision), **percentiles("apply", self._of_delivery)}


def percentiles(name: str, values_ms: list[float]) -> dict[str, float]:
    """The status fields of the median, the 99th percentile and the maximum of times in ms."""
    if not values_ms:
        return {}
    p50, p99 = np.percentile(values_ms, (50, 99))
    return {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99, f"{name}_max_ms": max(values_ms)}
