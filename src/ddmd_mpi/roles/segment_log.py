"""The segments of a walker: which one it is in, how that started, and what it has given."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from ..config.dynamics import SimulationSection
from ..monitor.events import EventLog


class Origin(NamedTuple):
    """Where a segment comes from: a frame of a walker's trajectory, and the decision that said so."""

    walker: int
    segment: int
    frame: int
    decision: int = -1


#: The origin of a segment that starts at the start structure.
START = Origin(-1, -1, -1)


class SegmentLog:
    """The present segment of one walker, and an event for each that has ended.

    Parameters
    ----------
    walker
        Number of the walker.
    settings
        Length of a segment and of a report.
    """

    def __init__(self, walker: int, settings: SimulationSection, events: EventLog):
        # Number of the present segment, -1 before the first.
        self.number = -1
        # Segments that have ended, with those of earlier sessions.
        self.ended = 0
        # What the present segment has given.
        self.reports = 0
        # The decision that started it, -1 for none.
        self.decision = -1
        # How it started, as the line of the trajectory's segments says.
        self.beginning: dict[str, Any] = {}
        self._walker = walker
        self._settings = settings
        self._events = events
        self._closed = False
        self._started = 0.0
        self._md_s = 0.0

    @property
    def complete(self) -> bool:
        """Whether the present segment has its length."""
        return self.reports == self._settings.reports_per_segment

    def begin(
        self, origin: Origin, velocity_seed: int, *, restart_point: bool, time_ps: float, topology: str
    ) -> dict[str, Any]:
        """Start the next segment; how it starts.

        Parameters
        ----------
        restart_point
            Whether its first frame is the one that it starts from.
        time_ps
            Simulated by the walker so far.
        topology
            Name of the topology.
        """
        self.number += 1
        self.beginning = beginning(origin, velocity_seed, restart_point, time_ps, topology)
        return self.beginning

    def follow(self, beginning: dict[str, Any], md_s: float) -> None:
        """End the present segment, which is complete, and start the next one, which continues it.

        Parameters
        ----------
        beginning
            Of the next one: see :func:`beginning`.
        md_s
            As in :meth:`end`.
        """
        self.reports = self._settings.reports_per_segment
        self.end("complete", md_s)
        self.number += 1
        self.beginning = beginning
        self.opened(md_s)

    def opened(self, md_s: float) -> None:
        """Count from now on what the segment gives; `md_s` is what the walker has spent on dynamics before, s."""
        self.reports = 0
        self.decision = self.beginning["decision"]
        self._closed = False
        self._started = time.time()
        self._md_s = md_s

    def end(self, reason: str, md_s: float, **attributes: Any) -> None:
        """Record the end of the present segment, once; `md_s` is what the walker has spent on dynamics so far, s."""
        if self._closed:
            return
        self._closed = True
        self.ended += 1
        self._events.record(
            "segment",
            self._started,
            time.time() - self._started,
            walker=self._walker,
            segment=self.number,
            frames=self.reports,
            ns=self.reports * self._settings.report_interval_ps / 1000,
            reason=reason,
            md_s=md_s - self._md_s,
            decision=self.decision,
            **attributes,
        )

    def resume(self, newest: int) -> None:
        """Continue after segment `newest` of an earlier session, which has ended."""
        self.number = newest
        self.ended = newest + 1
        self._closed = True


def beginning(origin: Origin, velocity_seed: int, restart_point: bool, time_ps: float, topology: str) -> dict[str, Any]:
    """How a segment starts: see :meth:`SegmentLog.begin`."""
    return {
        "restart_point": restart_point,
        "decision": origin.decision,
        "source_walker": origin.walker,
        "source_segment": origin.segment,
        "source_frame": origin.frame,
        "velocity_seed": velocity_seed,
        "time_ps": time_ps,
        "topology": topology,
    }
