"""The streams of a run: opened at start-up by both ends, closed at its end.

How an SST stream is opened without files on a shared file system and without a deadlock. SST's ``open`` of a reader
holds the interpreter's lock until the writer ends a step, so a rank enters it only when the other end is known to be
making steps:

1. every rank opens one engine at once, its *hub*: it gives the process its identity and keeps it (:mod:`.guards`);
2. the reader invites the writer by an MPI message;
3. the writer opens the stream, sends its contact text by MPI, and makes empty steps until the reader is in;
4. the reader writes the text to a file of its own, opens, and acknowledges by MPI.

The end that connects cannot set TCP_NODELAY before it has connected, which costs 0.09 s a stream. So a reader of many
streams puts its hub's contact text into the invitation and makes empty steps on its hub, and all its writers connect
to that at a time, before step 3: 48 streams take 0.3 s in place of 5 s.

Open streams in the order of the flow (a rank its readers first, then its writers) and no two ranks wait for each other.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..config.schema import StreamsSection
from ..errors import LostRankError, StreamError
from ..layout.links import STREAM_KINDS
from .addresses import agree_on_address
from .adios2_engine import StepReader, StepWriter, declare, kind_of, supported
from .point_to_point import MessageReader, MessageWriter
from .sst_guards import PrivateDirectory, circles, clashes, disable_nagle, in_pid_order, process_id, set_own_address
from .stream import Reader, Writer
from .waiting import OPEN_SECONDS, Communicator, wait_until

INVITE_TAG, CONTACT_TAG, READY_TAG, FINISHED_TAG, FIRST_PAYLOAD_TAG = range(2, 7)
CLOSE_SECONDS = 30.0
MANY_STREAMS = 2
IDENTITY_ATTEMPTS = 5

Answer = TypeVar("Answer")


class Planned(Protocol):
    """A stream of a run: its kind, and the ranks of its ends."""

    @property
    def kind(self) -> str: ...
    @property
    def writer(self) -> int: ...
    @property
    def reader(self) -> int: ...


log = logging.getLogger(__name__)


class Network:
    """The streams of this rank. Collective over `comm`.

    Parameters
    ----------
    comm, node_comm
        All ranks that open streams; those of them on this node.
    settings, directory
        Engine and parameters; where streams that are files lie.
    plan
        Every stream that will be opened, so that hosts test only the addresses that these need; None: any may be.
    lost
        Looks who is lost, and gives these ranks; called while this one waits.
    """

    def __init__(
        self,
        comm: Communicator,
        node_comm: Communicator,
        settings: StreamsSection,
        directory: Path,
        plan: Iterable[Planned] | None = None,
        lost: Callable[[], Collection[int]] = tuple,
    ):
        self._settings, self._directory = settings, Path(directory)
        self._comm = comm.Dup()
        self._comm.Set_name("streams")
        self._rank = self._comm.Get_rank()
        self._tags = itertools.count(FIRST_PAYLOAD_TAG)
        self._requests: list[Any] = []
        self._left: set[int] = set()  # readers' ranks
        self._readers: list[tuple[int, StepReader | MessageReader]] = []  # each with its writer's rank
        self._writers: dict[tuple[str, int], StepWriter | MessageWriter] = {}
        self._hub_settings = replace(settings, engine="SST", adios2_xml=None)
        self._owned: PrivateDirectory | None = None
        self._private = Path()
        self._hub: StepWriter | None = None
        self._lost = lost
        try:
            self._start(node_comm, plan)
        except StreamError:
            self.free()
            raise

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()

    def writer(self, name: str, reader_rank: int, first_hop: bool = False) -> Writer:
        """Open the writing end of the stream `name`, whose reader opens it too.

        Parameters
        ----------
        name
            ``KIND`` or ``KIND-anything``, where an XML file names IOs by kind.
        reader_rank
            Rank of the reader in the network's communicator.
        first_hop
            Whether ``[streams] first_hop`` decides on the transport.

        Raises
        ------
        StreamError
            If the engine does not open, or the reader does not come.
        """
        if (name, reader_rank) in self._writers:
            raise StreamError(f"the stream {name} to rank {reader_rank} is open already; give each stream its own name")
        expected = f"rank {reader_rank}, the reader of {name},"
        wait_until(lambda: self._there(reader_rank, INVITE_TAG, self._lost()), OPEN_SECONDS, expected)
        invitation = self._comm.recv(source=reader_rank, tag=INVITE_TAG)
        if invitation["name"] != name:
            raise StreamError(
                f"rank {reader_rank} expects the stream {invitation['name']}, not {name}: both ends must open their "
                f"streams in the same order"
            )
        writer: StepWriter | MessageWriter
        if self._by_messages(first_hop):
            tag = next(self._tags)
            writer = MessageWriter(self._comm, reader_rank, tag, self._settings.in_flight_blocks, OPEN_SECONDS)
            self._send(CONTACT_TAG, reader_rank, name=name, contact=str(tag))
        else:
            writer = self._open_writer(name, reader_rank, invitation["hub"])
        self._writers[name, reader_rank] = writer
        return writer

    def reader(self, name: str, writer_rank: int, first_hop: bool = False) -> Reader:
        """Open the reading end of one stream; see :meth:`readers`."""
        return self.readers([(name, writer_rank)], first_hop)[0]

    def readers(self, streams: Sequence[tuple[str, int]], first_hop: bool = False) -> list[Reader]:
        """Open the reading ends of several streams, each as soon as its writer is there.

        Parameters
        ----------
        streams
            Name and writer's rank of each.
        first_hop
            Whether ``[streams] first_hop`` decides on the transport.
        """
        hub = self._hub if len(streams) >= MANY_STREAMS else None
        contact = None if hub is None else _contact(hub)
        for name, writer_rank in streams:
            self._send(INVITE_TAG, writer_rank, name=name, hub=contact)
        opened: dict[tuple[str, int], StepReader | MessageReader] = {}

        def all_open() -> bool:
            lost = self._lost()
            for name, writer_rank in streams:
                if (name, writer_rank) in opened or not self._there(writer_rank, CONTACT_TAG, lost):
                    continue
                message = self._comm.recv(source=writer_rank, tag=CONTACT_TAG)
                name = message["name"]
                opened[name, writer_rank] = self._open_reader(name, writer_rank, message["contact"], first_hop)
            if len(opened) < len(streams) and hub is not None:
                hub.hello()
            return len(opened) == len(streams)

        wait_until(all_open, OPEN_SECONDS, f"the writers of {', '.join(name for name, _ in streams)}")
        disable_nagle()
        self._readers.extend((rank, reader) for (_, rank), reader in opened.items())
        return [opened[stream] for stream in streams]

    def free(self) -> None:
        """Announce the end of this rank's streams, wait until their readers have read it, and clean up.

        A reader that does not read is waited for, for :data:`CLOSE_SECONDS`. What it has not read by then it can still
        read until this process ends.
        """
        lost = self._lost()
        self._readers = [(rank, reader) for rank, reader in self._readers if rank not in lost]
        for _, reader in self._readers:
            reader.close()
        for writer in self._writers.values():
            writer.close()
        with contextlib.suppress(StreamError):
            wait_until(self._all_finished, CLOSE_SECONDS, "the readers of this rank's streams")
        for (name, rank), writer in self._writers.items():
            if not writer.finished:
                log.warning("rank %d has not read the stream %s to its end", rank, name)
            writer.free()
        for _, reader in self._readers:
            reader.free()
        if self._hub:
            self._hub.free()
        self._writers, self._readers, self._hub = {}, [], None
        if self._owned:
            self._owned.free()
            self._owned = None
        # The communicator is left to MPI: to free it is collective, and a lost rank must stop nobody.

    def _by_messages(self, first_hop: bool) -> bool:
        return first_hop and self._settings.first_hop == "mpi"

    def _open_writer(self, name: str, reader_rank: int, hub: str | None) -> StepWriter:
        declared = declare(kind_of(name), self._settings)
        if declared.engine != "SST":
            path = self._directory / f"{name}-from-{self._rank}-to-{reader_rank}.bp"
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = StepWriter(declared, path)
            self._send(CONTACT_TAG, reader_rank, name=name, contact=str(path))
            return writer
        knock = None
        if hub is not None:
            knock = StepReader(declare("hub", self._hub_settings), self._store_contact(f"hub-{reader_rank}", hub))
            disable_nagle()
        writer = StepWriter(declared, self._private / f"{name}-to-{reader_rank}")
        disable_nagle()
        self._send(CONTACT_TAG, reader_rank, name=name, contact=_contact(writer))

        def reader_is_in() -> bool:
            writer.hello()
            return self._there(reader_rank, READY_TAG, self._lost())

        wait_until(reader_is_in, OPEN_SECONDS, f"rank {reader_rank}, the reader of {name},")
        self._comm.recv(source=reader_rank, tag=READY_TAG)
        if knock is not None:
            knock.free()
        return writer

    def _open_reader(self, name: str, writer_rank: int, contact: str, first_hop: bool) -> StepReader | MessageReader:
        if self._by_messages(first_hop):
            return MessageReader(self._comm, writer_rank, int(contact))
        declared = declare(kind_of(name), self._settings)
        path = self._store_contact(f"{name}-from-{writer_rank}", contact) if declared.engine == "SST" else Path(contact)
        reader = StepReader(declared, path, at_end=lambda: self._send(FINISHED_TAG, writer_rank, name=name))
        if declared.engine == "SST":
            self._send(READY_TAG, writer_rank)
        return reader

    def _agree(self, action: Callable[[], Answer]) -> list[Answer]:
        """What `action` gives on every rank; a StreamError on one is raised on all. Collective."""
        try:
            answers = self._comm.allgather(action())
        except StreamError as error:
            answers = self._comm.allgather(error)
        for answer in answers:
            if isinstance(answer, StreamError):
                raise answer
        return answers

    def _start(self, node_comm: Communicator, plan: Iterable[Planned] | None) -> None:
        """Settle the address and the identity of every rank, if SST is used. Collective over both communicators."""
        kinds = set().union(*self._agree(self._try_settings))
        if kinds:
            ends = None if plan is None else [(s.writer, s.reader) for s in plan if self._over_sst(s.kind, kinds)]
            set_own_address(agree_on_address(self._comm, node_comm, self._settings.interface, ends))
            self._open_hubs(node_comm, None if ends is None else circles(ends))

    def _try_settings(self) -> set[str]:
        """The kinds of streams that SST carries; checks what can be known before the first open."""
        self._owned = PrivateDirectory()
        self._private = self._owned.path
        return {kind for kind in STREAM_KINDS if supported(kind, self._settings) == "SST"}

    def _over_sst(self, kind: str, kinds: Collection[str]) -> bool:
        return kind in kinds and not self._by_messages(first_hop=kind == STREAM_KINDS[0])

    def _open_hubs(self, node_comm: Communicator, groups: list[set[int]] | None) -> None:
        """Open the hub of every rank, and again where two of a group got one identity. Collective over both."""
        ids = self._agree(lambda: in_pid_order(node_comm, self._open_hub))
        for _ in range(IDENTITY_ATTEMPTS):
            again = clashes(ids, groups)
            if not again:
                return
            ids = self._agree(partial(self._reopen_hub, ids, again))
        raise StreamError(f"SST gave one identity to several ranks {IDENTITY_ATTEMPTS} times; start the run again")

    def _open_hub(self) -> bytes | None:
        """Open the hub; the identity that SST gave this process."""
        self._hub = StepWriter(declare("hub", self._hub_settings), self._private / "hub")
        self._hub.finished = True  # nobody reads it
        disable_nagle()
        return process_id(_contact(self._hub))

    def _reopen_hub(self, ids: list[bytes | None], again: list[int]) -> bytes | None:
        """Open the hub again if I must, at a second of its own: the seed holds it."""
        if self._hub is None or self._rank not in again:
            return ids[self._rank]
        self._hub.free()
        self._hub = None
        time.sleep(1 + again.index(self._rank))
        return self._open_hub()

    def _store_contact(self, name: str, text: str) -> Path:
        """Where a reader finds the contact text, which SST takes from a file only."""
        path = self._private / name
        path.with_name(f"{name}.sst").write_text(text)
        return path

    def _send(self, tag: int, rank: int, **message: Any) -> None:
        with contextlib.suppress(RuntimeError):  # MPI's error if that rank has died: nobody waits for the message
            self._requests.append(self._comm.isend({"sender": self._rank, **message}, dest=rank, tag=tag))

    def _there(self, rank: int, tag: int, lost: Collection[int]) -> bool:
        """Whether a message of this rank is there; raises LostRankError if the rank is among the `lost`."""
        if rank in lost:
            raise LostRankError(f"rank {rank} was lost before its streams were open; start the run again")
        return self._comm.iprobe(source=rank, tag=tag)

    def _all_finished(self) -> bool:
        lost = self._lost()
        for rank in {rank for _, rank in self._writers} - set(lost) - self._left:
            try:
                while self._comm.iprobe(source=rank, tag=FINISHED_TAG):
                    message = self._comm.recv(source=rank, tag=FINISHED_TAG)
                    writer = self._writers[message["name"], message["sender"]]
                    if isinstance(writer, StepWriter):  # messages know by themselves when they have arrived
                        writer.finished = True
            except RuntimeError:  # it has left without MPI, as ranks do where another one is lost
                self._left.add(rank)
        self._requests = [request for request in self._requests if not _is_over(request)]
        written = all(writer.finished for (_, rank), writer in self._writers.items() if rank not in self._left)
        return written and all(reader.finished for _, reader in self._readers) and not self._requests


def _is_over(request: Any) -> bool:
    """Whether a message is sent, or never will be because its receiver has died."""
    try:
        return request.test()[0]
    except RuntimeError:
        return True


def _contact(writer: StepWriter) -> str:
    """The contact text that SST has left beside the stream's path."""
    return writer.path.with_name(f"{writer.path.name}.sst").read_text()
