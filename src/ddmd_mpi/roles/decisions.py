"""The ledger of restart decisions: which are under way, and what became of each (``decisions.jsonl``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..frames import FrameBlock, Outcome, Receipt, RestartCommand
from ..rundir import Lines, read_lines
from ..steering.outliers import Outliers
from ..steering.policy import Restart
from .context import Context

#: Every decision before it is sent, so that a kill leaves none unknown: as in ``decisions.jsonl``, without an outcome.
SENT = "checkpoints/sent.jsonl"


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
        self._unwritten: list[dict[str, Any]] = []
        self.sources: list[tuple[int, int, int]] = []  # simulation, segment, frame of what was used in earlier sessions
        directory = context.facts.directory
        (directory / SENT).parent.mkdir(exist_ok=True)
        self._lines, self._sent = Lines(directory / "decisions.jsonl"), Lines(directory / SENT)
        if context.facts.resumed is not None:
            self.resume(directory)

    def resume(self, directory: Path) -> None:
        """Recall the decisions of earlier sessions, and settle those that were sent and never seen answered.

        Whether such a one was obeyed the walkers' segments say: the one that it began names it.
        """
        written, sent = read_lines(directory / "decisions.jsonl"), read_lines(directory / SENT)
        finished = {line["decision"] for line in written}
        lost = [line for line in sent if line["decision"] not in finished]
        begun = {}
        for path in sorted((directory / "trajectories").glob("*.segments.jsonl")) if lost else ():
            begun |= {s["decision"]: s for s in read_lines(path) if s["decision"] >= 0}
        for line in lost:
            segment = begun.get(line["decision"])
            known = {"outcome": "undelivered"} if segment is None else {
                "outcome": "applied", "segment": segment["segment"], "first_step": segment["start"]}
            written.append({**line, **known})
            self._lines.append(written[-1])
        self._decisions = max((line["decision"] + 1 for line in written), default=0)
        self._recall(written)

    def _recall(self, written: list[dict[str, Any]]) -> None:
        outcomes = Counter(line["outcome"] for line in written)
        self.context.status.add(decisions=len(written), delivered=outcomes["applied"], stale=outcomes["stale"],
                                failed=outcomes["failed"])
        for line in written:
            source = line["source"]
            if line["outcome"] != "undelivered":  # nobody has started from those
                self.sources.append((source["simulation"], source["segment"], source["frame"]))
            if line["outcome"] == "applied":
                self.restarted[line["simulation"]] = line["segment"]
            if line["outcome"] == "applied" and line["delivered"] is not None:
                self.latency_ms.append((line["first_step"] - line["decided"]) * 1000)
                self.apply_ms.append((line["first_step"] - line["delivered"]) * 1000)
        if self.latency_ms:
            self._tell_latencies()

    def _tell_latencies(self) -> None:
        self.context.status.update(**percentiles("latency", self.latency_ms), **percentiles("apply", self.apply_ms))

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:  # Whether these are obeyed is not known: a session that goes on finds it out.
            self.pending.clear()
        self.free()

    def free(self) -> None:
        """Write the decisions that were never answered, and close the files."""
        for pending in self.pending.values():
            self._write({**pending.line, "outcome": "undelivered"})
        for file in (self._lines, self._sent):
            with self.context.on_record():
                file.free()

    def _write(self, line: dict[str, Any]) -> None:
        """Write the line of a decision behind those that the disk has refused; it is known as sent in any case."""
        self._unwritten.append(line)
        with self.context.on_record():
            while self._unwritten:
                self._lines.append(self._unwritten[0])
                del self._unwritten[0]

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
        idle[list(self.context.vigil.lost_walkers)] = False
        return idle

    def send(self, restart: Restart, command: RestartCommand, outliers: Outliers | None) -> None:
        """Remember a command on the disk, put it into its walker's mailbox and wait for its receipt.

        Raises
        ------
        DiskError
            If the disk refuses it, which then is not sent.
        """
        line = {
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
            "eps": None if outliers is None else number(outliers.eps)}
        self._sent.append(line)
        self.pending[command.decision] = Pending(restart.walker, line)
        self.context.mailboxes.send(restart.walker, command)
        self.context.status.add(decisions=1)

    def collect(self) -> None:
        """Read the receipts of the walkers that have a command under way."""
        for walker in {p.walker for p in self.pending.values()}:
            for receipt in self.context.mailboxes.receipts(walker):
                self._settle(receipt)

    def lose(self, walkers: Iterable[int]) -> list[tuple[int, int]]:
        """Write off what is under way to these walkers; the frames that they were to restart from, (walker, frame)."""
        lost = [d for d, pending in self.pending.items() if pending.walker in set(walkers)]
        lines = [self.pending.pop(decision).line for decision in lost]
        for line in lines:
            self._write({**line, "outcome": "undelivered"})
        return [(line["source"]["simulation"], line["source"]["frame"]) for line in lines]

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
            self._tell_latencies()
        status.add(delivered=applied, stale=outcome is Outcome.STALE, failed=outcome is Outcome.FAILED)
        self._write({
            **pending.line, "outcome": outcome.name.lower(), "delivered": receipt.received,
            "first_step": receipt.first_step if applied else None, "segment": receipt.segment if applied else None})


def percentiles(name: str, values_ms: list[float]) -> dict[str, float]:
    """The status fields of the median, the 99th percentile and the maximum of times in ms."""
    p50, p99 = np.percentile(values_ms, (50, 99))
    return {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99, f"{name}_max_ms": max(values_ms)}


def number(value: float) -> float | None:
    """A float that JSON knows: None for NaN and infinities."""
    return float(value) if np.isfinite(value) else None
