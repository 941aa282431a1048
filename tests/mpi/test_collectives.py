"""What ranks have in place of blocking collectives: records by messages, ranks that wait, sums asked for together."""

import time

import numpy as np
from on_ranks import on_ranks

from ddmd_mpi.parallel.board import MessageBoard
from ddmd_mpi.parallel.collectives import Agreement, Meeting

N_POSTS, N_ROUNDS = 300, 60
DTYPE = np.dtype([("rank", "<f8"), ("count", "<f8"), ("numbers", "<f8", (40,))])


@on_ranks(1, 2, 4)
def test_the_first_rank_sees_the_newest_records_of_all(comm):
    """The last rank has two records."""
    board = MessageBoard(comm, comm.size + 1, DTYPE)
    mine = [comm.rank] + [comm.size] * (comm.rank == comm.size - 1)
    seen = [0] * (comm.size + 1)
    for count in range(1, N_POSTS + 1):
        for index in mine:
            board.put(index, np.array((comm.rank, count, np.full(40, count)), DTYPE))
        for index in range(comm.size + 1) if comm.rank == 0 else ():
            posted, record = board.get(index)
            assert posted >= seen[index]
            assert posted == record["count"]
            assert (record["numbers"] == record["count"]).all()
            seen[index] = posted
    comm.Barrier()
    board.settle()
    if comm.rank == 0:
        newest = [board.get(index) for index in range(comm.size + 1)]
        assert [posted for posted, _ in newest] == [N_POSTS] * (comm.size + 1)
        assert [record["rank"] for _, record in newest] == [*range(comm.size), comm.size - 1]
    comm.Barrier()
    board.put(mine[0], np.zeros((), DTYPE))  # is under way when the board goes
    board.free()


@on_ranks(1, 2, 4)
def test_ranks_that_meet_wait_without_burning_a_core_and_exchange(comm):
    """The last rank comes only when every other one has told it that it waits, and lets them wait on."""
    late, waits = comm.size - 1, []

    def meanwhile():
        if not waits:
            comm.send("waiting", dest=late)
        waits.append(time.thread_time())

    meeting = Meeting(comm, meanwhile)
    if comm.rank == late:
        for rank in range(late):
            comm.recv(source=rank)
        time.sleep(0.4)
        meeting = Meeting(comm)
    worked = time.thread_time()
    gathered = meeting.exchange({"rank": comm.rank})
    assert (len(waits) > 0) == (comm.rank < late)
    assert not waits or waits[-1] - worked < 0.2, "waiting has burnt a core"
    assert gathered == [{"rank": r} for r in range(comm.size)]
    assert meeting.tell(("reason", comm.rank)) == ("reason", 0)


@on_ranks(1, 3, seconds=60)
def test_all_are_given_the_same_sums_in_order_and_nobody_waits_for_the_late_one(comm):
    """The ranks agree on sums, round after round, while one of them is late.

    The late rank of a round asks only when every other rank has told it that its own question is still open: a rank
    that waited for the late one inside its question would never tell it.
    """
    agreement, rounds = Agreement(comm), range(N_ROUNDS)
    sums = np.array([answer(comm, agreement, number) for number in rounds])
    expected = np.array([np.sum([said(rank, number) for rank in range(comm.size)], axis=0) for number in rounds])
    np.testing.assert_allclose(sums, expected, rtol=1e-12)
    assert len(set(comm.allgather(sums.tobytes()))) == 1, "the ranks were given different sums"


def said(rank, number):
    """What a rank says in a round: two values whose sum depends on the order of adding up, and one that is exact."""
    return 0.1 * (rank + 1) / (number + 3), (-1) ** rank * 1e9 / (rank + 1), float(rank == number % 5)


def answer(comm, agreement, number):
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
