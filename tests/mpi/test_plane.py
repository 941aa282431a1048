"""The control plane on one node, and between nodes that ranks pretend to be on.

Ranks of different nodes share no window and exchange messages only.
"""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from on_ranks import on_ranks

from ddmd_mpi.config.schema import RanksSection
from ddmd_mpi.frames.command import CommandKind, Outcome, Receipt, RestartCommand
from ddmd_mpi.layout.links import homes, links
from ddmd_mpi.layout.memory import slot_nbytes
from ddmd_mpi.layout.plan import plan
from ddmd_mpi.parallel.launch import World
from ddmd_mpi.parallel.plane import ControlPlane

N_ATOMS, SLOTS = 30_000, 3
STATUS = np.dtype([(name, "<f8") for name in ("within", "state", "activity", "pid", "value")])
ORDERS = np.dtype([("stop", "<i8"), ("checkpoint", "<i8")])
#: Ranks, ranks of a node, aggregators.
LAYOUTS = {
    "one node": (4, 4, 1),
    "an aggregator on each node": (8, 4, 2),
    "nodes without one": (8, 3, 1),
    "ranks alone on a node": (8, 2, 3),
    "far training": (6, 3, 1),
}


class Player:
    """A rank of a run that has a control plane and nothing else.

    Parameters
    ----------
    comm
        All ranks.
    per_node, n_aggregators
        So many ranks count as a node; aggregators of the run.
    """

    def __init__(self, comm, per_node, n_aggregators):
        nodes = tuple(rank // per_node for rank in range(comm.size))
        self.comm, self.node_comm = comm, comm.Split(nodes[comm.rank], comm.rank)
        names, n_gpus = tuple(f"node{n}" for n in sorted(set(nodes))), (0,) * (max(nodes) + 1)
        world = World(comm, self.node_comm, nodes, names, n_gpus, ())
        self.layout = plan(nodes, world.gpus_per_node, RanksSection(aggregation=n_aggregators), 2)
        self.wires = links(self.layout)
        walkers = max(len(self.layout.walkers_of(a)) for a in self.layout.ranks("aggregation"))
        self.plane = ControlPlane(
            world, self.layout, self.wires, homes(self.layout), status=STATUS, orders=ORDERS,
            announcement=np.dtype([("number", "<i8")]), n_atoms=N_ATOMS,
            ring_nbytes=walkers * SLOTS * slot_nbytes(N_ATOMS), n_atoms_of=lambda topology: N_ATOMS,
        )  # fmt: skip
        self.role, self.leader = self.layout.roles[comm.rank], self.layout.ranks("aggregation")[0]
        self.inference = self.layout.ranks("inference")[0]
        self.walkers = self.layout.walkers(comm.rank) if self.role == "simulation" else ()

    def until(self, happened):
        """Make progress until something has happened on this rank, then until it has on all."""
        deadline, barrier = time.monotonic() + 60, None
        while barrier is None or not barrier.Test():
            assert time.monotonic() < deadline, f"rank {self.comm.rank} ({self.role}) waits in vain"
            self.plane.progress()
            if barrier is None and happened():
                barrier = self.comm.Ibarrier()
            time.sleep(0.0005)

    def free(self):
        """Collective: release what it has."""
        self.comm.Barrier()
        self.plane.free()
        self.node_comm.Free()


def on_nodes(function):
    """Let a test function run on the ranks of every layout."""

    def on_layout(comm, per_node, n_aggregators):
        player = Player(comm, per_node, n_aggregators)
        function(player)
        player.free()

    on_layout.__name__, on_layout.__doc__ = function.__name__, function.__doc__
    layouts = pytest.mark.parametrize(("n", "per_node", "n_aggregators"), LAYOUTS.values(), ids=LAYOUTS)
    return layouts(on_ranks()(on_layout))


def frame(walker, number):
    x = np.full((N_ATOMS, 3), walker + 100 * number, np.float32)
    return x, -x, np.eye(3, dtype=np.float32) * number


@on_nodes
def test_the_leader_sees_every_record_and_all_see_its_bulletin(player):
    for k in (1, 2):
        player.plane.post(np.array((40, 1, k, player.comm.rank, 10 * player.comm.rank + k), STATUS))
        player.plane.announcements.put(player.comm.rank, np.array((k,), player.plane.announcements.dtype))

        def seen(k=k):
            records = [player.plane.read(rank)[1] for rank in range(player.comm.size)]
            told = [int(player.plane.announcements.get(rank)[1]["number"]) for rank in range(player.comm.size)]
            return player.comm.rank != player.leader or (
                [r["value"] for r in records] == [10 * rank + k for rank in range(player.comm.size)]
                and set(told) == {k}
            )

        player.until(seen)
        if player.comm.rank == player.leader:
            player.plane.bulletin.update(stop=k, checkpoint=7 * k)
            player.plane.losses.declare([k])
        player.until(lambda k=k: player.plane.bulletin.get()["stop"] == k and player.plane.losses.declared() == {k})
        player.until(lambda k=k: player.plane.read(player.leader)[1]["activity"] == k)
        assert int(player.plane.bulletin.get()["checkpoint"]) == 7 * k


@on_nodes
def test_commands_and_receipts_find_their_walkers(player):
    for decision in (0, 1):
        if player.comm.rank == player.inference:
            for w in range(player.layout.n_walkers):
                player.plane.mailboxes.send(w, RestartCommand(CommandKind.CONTINUE, 100 * decision + w, 0.0))
        got = {}

        def commanded(got=got):
            got.update({w: c.decision for w in player.walkers if (c := player.plane.mailboxes.poll(w)) is not None})
            return set(got) == set(player.walkers)

        player.until(commanded)
        assert got == {w: 100 * decision + w for w in player.walkers}
        for w in player.walkers:
            player.plane.mailboxes.answer(w, Receipt(got[w], Outcome.APPLIED, 1, 0.0, 0.0))
        answered = {}

        def all_answered(answered=answered):
            if player.comm.rank == player.inference:
                answered.update(
                    {w: r.decision for w in range(player.layout.n_walkers) for r in player.plane.mailboxes.receipts(w)}
                )
            return player.comm.rank != player.inference or len(answered) == player.layout.n_walkers

        player.until(all_answered)
        assert answered == (
            {w: 100 * decision + w for w in range(player.layout.n_walkers)}
            if player.comm.rank == player.inference
            else {}
        )


@on_nodes
def test_frames_reach_walkers_of_any_node_and_a_stale_one_is_refused(player):
    places = {}
    if player.role == "aggregation":
        for w in player.layout.walkers_of(player.comm.rank):
            for number in range(SLOTS + 1):
                places[w, number] = (
                    player.layout.aggregator_index(player.comm.rank),
                    *player.plane.ring.store(w, *frame(w, number)),
                )
    places = {key: place for of_rank in player.comm.allgather(places) for key, place in of_rank.items()}
    for number, is_there in ((0, False), (SLOTS, True), (1, True)):
        sources = {w: (w + 1 + number) % player.layout.n_walkers for w in range(player.layout.n_walkers)}
        if player.comm.rank == player.inference:
            for w, source in sources.items():
                aggregator, slot, generation = places[source, number]
                player.plane.mailboxes.send(
                    w,
                    RestartCommand(
                        CommandKind.RESTART,
                        1000 * (number + 1) + w,
                        0.0,
                        aggregator=aggregator,
                        ring_slot=slot,
                        slot_generation=generation,
                    ),
                )
        commands, taken = {}, {}

        def arrived(commands=commands, taken=taken):
            commands.update({w: c for w in player.walkers if (c := player.plane.mailboxes.poll(w)) is not None})
            for w in commands.keys() - taken.keys():
                if player.plane.delivery.arrived(w, commands[w]):
                    taken[w] = player.plane.delivery.take(w, commands[w], N_ATOMS)
            return set(taken) == set(player.walkers)

        player.until(arrived)
        for w, found in taken.items():
            assert (found is not None) == is_there
            for part, expected in zip(found or (), frame(sources[w], number), strict=bool(found)):
                np.testing.assert_array_equal(part, expected)


@on_nodes
def test_credits_reach_the_writers(player):
    for link in player.wires:
        if player.comm.rank == link.reader:
            player.plane.credits.put(link.index, np.array((link.index + 5,), player.plane.credits.dtype))
    mine = [link.index for link in player.wires if player.comm.rank == link.writer]
    player.until(lambda: [int(player.plane.credits.get(i)[1]["consumed"]) for i in mine] == [i + 5 for i in mine])


@on_nodes
def test_places_of_an_earlier_session_are_told(player):
    if player.role == "aggregation":
        player.plane.delivery.announce([(player.comm.rank, 2), (1, 3)])
    told = {}

    def all_told():
        if player.comm.rank == player.inference:
            told.update(player.plane.delivery.announced())
        return player.comm.rank != player.inference or len(told) == len(player.layout.ranks("aggregation"))

    player.until(all_told)
    for index, places in told.items():
        assert places == {(player.layout.ranks("aggregation")[index], 2), (1, 3)}


@on_nodes
def test_nobody_waits_for_a_rank_that_is_not_in_mpi(player):
    """The leader, which owns window memory, stays out of MPI until all others have posted, polled and answered."""
    done = Path(player.comm.bcast(tempfile.mkdtemp(dir="/tmp") if player.comm.rank == 0 else None, root=0))
    if player.comm.rank == player.leader:
        deadline = time.monotonic() + 60
        while len(list(done.iterdir())) < player.comm.size - 1:
            assert time.monotonic() < deadline, "the others have waited for the leader"
            time.sleep(0.05)
    else:
        for _ in range(50):
            player.plane.post(np.zeros((), STATUS))
            player.plane.bulletin.get()
            for w in player.walkers:
                player.plane.mailboxes.poll(w)
                player.plane.mailboxes.answer(w, Receipt(1, Outcome.STALE, -1, 0.0, 0.0))
            if player.comm.rank == player.inference:
                player.plane.mailboxes.send(0, RestartCommand(CommandKind.CONTINUE, 1, 0.0))
            player.plane.progress()
        (done / str(player.comm.rank)).touch()
    player.comm.Barrier()
    if player.comm.rank == 0:
        shutil.rmtree(done)
