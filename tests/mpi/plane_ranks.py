"""The control plane between nodes: ranks of one machine pretend to be on nodes of `PER_NODE` ranks.

Usage: plane_ranks.py PER_NODE AGGREGATORS. Ranks of different nodes share no window and exchange messages only.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

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

comm = MPI.COMM_WORLD
per_node, n_aggregators = int(sys.argv[1]), int(sys.argv[2])
nodes = tuple(rank // per_node for rank in range(comm.size))
node_comm = comm.Split(nodes[comm.rank], comm.rank)
world = World(comm, node_comm, nodes, tuple(f"node{n}" for n in sorted(set(nodes))), (0,) * (max(nodes) + 1), ())
layout = plan(nodes, world.gpus_per_node, RanksSection(aggregation=n_aggregators), 2)
wires, home = links(layout), homes(layout)
walkers = max(len(layout.walkers_of(a)) for a in layout.ranks("aggregation"))
plane = ControlPlane(
    world, layout, wires, home, status=STATUS, orders=ORDERS, announcement=np.dtype([("number", "<i8")]),
    n_atoms=N_ATOMS, ring_nbytes=walkers * SLOTS * slot_nbytes(N_ATOMS), n_atoms_of=lambda topology: N_ATOMS,
)  # fmt: skip
role, leader = layout.roles[comm.rank], layout.ranks("aggregation")[0]
inference = layout.ranks("inference")[0]
mine = layout.walkers(comm.rank) if role == "simulation" else ()


def until(happened):
    """Make progress until something has happened on this rank, then until it has on all."""
    deadline, barrier = time.monotonic() + 60, None
    while barrier is None or not barrier.Test():
        assert time.monotonic() < deadline, f"rank {comm.rank} ({role}) waits in vain"
        plane.progress()
        if barrier is None and happened():
            barrier = comm.Ibarrier()
        time.sleep(0.0005)


def frame(walker, number):
    x = np.full((N_ATOMS, 3), walker + 100 * number, np.float32)
    return x, -x, np.eye(3, dtype=np.float32) * number


def test_the_leader_sees_every_record_and_all_see_its_bulletin():
    for k in (1, 2):
        plane.post(np.array((40, 1, k, comm.rank, 10 * comm.rank + k), STATUS))
        plane.announcements.put(comm.rank, np.array((k,), plane.announcements.dtype))

        def seen(k=k):
            records = [plane.read(rank)[1] for rank in range(comm.size)]
            told = [int(plane.announcements.get(rank)[1]["number"]) for rank in range(comm.size)]
            return comm.rank != leader or (
                [r["value"] for r in records] == [10 * rank + k for rank in range(comm.size)] and set(told) == {k}
            )

        until(seen)
        if comm.rank == leader:
            plane.bulletin.update(stop=k, checkpoint=7 * k)
            plane.losses.declare([k])
        until(lambda k=k: plane.bulletin.get()["stop"] == k and plane.losses.declared() == {k})
        until(lambda k=k: plane.read(leader)[1]["activity"] == k)
        assert int(plane.bulletin.get()["checkpoint"]) == 7 * k


def test_commands_and_receipts_find_their_walkers():
    for decision in (0, 1):
        if comm.rank == inference:
            for w in range(layout.n_walkers):
                plane.mailboxes.send(w, RestartCommand(CommandKind.CONTINUE, 100 * decision + w, 0.0))
        got = {}

        def commanded(got=got):
            got.update({w: c.decision for w in mine if (c := plane.mailboxes.poll(w)) is not None})
            return set(got) == set(mine)

        until(commanded)
        assert got == {w: 100 * decision + w for w in mine}
        for w in mine:
            plane.mailboxes.answer(w, Receipt(got[w], Outcome.APPLIED, 1, 0.0, 0.0))
        answered = {}

        def all_answered(answered=answered):
            if comm.rank == inference:
                answered.update({w: r.decision for w in range(layout.n_walkers) for r in plane.mailboxes.receipts(w)})
            return comm.rank != inference or len(answered) == layout.n_walkers

        until(all_answered)
        assert answered == ({w: 100 * decision + w for w in range(layout.n_walkers)} if comm.rank == inference else {})


def test_frames_reach_walkers_of_any_node_and_a_stale_one_is_refused():
    places = {}
    if role == "aggregation":
        for w in layout.walkers_of(comm.rank):
            for number in range(SLOTS + 1):
                places[w, number] = (layout.aggregator_index(comm.rank), *plane.ring.store(w, *frame(w, number)))
    places = {key: place for of_rank in comm.allgather(places) for key, place in of_rank.items()}
    for number, is_there in ((0, False), (SLOTS, True), (1, True)):
        sources = {w: (w + 1 + number) % layout.n_walkers for w in range(layout.n_walkers)}
        if comm.rank == inference:
            for w, source in sources.items():
                aggregator, slot, generation = places[source, number]
                plane.mailboxes.send(
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
            commands.update({w: c for w in mine if (c := plane.mailboxes.poll(w)) is not None})
            for w in commands.keys() - taken.keys():
                if plane.delivery.arrived(w, commands[w]):
                    taken[w] = plane.delivery.take(w, commands[w], N_ATOMS)
            return set(taken) == set(mine)

        until(arrived)
        for w, found in taken.items():
            assert (found is not None) == is_there
            for part, expected in zip(found or (), frame(sources[w], number), strict=bool(found)):
                np.testing.assert_array_equal(part, expected)


def test_credits_reach_the_writers():
    for link in wires:
        if comm.rank == link.reader:
            plane.credits.put(link.index, np.array((link.index + 5,), plane.credits.dtype))
    mine = [link.index for link in wires if comm.rank == link.writer]
    until(lambda: [int(plane.credits.get(i)[1]["consumed"]) for i in mine] == [i + 5 for i in mine])


def test_places_of_an_earlier_session_are_told():
    if role == "aggregation":
        plane.delivery.announce([(comm.rank, 2), (1, 3)])
    told = {}

    def all_told():
        if comm.rank == inference:
            told.update(plane.delivery.announced())
        return comm.rank != inference or len(told) == n_aggregators

    until(all_told)
    for index, places in told.items():
        assert places == {(layout.ranks("aggregation")[index], 2), (1, 3)}


def test_nobody_waits_for_a_rank_that_is_not_in_mpi():
    """The leader, which owns window memory, stays out of MPI until all others have posted, polled and answered."""
    done = Path(comm.bcast(tempfile.mkdtemp(dir="/tmp") if comm.rank == 0 else None, root=0))
    if comm.rank == leader:
        deadline = time.monotonic() + 60
        while len(list(done.iterdir())) < comm.size - 1:
            assert time.monotonic() < deadline, "the others have waited for the leader"
            time.sleep(0.05)
    else:
        for _ in range(50):
            plane.post(np.zeros((), STATUS))
            plane.bulletin.get()
            for w in mine:
                plane.mailboxes.poll(w)
                plane.mailboxes.answer(w, Receipt(1, Outcome.STALE, -1, 0.0, 0.0))
            if comm.rank == inference:
                plane.mailboxes.send(0, RestartCommand(CommandKind.CONTINUE, 1, 0.0))
            plane.progress()
        (done / str(comm.rank)).touch()
    comm.Barrier()
    if comm.rank == 0:
        shutil.rmtree(done)


tests = [function for name, function in list(globals().items()) if name.startswith("test_")]
for test in tests:
    test()
    comm.Barrier()
plane.free()
node_comm.Free()
if comm.rank == 0:
    sys.stdout.write(f"{len(tests)} tests passed on {max(nodes) + 1} nodes\n")
