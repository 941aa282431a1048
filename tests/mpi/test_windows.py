"""Registers, mailboxes and rings under the installed MPI: in lockstep, and hammered."""

import random
import time

import numpy as np
import pytest
from mpi4py import MPI
from on_ranks import on_ranks

from ddmd_mpi.errors import LayoutError
from ddmd_mpi.frames.command import Outcome, Receipt, RestartCommand
from ddmd_mpi.layout.memory import slot_nbytes
from ddmd_mpi.parallel.mailbox import Mailboxes
from ddmd_mpi.parallel.register import Registers
from ddmd_mpi.parallel.ring import CoordinateRing
from ddmd_mpi.parallel.selftest import self_test


@on_ranks(1, 2, 4)
def test_every_rank_writes_a_register_and_reads_all(comm):
    """Every rank writes one register, held by its right neighbour, and reads all."""
    dtype = np.dtype([("rank", "<i8"), ("values", "<f4", (5,))])
    held = Registers(comm, [(i + 1) % comm.size for i in range(comm.size)], dtype)
    assert len(held) == comm.size
    for i in range(comm.size):
        sequence, record = held.get(i)
        assert (sequence, held.sequence(i), record["rank"], record["values"].sum()) == (0, 0, 0, 0)
    comm.Barrier()
    for round_ in range(1, 6):
        assert held.put(comm.rank, (comm.rank + 10 * round_, np.full(5, round_))) == round_
        comm.Barrier()
        for i in range(comm.size):
            assert held.sequence(i) == round_
            sequence, record = held.get(i)
            assert (sequence, record["rank"], record["values"][4]) == (round_, i + 10 * round_, round_)
        comm.Barrier()
    held.free()


@on_ranks(2, 4)
def test_a_torn_put_leaves_the_record_before_it(comm):
    """A put that stops half way leaves the record before it, and nobody who saw the newer one is shown that again."""
    last = comm.size - 1
    held = Registers(comm, [0], np.dtype("<i8"))
    if comm.rank == last:
        held.put(0, 10)
        held.put(0, 20)
    comm.Barrier()
    assert comm.rank == 0 or held.get(0) == (2, 20)
    comm.Barrier()
    if comm.rank == last:
        start, _, _ = held._copies[0][2 & 1]
        held._put([b"\xff", MPI.BYTE], 0, (start + 16, 1, MPI.BYTE))
        held._flush(0)
    comm.Barrier()
    if comm.rank == 0:
        assert held.get(0) == (1, 10)
    comm.Barrier()
    if comm.rank == last:
        time.sleep(0.05)
        held.put(0, 30)
    elif comm.rank != 0:
        assert held.get(0) == (3, 30)
    comm.Barrier()
    held.free()


@on_ranks(1, 2, 4)
def test_a_command_is_seen_once_and_of_two_the_newer(comm):
    """A command is seen once, unchanged; of two the newer; another walker's not at all."""
    last = comm.size - 1
    mailboxes = Mailboxes.on(comm, [0, 0, last])
    assert mailboxes.poll(1) is None
    comm.Barrier()
    sent = RestartCommand(1, 41, 1.5e9 + 0.25, 3, 0, 2, 7, 2**40, 1, 5, 2**33, 12345)
    if comm.rank == last:
        mailboxes.send(1, sent)
    comm.Barrier()
    assert mailboxes.poll(1) == sent
    assert mailboxes.poll(1) is None
    assert mailboxes.poll(0) is None
    assert mailboxes.poll(2) is None
    comm.Barrier()
    if comm.rank == last:
        mailboxes.send(1, RestartCommand(1, 42, 0.0))
        mailboxes.send(1, RestartCommand(2, 43, 0.0))
    comm.Barrier()
    assert mailboxes.poll(1) == RestartCommand(2, 43, 0.0)
    mailboxes.free()


@on_ranks(1, 2, 4)
def test_receipts_come_in_order_and_the_newest_stay(comm):
    """Receipts come in order; of more than 4 unread ones the newest 4."""
    last = comm.size - 1
    mailboxes = Mailboxes.on(comm, [last, 0])
    given = [Receipt(d, Outcome.APPLIED, d + 1, 10.0 + d, 20.0 + d) for d in range(8)]
    for start, stop, seen in ((0, 0, []), (0, 2, given[:2]), (2, 8, given[4:])):
        if comm.rank == 0:
            for receipt in given[start:stop]:
                mailboxes.answer(1, receipt)
        comm.Barrier()
        assert mailboxes.receipts(1) == seen
        assert mailboxes.receipts(1) == []
        assert mailboxes.receipts(0) == []
        comm.Barrier()
    mailboxes.free()


