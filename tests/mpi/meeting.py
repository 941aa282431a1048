"""Program of 1 or more ranks: status records by messages, and ranks that wait for each other and exchange."""

import sys
import time

import numpy as np
from mpi4py import MPI

from ddmd_mpi.parallel.board import MessageBoard
from ddmd_mpi.parallel.collectives import Meeting

N_POSTS = 300
DTYPE = np.dtype([("rank", "<f8"), ("count", "<f8"), ("numbers", "<f8", (40,))])

comm = MPI.COMM_WORLD
board = MessageBoard(comm, comm.size + 1, DTYPE)  # the last rank has two records
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

waits = []
meeting = Meeting(comm, lambda: waits.append(time.thread_time()))
late = time.monotonic() + 0.4
while comm.rank == comm.size - 1 and time.monotonic() < late:
    pass
started, worked = time.monotonic(), time.thread_time()
gathered = meeting.exchange({"rank": comm.rank})
if comm.rank < comm.size - 1:
    assert time.monotonic() - started > 0.2
    assert time.thread_time() - worked < 0.2, "waiting has burnt a core"
    assert waits
assert gathered == [{"rank": r} for r in range(comm.size)]
assert meeting.tell(("reason", comm.rank)) == ("reason", 0)
if comm.rank == 0:
    sys.stdout.write("board and meeting passed\n")
