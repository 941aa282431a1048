"""The context of a role: the settings, its place in the layout, and the ends of its streams."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ..config.schema import Config
from ..errors import DiskError
from ..faults.detector import FailureDetector
from ..faults.heartbeat import Heartbeat
from ..faults.stop import Control
from ..frames.command import Receipt, RestartCommand
from ..layout.file_mode import StageLayout
from ..layout.memory import model_threads
from ..layout.roles import Layout
from ..md.prepared import Prepared
from ..monitor.events import EventLog
from ..monitor.status import Board, StatusPost, StopReason
from ..parallel.board import MessageBoard
from ..parallel.mailbox import Mailboxes
from ..parallel.plane import ControlPlane
from ..rundir.checkpoints import Store
from ..rundir.manifest import Entry, Manifest
from ..streams.ends import StreamEnds

if TYPE_CHECKING:
    from ..parallel.bare_mpi import MPI
    from .checkpoint import Checkpoints

#: A role that has nothing to do sleeps this long, so that the ranks that share its core get it.
IDLE_SECONDS = 0.002


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What rank 0 found out about the system before the roles started.

    Parameters
    ----------
    directory
        The run directory.
    started
        Unix time of the launch on rank 0, s.
    begun
        Unix time from which the duration counts, s: of the first launch of several.
    job_end
        Unix time at which the job ends, s; None if it is not known.
    n_atoms
        Of the largest topology.
    atoms_of
        Atoms of each topology, if there are several.
    n_residues
        Atoms of the descriptor.
    order_parameters
        Their names.
    target_nm
        Descriptor atoms of the target, nm, shape (n_residues, 3).
    topologies
        Those that the ranks need not read; on ranks that simulate.
    about
        What a checkpoint says of the run.
    session
        Starts of the program before this one.
    resumed
        The checkpoint that the run is resumed from.
    last_checkpoint
        The highest number in use.
    """

    directory: Path
    started: float
    begun: float = 0.0
    job_end: float | None = None
    n_atoms: int
    atoms_of: tuple[int, ...] = ()
    n_residues: int
    order_parameters: tuple[str, ...]
    target_nm: np.ndarray | None = None
    topologies: tuple[Prepared, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    session: int = 0
    resumed: Manifest | None = None
    last_checkpoint: int = 0

    def of_role(self, role: str) -> RunInfo:
        """What a rank of this role keeps of them."""
        return self if role == "simulation" else replace(self, topologies=())

    @property
    def elapsed_s(self) -> float:
        """Wall time of the sessions before."""
        return self.resumed.elapsed_s if self.resumed else 0.0

    @property
    def carried(self) -> dict[str, dict[str, Any]]:
        """Sums of the status records of the sessions before, by role and field."""
        return self.resumed.carried if self.resumed else {}

    def resumed_parts(self, role: str) -> tuple[Entry, ...]:
        """The parts of a role in the checkpoint that the run is resumed from; none for a new run."""
        return self.resumed.of_role(role) if self.resumed else ()

    def n_atoms_of(self, topology: int) -> int | None:
        """Atoms of a topology; None for one that the run does not have."""
        atoms_of = self.atoms_of or (self.n_atoms,)
        return atoms_of[topology] if 0 <= topology < len(atoms_of) else None


class CommandChannel(Protocol):
    """Carries commands to walkers and their receipts back."""

    def send(self, walker: int, command: RestartCommand) -> object: ...
    def receipts(self, walker: int) -> list[Receipt]: ...


class Role(Protocol):
    """What a rank does for the entire run; made with its context."""

    def run(self) -> bool | None:
        """Play the role to its end; False if the run did not complete."""


@runtime_checkable
class StreamRole(Role, Protocol):
    """A role of stream mode.

    Attributes
    ----------
    checkpoints
        Writes this rank's parts; None until the work has started.
    """

    checkpoints: Checkpoints | None


@dataclass(kw_only=True)
class Context:
    """A role's whole world, in both modes.

    Parameters
    ----------
    config, info, layout
        Settings of the run, what is known of its system, and who does what.
    rank, role
        This rank and its role.
    gpu
        Index of its GPU, None for none.
    comm
        The ranks of this role.
    control
        When the run ends.
    events, status, log
        What this rank tells of itself.
    heartbeat
        To be called in every turn of a loop.
    detector
        Who is lost.
    board
        The status records of all ranks, for the leader.
    """

    config: Config
    info: RunInfo
    layout: Layout
    rank: int
    role: str
    gpu: int | None
    comm: MPI.Comm
    control: Control
    events: EventLog
    status: StatusPost
    log: logging.Logger
    heartbeat: Heartbeat
    detector: FailureDetector
    board: Board

    @property
    def store(self) -> Store:
        """The run's checkpoints."""
        return Store(self.info.directory)

    @property
    def threads(self) -> int:
        """Threads for the model on this rank: by the settings, else the cores that no rank of this node needs."""
        wanted = self.config.training.threads
        return model_threads(self.layout, self.rank, len(os.sched_getaffinity(0))) if wanted == "auto" else wanted

    def should_give_up(self) -> bool:
        """Beat, check for lost ranks and what is ordered; whether to wait no longer for another rank."""
        self.heartbeat()
        self.detector.poll()
        self.control.poll()
        return self.control.overdue

    @contextmanager
    def stop_on_disk_error(self) -> Iterator[None]:
        """If the disk refuses a record in the block, ask for the end of the run and continue after the block."""
        try:
            yield
        except DiskError as error:
            self.stop_for(error)

    def stop_for(self, error: DiskError) -> None:
        """Ask all ranks to end, because the disk refuses what the run has promised; the first aggregator says so."""
        self.log.warning("%s", error)
        record = self.status.record
        record["refusal"] = record["refusal"].item() or str(error).encode()
        self.control.want(StopReason.DISK)
        self.status.update(now=True, stop=self.control.stop)

    @property
    def leads(self) -> bool:
        """Whether this rank shows the progress and writes the summary: the first aggregator does."""
        return self.rank == self.layout.ranks("aggregation")[0]

    def record_traffic(self, begun: float) -> None:
        """Record the operations on the control plane since the Unix time `begun`, s; in file mode there are none."""


@dataclass(kw_only=True)
class StreamContext(Context):
    """The world of a role in stream mode.

    Parameters
    ----------
    mailboxes
        Carry commands to walkers.
    plane
        All that ranks tell each other beside the frames.
    streams
        The ends of this rank's streams.
    """

    mailboxes: Mailboxes
    plane: ControlPlane
    streams: StreamEnds

    def record_traffic(self, begun: float) -> None:
        """See :class:`Context`."""
        self.events.record("control_plane", begun, time.time() - begun, **self.plane.traffic())


@dataclass(kw_only=True)
class StageContext(Context):
    """The world of a stage in file mode."""

    layout: StageLayout
    board: MessageBoard