@on_ranks(1, 2, 4)
def test_rings_keep_the_newest_frames_and_give_no_older_one(comm):
    """Two aggregators keep the newest frames of their walkers, all ranks fetch them, and nobody an older one.

    Walker 1 holds a smaller topology than the others.
    """
    last = comm.size - 1
    n_atoms, n_slots, atoms_of = 7, 3, (7, 5, 7)
    hosts, walkers_of = ([0, last], [[0, 1], [2]]) if comm.size > 1 else ([0], [[0, 1, 2]])
    most = max(map(len, walkers_of))
    ring = CoordinateRing(comm, hosts, walkers_of, n_atoms, most * n_slots * slot_nbytes(n_atoms) + 5)
    assert ring.slots_per_walker == n_slots
    rng = np.random.default_rng(1)
    frames = rng.normal(size=(3, 8, 2, n_atoms, 3)).astype(np.float32)
    box = np.diag([1.0, 2.0, 3.0]).astype(np.float32)
    for aggregator, (host, walkers) in enumerate(zip(hosts, walkers_of, strict=True)):
        placed = None
        if comm.rank == host:
            placed = [
                (w, k, ring.store(w, *frames[w, k, :, : atoms_of[w]], box * k)) for w in walkers for k in range(8)
            ]
        for walker, k, (slot, generation) in comm.bcast(placed, root=host):
            n = atoms_of[walker]
            fetched = ring.fetch(aggregator, slot, generation, None if n == n_atoms else n)
            assert (fetched is not None) == (k >= 8 - n_slots)
            if fetched is not None:
                assert np.array_equal(fetched[0], frames[walker, k, 0, :n])
                assert np.array_equal(fetched[1], frames[walker, k, 1, :n])
                assert np.array_equal(fetched[2], box * k)
            assert ring.fetch(aggregator, slot, generation + 10) is None
            assert ring.fetch(aggregator, slot, 0) is None
    comm.Barrier()
    ring.free()


@on_ranks(1, 2)
def test_frames_stored_at_once_are_as_stored_one_by_one(comm):
    """Walkers mixed, more frames of a walker than its slots, and a topology smaller than the largest."""
    n_atoms, n_slots, n = 7, 3, 5
    rings = [CoordinateRing(comm, [0], [[0, 4]], n_atoms, 2 * n_slots * slot_nbytes(n_atoms)) for _ in range(2)]
    rng = np.random.default_rng(1)
    found = []
    for walkers in ([4], [0, 4, 4, 0], [4, 0, 4, 4, 4, 4, 4], [0] * 9):
        x, v, box = (rng.normal(size=(len(walkers), m, 3)).astype(np.float32) for m in (n, n, 3))
        if comm.rank == 0:
            single = [rings[0].store(*each) for each in zip(walkers, x, v, box, strict=True)]
            several = np.transpose(rings[1].store_all(np.array(walkers), x, v, box))
            assert several.tolist() == [list(place) for place in single]
            found += single
    for slot, generation in comm.bcast(found):
        one, other = (ring.fetch(0, slot, generation, n) for ring in rings)
        assert (one is None) == (other is None)
        if one is not None:
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert sum(rings[1].fetch(0, *place, n) is not None for place in set(comm.bcast(found))) == 2 * n_slots
    comm.Barrier()
    for ring in rings:
        ring.free()


@on_ranks(2, 4)
def test_rings_that_do_not_fit_are_refused_by_all(comm):
    """A ring without room for two frames, and more memory than the node has, are errors on every rank."""
    for n_atoms, nbytes, cure in ((1000, 30_000, "set aggregation.ring_mb to at least"), (10**6, 2**50, "lower")):
        with pytest.raises(LayoutError, match=cure):
            CoordinateRing(comm, [0], [[0]], n_atoms, nbytes)


@on_ranks(3)
def test_self_test_finds_windows_that_work(comm):
    found = {name: ok for name, ok, _ in self_test(comm)}
    assert found["mailboxes"]
    assert found["rings"]


@on_ranks(2, 4)
def test_hammered_mailboxes_are_never_torn_and_the_newest_wins(comm):
    hammer_mailboxes(comm, 120_000)


@on_ranks(2, 4)
def test_hammered_rings_give_the_whole_frame_asked_for_or_none(comm):
    hammer_ring(comm, *((20_000, 40) if comm.size == 2 else (4_000, 2_000)))


@on_ranks(3, seconds=400, OMPI_MCA_osc="rdma")
def test_mailboxes_that_are_not_in_shared_memory(comm):
    """Open MPI's component for several nodes; MPICH knows only one kind and runs the same again."""
    hammer_mailboxes(comm, 10_000)


