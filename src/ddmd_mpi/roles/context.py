"""What every role is given: the settings, its place in the layout, and the ends of its streams."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints import Manifest, Store
from ..errors import DiskError
from ..events import EventLog
from ..parallel.layout import Layout
from ..parallel.mailbox import Mailboxes
from ..parallel.register import Registers
from ..parallel.ring import CoordinateRing
from ..parallel.sizes import model_threads
from ..sections import Config
from ..status import StatusPost
from ..stopping import Control
from ..streams.network import Network
from ..streams.outbox import Outbox
from ..streams.stream import END, Reader
from ..wiring import KINDS, SIMULATION, WEIGHTS, Link
from .checkpointing import Checkpoints
from .vigil import NoVigil, Vigil

#: A role that has nothing to do sleeps this long, so that the ranks that share its core get it.
IDLE_SECONDS = 0.002
CREDIT_DTYPE = np.dtype([("consumed", "<i8")])


@dataclass(frozen=True)
class Facts:
    """What rank 0 found out about the system before the roles began."""

    n_atoms: int  # of the largest topology
    n_residues: int
    order_parameters: tuple[str, ...]
    directory: Path
    started: float  # Unix time of the launch on rank 0, s
    about: dict[str, Any] = field(default_factory=dict)  # what a checkpoint says of the run
    session: int = 0  # starts of the program before this one, of a run that goes on
    resumed: Manifest | None = None  # the checkpoint that it goes on from
    last_checkpoint: int = 0  # the highest number in use
    job_end: float | None = None  # Unix time, s
    atoms_of: tuple[int, ...] = ()  # of each topology, where there are several
    target_nm: np.ndarray | None = None  # descriptor atoms, nm, shape (n_residues, 3)
    begun: float = 0.0  # Unix time from which the duration counts, s: of the first launch of several

    @property
    def elapsed_s(self) -> float:
        """Wall time of the sessions before."""
        return self.resumed.elapsed_s if self.resumed else 0.0

    def n_atoms_of(self, topology: int) -> int | None:
        """Atoms of a topology; None for one that the run does not have."""
        atoms_of = self.atoms_of or (self.n_atoms,)
        return atoms_of[topology] if 0 <= topology < len(atoms_of) else None


@dataclass
class Context:
    """A role's whole world."""

    config: Config
    facts: Facts
    layout: Layout
    rank: int
    role: str
    gpu: int | None
    control: Control
    events: EventLog
    status: StatusPost
    log: logging.Logger
    links: tuple[Link, ...]
    comm: Any  # the communicator of my role
    network: Network  # this and the next three are None in file mode
    mailboxes: Mailboxes  # a Desk for its inference
    ring: CoordinateRing
    credits: Registers
    board: Registers  # a MessageBoard in file mode
    announcements: Registers | None = None  # of the parts of checkpoints
    vigil: Vigil | NoVigil = field(default_factory=NoVigil)
    checkpoints: Checkpoints | None = None  # mine, once my work has begun
    opened: dict[str, list[Outbox]] = field(default_factory=dict)  # my writing ends, by kind

    def __post_init__(self) -> None:
        self.status.gather = self.traffic

    @property
    def store(self) -> Store:
        """The run's checkpoints."""
        return Store(self.facts.directory)

    @property
    def threads(self) -> int:
        """Threads for the model on this rank: by the settings, else the cores that no rank of this node needs."""
        wanted = self.config.training.threads
        return model_threads(self.layout, self.rank, len(os.sched_getaffinity(0))) if wanted == "auto" else wanted

    @property
    def left_s(self) -> float:
        """Seconds until the simulations stop."""
        return self.control.left_s

    @property
    def overdue(self) -> bool:
        """Whether the time for draining is over, too."""
        return self.left_s < -self.control.drain_s(self.config.run.drain)

    def given_up(self) -> bool:
        """Whether to wait no longer for another rank; looks who is lost."""
        self.vigil.tick()
        return self.overdue

    @contextmanager
    def on_record(self) -> Iterator[None]:
        """Where the disk refuses a record of the run in the block, ask for the end of the run, and go on behind it."""
        try:
            yield
        except DiskError as error:
            self.stop_for(error)

    def stop_for(self, error: DiskError) -> None:
        """Ask all ranks to end, because the disk refuses what the run has promised; the first aggregator says so."""
        self.log.warning("%s", error)
        record = self.status.record
        record["refusal"] = record["refusal"].item() or str(error).encode()
        self.control.want("disk")
        self.status.update(now=True, stop=self.control.stop)

    @property
    def leads(self) -> bool:
        """Whether this rank shows the progress and writes the summary: the first aggregator does."""
        return self.rank == self.layout.ranks("aggregation")[0]

    def outboxes(self, kind: str) -> list[Outbox]:
        """Open my writing ends of the streams of a kind."""
        mine = [link for link in self.links if link.writer == self.rank and link.kind == kind]
        self.opened[kind] = [self._outbox(link) for link in mine]
        return self.opened[kind]

    def inlets(self, kind: str) -> list[Inlet]:
        """Open my reading ends of the streams of a kind."""
        mine = [link for link in self.links if link.reader == self.rank and link.kind == kind]
        readers = self.network.readers([(link.name, link.writer) for link in mine], kind == SIMULATION)
        return [Inlet(reader, link, self) for reader, link in zip(readers, mine, strict=True)]

    def traffic(self) -> dict[str, Any]:
        """What went through my writing ends, as fields of the status record.

        A version of the model that a newer one replaced before it was sent is no loss: ``dropped`` and ``max_queue``
        leave the weights out.
        """
        if not self.opened:
            return {}
        ends = [self.opened.get(kind, []) for kind in KINDS]
        of_kind = {
            "hop_bytes": [sum(o.writer.nbytes for o in mine) for mine in ends],
            "hop_blocks": [sum(o.writer.n_written for o in mine) for mine in ends],
            "hop_queue": [max((o.max_depth for o in mine), default=0) for mine in ends],
            "hop_dropped": [sum(o.dropped for o in mine) for mine in ends],
            "hop_waited": [sum(o.waited for o in mine) for mine in ends],
            "hop_wait_s": [sum(o.wait_s for o in mine) for mine in ends],
        }
        frames = slice(KINDS.index(WEIGHTS))
        return {
            **of_kind, "bytes": sum(of_kind["hop_bytes"]), "blocks": sum(of_kind["hop_blocks"]),
            "max_queue": max(of_kind["hop_queue"][frames]), "dropped": sum(of_kind["hop_dropped"][frames]),
        }

    def spend(self, seconds: float) -> None:
        """Count seconds spent on streams and the archive; looks at an empty stream do not count."""
        self.events.add("io", seconds)

    def _outbox(self, link: Link) -> Outbox:
        settings = self.config.streams
        writer = self.network.writer(link.name, link.reader, link.kind == SIMULATION)

        def consumed() -> int:
            sequence, record = self.credits.get(link.index)
            return int(record["consumed"]) if sequence else 0

        if link.kind == WEIGHTS:  # The newest model wins: one under way, one waiting.
            return Outbox(writer, consumed, 1, 1, float("inf"), self.spend)
        return Outbox(
            writer, consumed, settings.in_flight_blocks, settings.queue_blocks, settings.queue_mb, self.spend)


