"""Coordinates on their way to a walker: from the ring of its node, or sent by an aggregator of another one.

Inference asks the aggregator whose ring holds the frame to send it, together with the command. The walker continues
its dynamics until the frame is there, so nobody waits for another node. An aggregator that no longer has the frame says
so, and the command is stale.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from ..frames.command import CommandKind, RestartCommand
from ..layout.memory import frame_values
from .fabric import Fabric
from .ring import CoordinateRing, Frame, frame_parts

_REQUEST = np.dtype([(name, "<i8") for name in ("decision", "walker", "to", "slot", "generation", "n_atoms")])
_HEAD = np.dtype([(name, "<i8") for name in ("decision", "walker", "found", "n_atoms")])
_SLOTS = np.dtype([("slot", "<i4"), ("generation", "<i8")])


@dataclass
class _Arriving:
    """A message of which the first bytes are here."""

    request: MPI.Request
    buffer: np.ndarray


class Delivery:
    """Brings frames from the rings to the walkers. Collective over the world.

    Parameters
    ----------
    fabric
        Carries the messages.
    ring
        Of my node.
    aggregators
        Rank of each aggregator.
    askers
        Ranks that send commands.
    rank_of
        Gives the simulation rank of a walker.
    n_atoms_of
        Gives the number of atoms of a topology, None for one that the run does not have.
    """

    def __init__(
        self,
        fabric: Fabric,
        ring: CoordinateRing,
        aggregators: Sequence[int],
        askers: Sequence[int],
        rank_of: Callable[[int], int],
        n_atoms_of: Callable[[int], int | None],
    ):
        self._fabric, self._comm, self._ring = fabric, fabric.comm, ring
        self._aggregators, self._rank_of, self._n_atoms_of = tuple(aggregators), rank_of, n_atoms_of
        self._askers = tuple(askers) if fabric.rank in aggregators else ()
        self._ask_tag = fabric.tags(3)
        self._frame_tag, self._slots_tag = self._ask_tag + 1, self._ask_tag + 2
        self._sent: deque[tuple[MPI.Request, np.ndarray]] = deque()
        self._arriving: dict[tuple[int, int], _Arriving] = {}  # by source and tag
        self._held: dict[int, tuple[int, Frame | None]] = {}  # by walker: the decision, and its frame if there is one

    def request(self, walker: int, command: RestartCommand) -> None:
        """Ask for the frame of a command to be sent, unless the walker finds it on its own node."""
        source, to = self._aggregators[command.aggregator], self._rank_of(walker)
        n_atoms = self._n_atoms_of(command.topology)
        if command.kind != CommandKind.RESTART or n_atoms is None:
            return
        if self._fabric.nodes[source] == self._fabric.nodes[to]:
            return
        asked = (command.decision, walker, to, command.ring_slot, command.slot_generation, n_atoms)
        self._send(np.array(asked, _REQUEST), source, self._ask_tag)

    def serve(self) -> None:
        """Send the frames that I have been asked for; on aggregators."""
        for asker in self._askers:
            while (message := self._receive(asker, self._ask_tag)) is not None:
                asked = message.view(_REQUEST)[0]
                mine = self._aggregators.index(self._fabric.rank)
                frame = self._ring.fetch(mine, int(asked["slot"]), int(asked["generation"]), int(asked["n_atoms"]))
                self._send(_packed(asked, frame), int(asked["to"]), self._frame_tag)
        self._forget_sent()

    def arrived(self, walker: int, command: RestartCommand) -> bool:
        """Whether :meth:`take` can tell what became of the frame of a command; never waits."""
        if self._ring.is_near(command.aggregator):
            return True
        source = self._aggregators[command.aggregator]
        while (message := self._receive(source, self._frame_tag)) is not None:
            head, frame = _unpacked(message)
            if int(head["decision"]) >= self._held.get(int(head["walker"]), (-1, None))[0]:
                self._held[int(head["walker"])] = int(head["decision"]), frame
        return walker in self._held and self._held[walker][0] == command.decision

    def take(self, walker: int, command: RestartCommand, n_atoms: int) -> Frame | None:
        """The frame of a command, None if its ring does not hold it any more."""
        if self._ring.is_near(command.aggregator):
            return self._ring.fetch(command.aggregator, command.ring_slot, command.slot_generation, n_atoms)
        return self._held.pop(walker)[1]

    def announce(self, filled: Iterable[tuple[int, int]]) -> None:
        """Tell those who send commands which (slot, generation) of my ring an earlier session has filled."""
        slots = np.array(list(filled), _SLOTS)
        for asker in self._askers:
            self._send(slots, asker, self._slots_tag)

    def announced(self) -> dict[int, set[tuple[int, int]]]:
        """(slot, generation) of the frames of earlier sessions, by the number of the aggregator that has told them."""
        found = {}
        for index, aggregator in enumerate(self._aggregators):
            message = self._receive(aggregator, self._slots_tag)
            if message is not None:
                found[index] = {(int(s), int(g)) for s, g in message.view(_SLOTS).tolist()}
        return found

    def _send(self, message: np.ndarray, rank: int, tag: int) -> None:
        self._forget_sent()
        body = np.frombuffer(message.tobytes(), np.uint8)
        with suppress(MPI.Exception):  # that rank is lost
            self._sent.append((self._comm.Isend([body, MPI.BYTE], rank, tag), body))

    def _forget_sent(self) -> None:
        while self._sent:
            try:
                if not self._sent[0][0].Test():
                    return
            except MPI.Exception:  # that rank is lost
                pass
            self._sent.popleft()

    def _receive(self, source: int, tag: int) -> np.ndarray | None:
        """The next message, once all of it is here."""
        status = MPI.Status()
        try:
            if (source, tag) not in self._arriving and self._comm.Iprobe(source, tag, status):
                buffer = np.empty(status.Get_count(MPI.BYTE), np.uint8)
                request = self._comm.Irecv([buffer, MPI.BYTE], source, tag)
                self._arriving[source, tag] = _Arriving(request, buffer)
            if (source, tag) in self._arriving and self._arriving[source, tag].request.Test():
                return self._arriving.pop((source, tag)).buffer
        except MPI.Exception:  # that rank is lost, and with it what had started to arrive
            self._arriving.pop((source, tag), None)
        return None


def _packed(asked: np.ndarray, frame: Frame | None) -> np.ndarray:
    """The head and the values of a frame, uint8."""
    head = np.array((asked["decision"], asked["walker"], frame is not None, asked["n_atoms"]), _HEAD)
    values = [] if frame is None else [part.ravel() for part in frame]
    return np.frombuffer(b"".join((head.tobytes(), *(v.tobytes() for v in values))), np.uint8)


def _unpacked(message: np.ndarray) -> tuple[np.ndarray, Frame | None]:
    """What :func:`_packed` has packed."""
    head = message[: _HEAD.itemsize].view(_HEAD)[0]
    if not head["found"]:
        return head, None
    n_atoms = int(head["n_atoms"])
    values = message[_HEAD.itemsize :].view(np.float32)[: frame_values(n_atoms)]
    return head, frame_parts(values, n_atoms)
