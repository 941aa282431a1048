"""Rank 0 overwrites a small ring as fast as it can while all the others fetch from it.

Usage: ring_hammer.py FRAMES ATOMS. All values of a frame are one function of its slot and generation.
"""

import random
import sys

import numpy as np
from mpi4py import MPI

from ddmd_mpi.layout.memory import slot_nbytes
from ddmd_mpi.parallel.register import Registers
from ddmd_mpi.parallel.ring import CoordinateRing

comm = MPI.COMM_WORLD
n_frames, n_atoms = int(sys.argv[1]), int(sys.argv[2])
N_SLOTS, WALKERS = 2, (0, 1)


def value(slot, generation):
    return np.float32(slot + 8 * generation)


def check(slot, generation):
    """Fetch; whole and of that generation, or None."""
    fetched = ring.fetch(0, slot, generation)
    if fetched is None:
        return False
    positions, velocities, box = fetched
    expected = value(slot, generation)
    assert (positions == expected).all(), f"torn positions of slot {slot}, generation {generation}"
    assert (velocities == -expected).all(), f"torn velocities of slot {slot}, generation {generation}"
    assert (box == expected + 1).all(), f"torn box of slot {slot}, generation {generation}"
    return True


def write():
    for k in range(n_frames):
        walker = k % len(WALKERS)
        lap, slot_of_walker = divmod(k // len(WALKERS), N_SLOTS)
        slot, generation = walker * N_SLOTS + slot_of_walker, lap + 1
        x = np.full((n_atoms, 3), value(slot, generation))
        assert ring.store(walker, x, -x, x[:3] + 1) == (slot, generation)
        newest.put(0, (slot, generation, k == n_frames - 1))


def read():
    """Fetch what is announced, what has been announced before and what is not yet; returns (whole, refused)."""
    outcomes, known, stop = [0, 0], [(0, 1)], False
    while not stop:
        slot, generation, stop = newest.get(0)[1].tolist()
        known = [*known[-5:], (slot, generation)]
        for asked in (known[-1], random.choice(known), (slot, generation + 1)):
            outcomes[check(*asked)] += 1
    comm.Barrier()
    last = n_frames // len(WALKERS) // N_SLOTS
    for slot in range(N_SLOTS * len(WALKERS)):
        assert check(slot, last), "the newest frame of a slot at rest was refused"
        assert not any(check(slot, g) for g in (last - 1, last + 1)), "a stale frame was not refused"
    return tuple(outcomes)


ring = CoordinateRing(comm, [0], [WALKERS], n_atoms, len(WALKERS) * N_SLOTS * slot_nbytes(n_atoms))
newest = Registers(comm, [0], np.dtype([("slot", "<i8"), ("generation", "<i8"), ("stop", "<i8")]))
if comm.rank == 0:
    write()
    comm.Barrier()
    result = None
else:
    result = read()
counts = comm.gather(result)
newest.free()
ring.free()
if comm.rank == 0:
    sys.stdout.write(f"{n_frames} frames stored, (refused, whole) {counts[1:]}, none torn, every stale one refused\n")
