"""Registers, mailboxes and rings do what they say, on any number of ranks, in lockstep."""

import sys
import time

import numpy as np
import pytest
from mpi4py import MPI

from ddmd_mpi.errors import LayoutError
from ddmd_mpi.frames.command import Outcome, Receipt, RestartCommand
from ddmd_mpi.layout.memory import slot_nbytes
from ddmd_mpi.parallel.mailbox import Mailboxes
from ddmd_mpi.parallel.register import Registers
from ddmd_mpi.parallel.ring import CoordinateRing

comm = MPI.COMM_WORLD
first, last = 0, comm.size - 1


def registers():
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


def torn():
    """A put that stops half way leaves the record before it, and nobody who saw the newer one is shown that again."""
    held = Registers(comm, [first], np.dtype("<i8"))
    if comm.rank == last:
        held.put(0, 10)
        held.put(0, 20)
    comm.Barrier()
    assert comm.rank == first or held.get(0) == (2, 20)
    comm.Barrier()
    if comm.rank == last:
        start, _, _ = held._copies[0][2 & 1]
        held._put([b"\xff", MPI.BYTE], first, (start + 16, 1, MPI.BYTE))
        held._flush(first)
    comm.Barrier()
    if comm.rank == first:
        assert held.get(0) == (1, 10)
    comm.Barrier()
    if comm.rank == last:
        time.sleep(0.05)
        held.put(0, 30)
    elif comm.rank != first:
        assert held.get(0) == (3, 30)
    comm.Barrier()
    held.free()


def commands():
    """A command is seen once, unchanged; of two the newer; another walker's not at all."""
    mailboxes = Mailboxes.on(comm, [first, first, last])
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


def receipts():
    """Receipts come in order; of more than 4 unread ones the newest 4."""
    mailboxes = Mailboxes.on(comm, [last, first])
    given = [Receipt(d, Outcome.APPLIED, d + 1, 10.0 + d, 20.0 + d) for d in range(8)]
    for start, stop, seen in ((0, 0, []), (0, 2, given[:2]), (2, 8, given[4:])):
        if comm.rank == first:
            for receipt in given[start:stop]:
                mailboxes.answer(1, receipt)
        comm.Barrier()
        assert mailboxes.receipts(1) == seen
        assert mailboxes.receipts(1) == []
        assert mailboxes.receipts(0) == []
        comm.Barrier()
    mailboxes.free()


def rings():
    """Two aggregators keep the newest frames of their walkers, all ranks fetch them, and nobody an older one.

    Walker 1 holds a smaller topology than the others.
    """
    n_atoms, n_slots, atoms_of = 7, 3, (7, 5, 7)
    hosts, walkers_of = ([first, last], [[0, 1], [2]]) if comm.size > 1 else ([0], [[0, 1, 2]])
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


def refusals():
    """A ring without room for two frames, and more memory than the node has, are errors on every rank."""
    for n_atoms, nbytes, cure in ((1000, 30_000, "set aggregation.ring_mb to at least"), (10**6, 2**50, "lower")):
        with pytest.raises(LayoutError, match=cure):
            CoordinateRing(comm, [first], [[0]], n_atoms, nbytes)


tests = [registers, commands, receipts, rings] + ([torn, refusals] if comm.size > 1 else [])
for test in tests:
    test()
comm.Barrier()
if comm.rank == 0:
    sys.stdout.write(f"{len(tests)} tests passed\n")
