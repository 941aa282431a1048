"""The decisions of a run on the disk: one line of ``decisions.jsonl`` for each, with what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from ..frames.command import RestartCommand
from ..rundir.disk import Lines, read_lines
from ..steering.outliers import Outliers
from ..steering.policy import Restart

DECISIONS = "decisions.jsonl"
#: Every decision before it is sent, so that a kill leaves none unknown: as in ``decisions.jsonl``, without an outcome.
SENT = "checkpoints/sent.jsonl"
#: What becomes of a decision that no walker has seen.
UNDELIVERED = {"outcome": "undelivered"}


class DecisionLog:
    """Both files of decisions.

    Parameters
    ----------
    directory
        The run directory.
    stop_on_disk_error
        Makes a context in which a refusal of the disk asks for the end of the run, and is not raised.
    """

    def __init__(self, directory: Path, stop_on_disk_error: Callable[[], AbstractContextManager[None]]):
        (directory / SENT).parent.mkdir(exist_ok=True)
        self._directory = directory
        self._stop_on_disk_error = stop_on_disk_error
        self._finished = Lines(directory / DECISIONS)
        self._sent = Lines(directory / SENT)
        # Finished, but refused by the disk so far.
        self._unwritten: list[dict[str, Any]] = []

    def recall(self) -> list[dict[str, Any]]:
        """The decisions of earlier sessions, after settling those that were sent and whose answer was never seen.

        A segment started by such a decision names it, which shows whether it was applied.
        """
        finished, sent = read_lines(self._directory / DECISIONS), read_lines(self._directory / SENT)
        known = {line["decision"] for line in finished}
        unknown = [line for line in sent if line["decision"] not in known]
        begun: dict[int, dict[str, Any]] = {}
        for path in sorted((self._directory / "trajectories").glob("*.segments.jsonl")) if unknown else ():
            begun |= {s["decision"]: s for s in read_lines(path) if s["decision"] >= 0}
        for line in unknown:
            segment = begun.get(line["decision"])
            found = (
                UNDELIVERED
                if segment is None
                else {"outcome": "applied", "segment": segment["segment"], "first_step": segment["start"]}
            )
            finished.append({**line, **found})
            self._finished.append(finished[-1])
        return finished

    def send(self, line: dict[str, Any]) -> None:
        """Write a decision that is about to be sent.

        Raises
        ------
        DiskError
            If the disk refuses it.
        """
        self._sent.append(line)

    def finish(self, line: dict[str, Any]) -> None:
        """Write a finished decision behind those that the disk has refused; it is known as sent in any case."""
        self._unwritten.append(line)
        with self._stop_on_disk_error():
            while self._unwritten:
                self._finished.append(self._unwritten[0])
                del self._unwritten[0]

    def free(self) -> None:
        """Close the files."""
        for file in (self._finished, self._sent):
            with self._stop_on_disk_error():
                file.free()


def decision_line(
    restart: Restart,
    command: RestartCommand,
    outliers: Outliers | None,
    *,
    strategy: str,
    model: str | None,
    topology: str,
) -> dict[str, Any]:
    """A decision as a line, before it is sent.

    Parameters
    ----------
    outliers
        Of the round; None for a strategy that needs none.
    strategy, model, topology
        Names of the strategy, of the model that gave the latents, and of the source's topology.
    """
    return {
        "decision": command.decision,
        "walker": restart.walker,
        "strategy": strategy,
        "model": model,
        "model_version": command.model_version,
        "decided": command.decided,
        "delivered": None,
        "first_step": None,
        "outcome": None,
        "segment": None,
        "source": {
            "walker": command.source_walker,
            "segment": command.source_segment,
            "frame": command.source_frame,
            "topology": topology,
            "rmsd_angstrom": number(restart.rmsd),
            "score": number(restart.score),
            "aggregator": command.aggregator,
            "slot": command.ring_slot,
            "generation": command.slot_generation,
        },
        "replaced": {"rmsd_angstrom": number(restart.walker_rmsd), "score": number(restart.walker_score)},
        "velocity_seed": command.velocity_seed,
        "outlier_method": None if outliers is None else outliers.method,
        "eps": None if outliers is None else number(outliers.eps),
    }


def used_frames(lines: Iterable[dict[str, Any]]) -> list[tuple[int, int, int]]:
    """(walker, segment, frame) of the frames that walkers may have started from, by the lines of decisions."""
    sources = [line["source"] for line in lines if line["outcome"] != UNDELIVERED["outcome"]]
    return [(source["walker"], source["segment"], source["frame"]) for source in sources]


def number(value: float) -> float | None:
    """A float that JSON knows: None for NaN and infinities."""
    return float(value) if np.isfinite(value) else None
