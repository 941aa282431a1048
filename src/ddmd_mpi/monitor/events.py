"""Spans of time as JSON lines: one file per rank, ``events/ROLE-RANK.jsonl``, and their totals.

A span is ``{"name", "role", "rank", "start", "end", ...}`` with Unix times in seconds. Timings are events, not logs.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..rundir.disk import BestEffort, LineFile

FLUSH_SECONDS = 2.0


@dataclass
class Total:
    """Number and summed seconds of the spans of one name."""

    count: int = 0
    seconds: float = 0.0


class EventLog:
    """Spans of one rank. A context manager; without a path it keeps totals only.

    Spans that the disk refuses are left out, and the run continues.
    """

    def __init__(self, path: Path | None, role: str, rank: int):
        self.role, self.rank = role, rank
        self.totals: dict[str, Total] = defaultdict(Total)
        self.open: list[str] = []  # names of the spans that have started, outermost first
        self._file = LineFile(path) if path is not None else None
        self._dispensable = BestEffort()
        self._lines: list[str] = []
        self._flushed = time.monotonic()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()

    @contextmanager
    def span(self, name: str, **attributes: Any) -> Iterator[dict[str, Any]]:
        """Record the time of the block; the yielded dict takes further attributes."""
        start, clock = time.time(), time.perf_counter()
        self.open.append(name)
        try:
            yield attributes
        finally:
            self.open.pop()
            self.record(name, start, time.perf_counter() - clock, **attributes)

    @contextmanager
    def counted(self, name: str) -> Iterator[None]:
        """Add the time of the block to the totals of `name` only."""
        clock = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - clock)

    def record(self, name: str, start: float, duration: float, **attributes: Any) -> None:
        """Record a span that was timed by the caller."""
        self.add(name, duration)
        if self._file is None:
            return
        span = {"name": name, "role": self.role, "rank": self.rank, "start": start, "end": start + duration}
        known = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in attributes.items()}
        self._lines.append(json.dumps({**span, **known}))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def add(self, name: str, duration: float) -> None:
        """Add to the totals of `name` only: for what happens too often for a line each."""
        total = self.totals[name]
        total.count += 1
        total.seconds += duration

    def seconds(self, *names: str) -> float:
        """Summed seconds of the spans of these names."""
        return sum(self.totals[name].seconds for name in names)

    def flush(self) -> None:
        """Write the spans recorded since the last flush."""
        self._flushed = time.monotonic()
        if self._file is not None and self._lines:
            with self._dispensable.write("spans in events/"):
                self._file.write("\n".join(self._lines) + "\n")
            self._lines.clear()

    def free(self) -> None:
        """Flush and close."""
        self.flush()
        if self._file is not None:
            file, self._file = self._file, None
            with self._dispensable.write("spans in events/"):
                file.free()