@on_ranks(3, seconds=400, OMPI_MCA_osc="rdma")
def test_rings_that_are_not_in_shared_memory(comm):
    hammer_ring(comm, 1_000, 2_000)


def command(d):
    """The command of a decision: every field is a function of it."""
    return RestartCommand(1, d, d * 0.5, 3 * d, d ^ 0x5555, -d, d << 20, d * d, d % 7, d + 1, ~d, d * 0x9E3779B1)


def hammer_mailboxes(comm, n_commands):
    """The last rank sends commands as fast as it can while all the others poll every mailbox."""
    n_readers = comm.size - 1
    n_walkers = 2 * n_readers
    mailboxes = Mailboxes.on(comm, [w % n_readers for w in range(n_walkers)])
    if comm.rank == n_readers:
        for d in range(1, n_commands + 1):
            mailboxes.send(d % n_walkers, command(d))
    else:
        poll_until_the_last(mailboxes, n_walkers, n_commands)
    mailboxes.free()


def poll_until_the_last(mailboxes, n_walkers, n_commands):
    """Poll until the last command of every walker is there: each whole, of its walker, and newer than those before."""
    walkers = range(n_walkers)
    last = [max(d for d in range(n_commands - n_walkers + 1, n_commands + 1) if d % n_walkers == w) for w in walkers]
    seen = [0] * n_walkers
    while seen != last:
        for w in walkers:
            new = mailboxes.poll(w)
            if new is None:
                continue
            assert new == command(new.decision), f"torn: {new}"
            assert new.decision % n_walkers == w, f"walker {w} got {new}"
            assert new.decision > seen[w], f"decision {new.decision} after {seen[w]}"
            seen[w] = new.decision


#: Slots of each of the walkers of the ring that is hammered.
N_SLOTS, WALKERS = 2, (0, 1)


def hammer_ring(comm, n_frames, n_atoms):
    """Rank 0 overwrites a small ring as fast as it can while all the others fetch from it."""
    ring = CoordinateRing(comm, [0], [WALKERS], n_atoms, len(WALKERS) * N_SLOTS * slot_nbytes(n_atoms))
    newest = Registers(comm, [0], np.dtype([("slot", "<i8"), ("generation", "<i8"), ("stop", "<i8")]))
    if comm.rank == 0:
        store(ring, newest, n_frames, n_atoms)
    else:
        fetch_until_the_last(ring, newest)
    comm.Barrier()
    if comm.rank > 0:
        check_at_rest(ring, n_frames)
    newest.free()
    ring.free()


def value(slot, generation):
    """All values of a frame are one function of its slot and generation."""
    return np.float32(slot + 8 * generation)


def store(ring, newest, n_frames, n_atoms):
    """Write frames and announce each."""
    for k in range(n_frames):
        walker = k % len(WALKERS)
        lap, slot_of_walker = divmod(k // len(WALKERS), N_SLOTS)
        slot, generation = walker * N_SLOTS + slot_of_walker, lap + 1
        x = np.full((n_atoms, 3), value(slot, generation))
        assert ring.store(walker, x, -x, x[:3] + 1) == (slot, generation)
        newest.put(0, (slot, generation, k == n_frames - 1))


def fetch_until_the_last(ring, newest):
    """Fetch what is announced, what has been announced before and what is not yet."""
    known, stop = [(0, 1)], False
    while not stop:
        slot, generation, stop = newest.get(0)[1].tolist()
        known = [*known[-5:], (slot, generation)]
        for asked in (known[-1], random.choice(known), (slot, generation + 1)):
            is_there(ring, *asked)


def check_at_rest(ring, n_frames):
    """Every slot has its newest frame, and no other."""
    last = n_frames // len(WALKERS) // N_SLOTS
    for slot in range(N_SLOTS * len(WALKERS)):
        assert is_there(ring, slot, last), "the newest frame of a slot at rest was refused"
        assert not any(is_there(ring, slot, g) for g in (last - 1, last + 1)), "a stale frame was not refused"


def is_there(ring, slot, generation):
    """Fetch: whole and of that generation, or refused."""
    fetched = ring.fetch(0, slot, generation)
    if fetched is None:
        return False
    positions, velocities, box = fetched
    expected = value(slot, generation)
    assert (positions == expected).all(), f"torn positions of slot {slot}, generation {generation}"
    assert (velocities == -expected).all(), f"torn velocities of slot {slot}, generation {generation}"
    assert (box == expected + 1).all(), f"torn box of slot {slot}, generation {generation}"
    return True