class Inlet:
    """The reading end of a stream: whatever it hands over is counted as consumed, which is the writer's credit."""

    def __init__(self, reader: Reader, link: Link, context: Context):
        self._reader, self._context, self.link = reader, context, link
        self._record = np.zeros((), CREDIT_DTYPE)
        self.ended = False
        self.heard = time.monotonic()

    @property
    def lost(self) -> bool:
        """Whether the writer is lost."""
        return self.link.writer in self._context.vigil.lost

    def poll(self) -> np.ndarray | None:
        """The next payload, or None when there is none at the moment or the stream has ended."""
        if self.ended:
            return None
        clock = time.perf_counter()
        payload = self._reader.poll()
        if payload is None:
            return None
        if payload is END:
            self.ended = True
            return None
        self.heard = time.monotonic()
        self._record["consumed"] += 1
        self._context.credits.put(self.link.index, self._record)
        self._context.spend(time.perf_counter() - clock)
        return payload

    def arrived(self) -> Iterator[np.ndarray]:
        """The payloads that have arrived, no more than may be under way: one that is slower than its writer has other
        duties, too.
        """
        for _ in range(self._context.config.streams.in_flight_blocks):
            payload = self.poll()
            if payload is None:
                return
            yield payload
            self._context.status.update()

    def close(self) -> None:
        """Close the stream."""
        self.ended = True
        self._reader.close()
