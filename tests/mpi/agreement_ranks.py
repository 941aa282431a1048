"""The ranks agree on sums, round after round, while one of them is late.

The late rank of a round asks only when every other rank has told it that its own question is still open: a rank that
waited for the late one inside its question would never tell it.
"""

import sys

import numpy as np
from mpi4py import MPI

from ddmd_mpi.parallel.collectives import Agreement

comm = MPI.COMM_WORLD
N_ROUNDS = 60


def said(rank, number):
    """What a rank says in a round: two values whose sum depends on the order of adding up, and one that is exact."""
    return 0.1 * (rank + 1) / (number + 3), (-1) ** rank * 1e9 / (rank + 1), float(rank == number % 5)


def answer(agreement, number):
    """The sums of round `number`. Whatever is said while the question is open does not count."""
    late = number % comm.size
    if comm.rank == late:
        for rank in range(comm.size):
            if rank != late:
                comm.recv(source=rank)
    sums = agreement.ask(*said(comm.rank, number))
    if comm.rank != late:
        assert sums is None, "the sums were there before the late rank had said anything"
        assert agreement.ask(-1e30, -1e30, -1e30) is None
        comm.send("my question is open", dest=late)
    while sums is None:
        sums = agreement.ask(-1e30, -1e30, -1e30)
    return sums


agreement = Agreement(comm)
sums = np.array([answer(agreement, number) for number in range(N_ROUNDS)])
expected = np.array([np.sum([said(rank, number) for rank in range(comm.size)], axis=0) for number in range(N_ROUNDS)])
np.testing.assert_allclose(sums, expected, rtol=1e-12)
everyone = comm.allgather(sums.tobytes())
assert len(set(everyone)) == 1, "the ranks were given different sums"
if comm.rank == 0:
    sys.stdout.write(f"{N_ROUNDS} rounds, the same sums on {comm.size} ranks\n")
