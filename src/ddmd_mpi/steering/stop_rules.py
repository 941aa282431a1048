"""When a run has found enough: arrivals at the target, no better RMSD for so long, or nothing new for so long.

Times are aggregate simulated times: those of all walkers together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..config.schema import RunSection
from ..frames.block import FrameBlock
from .explored import Explored

#: A lower RMSD counts as better from this difference on, angstrom: half the noise of a folded chain's RMSD.
BETTER = 0.05
#: Coverage no longer grows once so small a share of the states is new.
GROWTH = 0.01


class Lineages:
    """The walker at whose start each segment's chain of restarts began.

    Two frames whose chains began with different walkers share nothing but the start structure.
    """

    def __init__(self) -> None:
        # The walker and the segment that each decision restarts from.
        self._sources: dict[int, tuple[int, int]] = {}
        # The first walker of the segments that a decision has started: by walker, in the order of the segments.
        self._first: dict[int, list[tuple[int, int]]] = {}

    def decided(self, decision: int, walker: int, segment: int) -> None:
        """Note the walker and segment that a decision restarts from."""
        self._sources[decision] = self.first(walker, segment), segment

    def started(self, walker: int, segment: int, decision: int) -> None:
        """Note the decision that has started a segment; -1 for none."""
        known = self._first.setdefault(walker, [])
        if decision in self._sources and (not known or known[-1][0] < segment):
            known.append((segment, self._sources[decision][0]))

    def first(self, walker: int, segment: int) -> int:
        """The walker at whose start a segment's chain began."""
        found = [first for number, first in self._first.get(walker, ()) if number <= segment]
        return found[-1] if found else walker


class StopRules:
    """Looks at every frame once.

    Parameters
    ----------
    settings
        ``target_rmsd_angstrom``, ``target_arrivals``, ``rmsd_plateau_ns``, ``coverage_plateau_ns`` and
        ``coverage_resolution_angstrom``.
    report_interval_ps
        Simulated time of a frame.

    Attributes
    ----------
    arrived
        The first walkers of the lineages that have reached the target.
    """

    def __init__(self, settings: RunSection, report_interval_ps: float):
        self.settings = settings
        self.lineages = Lineages()
        self.arrived: set[int] = set()
        self.ns = 0.0
        self._frame_ns = report_interval_ps / 1000
        self._best = np.inf
        self._better_ns = 0.0
        self._explored = Explored(settings.coverage_resolution_angstrom)
        # Aggregate time, and states opened until then.
        self._growth: deque[tuple[float, int]] = deque([(0.0, 0)])

    @property
    def active(self) -> bool:
        """Whether any rule is set."""
        settings = self.settings
        rules = settings.target_rmsd_angstrom, settings.rmsd_plateau_ns, settings.coverage_plateau_ns
        return any(rule is not None for rule in rules)

    def recall(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Note the restarts of earlier sessions, by the lines of their decisions."""
        for line in lines:
            if line["outcome"] == "applied":
                self.lineages.decided(line["decision"], line["source"]["walker"], line["source"]["segment"])
                self.lineages.started(line["walker"], line["segment"], line["decision"])

    def add(self, block: FrameBlock) -> None:
        """Look at new frames."""
        self.ns += len(block) * self._frame_ns
        best = float(np.nanmin(block["rmsd"], initial=np.inf))
        if best < self._best - BETTER:
            self._best, self._better_ns = best, self.ns
        self.follow(block)
        if self.settings.coverage_plateau_ns is not None:
            self._explored.add(block["ca_positions"])
            self._growth.append((self.ns, self._explored.opened))
            while len(self._growth) > 1 and self._growth[1][0] <= self.ns - self.settings.coverage_plateau_ns:
                self._growth.popleft()

    def follow(self, block: FrameBlock) -> None:
        """Look at the lineages of frames alone, if there is a target to arrive at."""
        target = self.settings.target_rmsd_angstrom
        if target is None:
            return
        segments = np.stack([block[name] for name in ("walker", "segment", "decision")], axis=1)
        for walker, segment, decision in np.unique(segments, axis=0).tolist():
            self.lineages.started(walker, segment, decision)
        for walker, segment, _ in segments[block["rmsd"] <= target].tolist():
            self.arrived.add(self.lineages.first(walker, segment))

    def reason(self) -> str:
        """The rule that says that it is enough, as ``stop_reason`` has it; "" if none does."""
        settings = self.settings
        if settings.target_rmsd_angstrom is not None and len(self.arrived) >= settings.target_arrivals:
            return "target_rmsd" if settings.target_arrivals == 1 else "arrivals"
        if settings.rmsd_plateau_ns is not None and self.ns - self._better_ns >= settings.rmsd_plateau_ns:
            return "rmsd_plateau"
        wanted = settings.coverage_plateau_ns
        if wanted is not None and self.ns >= wanted:
            opened = self._explored.opened
            if opened - self._growth[0][1] <= GROWTH * opened:
                return "coverage_plateau"
        return ""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it; lineages are in ``decisions.jsonl``."""
        return {
            "ns": self.ns,
            "best": None if np.isinf(self._best) else self._best,
            "better_ns": self._better_ns,
            "target": self.settings.target_rmsd_angstrom,
            "arrived": sorted(self.arrived),
            "explored": self._explored.state(),
            "growth": list(self._growth),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a :meth:`state`, but no arrivals at another target, and no states of a finer resolution."""
        self.ns, self._better_ns = state["ns"], state["better_ns"]
        self._best = np.inf if state["best"] is None else state["best"]
        if state["target"] == self.settings.target_rmsd_angstrom:
            self.arrived = set(state["arrived"])
        if state["explored"]["resolution"] >= self.settings.coverage_resolution_angstrom:
            self._explored.restore(state["explored"])
            self._growth = deque((ns, opened) for ns, opened in state["growth"])
