"""The control plane of a run: everything that its ranks exchange besides frames.

*Local first*: what a simulation reads or writes at every report (its mailboxes, its record, the leader's bulletin,
credits) lies in shared memory of its node, in the one window of :mod:`.fabric`. What goes to other nodes travels by
messages and passes through an aggregator, which relays it whenever it makes progress.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .delivery import Delivery
from .fabric import Channels, Ends, Fabric
from .failures import Losses
from .mailbox import COMMANDS, RECEIPTS, Mailboxes
from .ring import CoordinateRing
from .routes import Routes
from .tree import Board, Bulletin, leader_of

if TYPE_CHECKING:
    from ..layout.links import Link
    from ..layout.roles import Layout
    from .launch import World

#: What a reader of a stream tells its writer.
CREDIT_DTYPE = np.dtype([("consumed", "<i8")])
#: Pause of a rank that relays and has nothing else to do: what passes through it waits half as long on average.
RELAY_SECONDS = 0.0004
#: What the leader tells of itself with every record that it posts, so that others know that it is alive.
_HEARTBEAT = ("within", "state", "activity", "pid")


class ControlPlane:
    """Collective over the world.

    Parameters
    ----------
    world, layout
        Who is where, and who does what.
    links
        The streams of the run.
    homes
        The aggregator, or leader, to which each rank speaks.
    status, orders, announcement
        Dtypes of a rank's record, of the leader's orders, and of a part of a checkpoint.
    n_atoms
        Atoms of the largest topology.
    ring_nbytes
        Memory for the coordinate ring of one aggregator.
    n_atoms_of
        Gives the number of atoms of a topology.

    Raises
    ------
    LayoutError
        On all ranks, if there is too little shared memory or the nodes cannot exchange messages.
    """

    def __init__(
        self,
        world: World,
        layout: Layout,
        links: Sequence[Link],
        homes: Sequence[int],
        *,
        status: np.dtype,
        orders: np.dtype,
        announcement: np.dtype,
        n_atoms: int,
        ring_nbytes: int,
        n_atoms_of: Callable[[int], int | None],
    ):
        aggregators = layout.ranks("aggregation")
        self._rank, self._leader = world.rank, leader_of(homes)
        self._relays = world.rank in aggregators and len(set(world.nodes)) > 1
        self.fabric = fabric = Fabric(world)
        self._commands = Routes(fabric, list(ways_of_commands(layout)), COMMANDS)
        self._receipts = Routes(fabric, [list(back(way)) for way in ways_of_commands(layout)], RECEIPTS)
        self.credits = Channels(fabric, [credit_ends(layout, link) for link in links], CREDIT_DTYPE)
        self.board = Board(fabric, homes, status)
        self.announcements = Board(fabric, homes, announcement)
        self.bulletin = Bulletin(fabric, homes, bulletin_dtype(orders, world.size))
        self.losses = Losses(world.comm, self.bulletin)
        fabric.open()
        walkers = [layout.walkers_of(rank) for rank in aggregators]
        self.ring = CoordinateRing(
            world.node_comm, aggregators, walkers, n_atoms, ring_nbytes, fabric.members, world.comm
        )
        self.delivery = Delivery(
            fabric, self.ring, aggregators, layout.ranks("inference"), layout.simulation_rank_of, n_atoms_of
        )
        self.mailboxes = Mailboxes(self._commands, self._receipts, self.delivery.request)

    def post(self, record: np.ndarray) -> None:
        """Publish this rank's status record."""
        sequence = self.board.put(self._rank, record)
        if self._rank == self._leader:
            self.bulletin.update(beat=sequence, **{name: record[name] for name in _HEARTBEAT})

    def read(self, rank: int) -> tuple[int, np.ndarray]:
        """How often `rank` has posted a record, and the newest as far as this rank can see it.

        Of a leader on another node the heartbeat in its bulletin is all that is seen.
        """
        if rank == self._leader and not self.fabric.near(rank):
            bulletin = self.bulletin.get()
            return int(bulletin["beat"]), bulletin
        return self.board.get(rank)

    def progress(self, at_once: bool = False) -> None:
        """Relay what has come for others, send frames that were asked for, and records that waited; never waits."""
        self.bulletin.relay()
        self._commands.relay()
        self._receipts.relay()
        self.board.relay(at_once)
        self.announcements.relay(at_once)
        self.delivery.serve()
        self.fabric.flush()

    def rest(self, seconds: float) -> None:
        """Sleep; a rank that relays between nodes makes progress meanwhile, so that nobody waits long for it."""
        end = time.monotonic() + seconds
        while self._relays and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, RELAY_SECONDS))
            self.progress()
        time.sleep(max(0.0, end - time.monotonic()))

    def traffic(self) -> dict[str, int]:
        """My operations so far, and those that reach the first aggregator."""
        return self.fabric.traffic(self._leader)

    def free(self) -> None:
        """Release windows and communicators. Collective over the world."""
        self.ring.free()
        self.fabric.free()


def bulletin_dtype(orders: np.dtype, n_ranks: int) -> np.dtype:
    """Of the leader's bulletin: its orders, its heartbeat, and which ranks are lost."""
    heartbeat = [("beat", "<i8"), *((name, "<f8") for name in _HEARTBEAT)]
    return np.dtype([*orders.descr, *heartbeat, ("lost", "u1", (n_ranks,))])


def ways_of_commands(layout: Layout) -> Iterator[tuple[Ends, ...]]:
    """How the commands for each walker travel.

    In shared memory of one node, else by the walker's aggregator if that is on its node, else from inference to the
    simulation rank by messages.
    """
    sender, nodes = layout.ranks("inference")[0], layout.nodes
    for walker, aggregator in enumerate(layout.hosts):
        simulation = layout.simulation_rank_of(walker)
        if nodes[sender] == nodes[simulation]:
            host = aggregator if nodes[aggregator] == nodes[simulation] else sender
            yield (Ends(sender, simulation, host),)
        elif nodes[aggregator] == nodes[simulation]:
            yield Ends(sender, aggregator, aggregator), Ends(aggregator, simulation, aggregator)
        else:
            yield (Ends(sender, simulation, aggregator),)


def back(way: Sequence[Ends]) -> Iterator[Ends]:
    """The same way in the other direction."""
    for hop in reversed(way):
        yield Ends(hop.reader, hop.writer, hop.host)


def credit_ends(layout: Layout, link: Link) -> Ends:
    """The way of a stream's credits, from its reader to its writer."""
    nodes = layout.nodes
    host = link.host if nodes[link.host] == nodes[link.reader] else link.reader
    return Ends(link.reader, link.writer, host)
