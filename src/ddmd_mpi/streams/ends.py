"""The ends of a rank's streams: what it writes waits for credit, what it reads gives credit, and both are counted."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..config.schema import StreamsSection
from ..layout.links import SIMULATION, STREAM_KINDS, WEIGHTS, Link
from .inbox import Credits, Inbox
from .network import Network
from .outbox import Outbox


class StreamEnds:
    """The ends of this rank, opened when its role asks for them.

    Parameters
    ----------
    network
        Opens streams.
    credits
        Carry the number of payloads consumed from the readers to the writers.
    links
        The streams of the run.
    rank, roles
        This rank; the role of every rank.
    settings
        How much may be under way and wait.
    spend
        Told the seconds of every call that moved something; looks at an empty stream do not count.
    """

    def __init__(
        self,
        network: Network,
        credits: Credits,
        links: Sequence[Link],
        *,
        rank: int,
        roles: Sequence[str],
        settings: StreamsSection,
        spend: Callable[[float], object],
        log: logging.Logger,
    ):
        self._network = network
        self._credits = credits
        self._links = links
        self._rank = rank
        self._roles = roles
        self._settings = settings
        self._spend = spend
        self._log = log
        # My writing ends, by kind.
        self.opened: dict[str, list[Outbox]] = {}

    def outboxes(self, kind: str) -> list[Outbox]:
        """Open my writing ends of the streams of a kind."""
        mine = [link for link in self._links if link.writer == self._rank and link.kind == kind]
        self.opened[kind] = [self._outbox(link) for link in mine]
        return self.opened[kind]

    def inboxes(self, kind: str) -> list[Inbox]:
        """Open my reading ends of the streams of a kind."""
        mine = [link for link in self._links if link.reader == self._rank and link.kind == kind]
        readers = self._network.readers([(link.name, link.writer) for link in mine], kind == SIMULATION)
        most = self._settings.in_flight_blocks
        return [
            Inbox(reader, link, self._credits, most, self._spend) for reader, link in zip(readers, mine, strict=True)
        ]

    def traffic(self) -> dict[str, Any]:
        """What went through my writing ends, as fields of the status record.

        A version of the model that a newer one replaced before it was sent is not lost: ``dropped`` and ``max_queue``
        leave the weights out.
        """
        if not self.opened:
            return {}
        ends = [self.opened.get(kind, []) for kind in STREAM_KINDS]
        of_kind: dict[str, list[float]] = {
            "hop_bytes": [sum(o.writer.nbytes for o in mine) for mine in ends],
            "hop_blocks": [sum(o.writer.n_written for o in mine) for mine in ends],
            "hop_queue": [max((o.max_depth for o in mine), default=0) for mine in ends],
            "hop_dropped": [sum(o.dropped for o in mine) for mine in ends],
            "hop_waited": [sum(o.waited for o in mine) for mine in ends],
            "hop_wait_s": [sum(o.wait_s for o in mine) for mine in ends],
        }
        frames = slice(STREAM_KINDS.index(WEIGHTS))
        return {
            **of_kind,
            "bytes": sum(of_kind["hop_bytes"]),
            "blocks": sum(of_kind["hop_blocks"]),
            "max_queue": max(of_kind["hop_queue"][frames]),
            "dropped": sum(of_kind["hop_dropped"][frames]),
        }

    def _outbox(self, link: Link) -> Outbox:
        settings = self._settings
        writer = self._network.writer(link.name, link.reader, link.kind == SIMULATION)
        consumed = partial(self._consumed, link)
        if link.kind == WEIGHTS:  # The newest model wins: one under way, one waiting.
            return Outbox(writer, consumed, 1, 1, float("inf"), self._spend)
        return Outbox(
            writer,
            consumed,
            settings.in_flight_blocks,
            settings.queue_blocks,
            settings.queue_mb,
            self._spend,
            partial(self._dropped, link),
        )

    def _consumed(self, link: Link) -> int:
        """Blocks that the reader of a stream has taken so far."""
        sequence, record = self._credits.get(link.index)
        return int(record["consumed"]) if sequence else 0

    def _dropped(self, link: Link, blocks: int) -> None:
        """Say that a block was dropped: the first, and every power of ten."""
        if math.log10(blocks).is_integer():
            kept = "trajectories alone keep its frames" if link.kind == SIMULATION else "archive keeps its frames"
            self._log.warning(
                "%s: rank %d (%s) takes blocks too slowly and the queue is full, so the oldest block is "
                "dropped (%d so far); the %s",
                link.name,
                link.reader,
                self._roles[link.reader],
                blocks,
                kept,
            )
