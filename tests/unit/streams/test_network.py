"""How streams are opened, with a communicator that needs no MPI."""

import pytest

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.errors import LostRankError
from ddmd_mpi.streams.network import CONTACT_TAG, Network

N_STREAMS = 5


class Writers:
    """The communicator of a reader whose writers come one after the other, one at each look who is lost."""

    def __init__(self, lost=()):
        self.n_looks, self.n_probes, self.lost = 0, 0, lost

    def Dup(self):  # noqa: N802
        return self

    def Set_name(self, name): ...  # noqa: N802

    def Get_rank(self):  # noqa: N802
        return 0

    def allgather(self, value):
        return [value]

    def isend(self, value, dest, tag):
        return self

    def Irecv(self, buffer, source, tag):  # noqa: N802
        return self

    def Test(self):  # noqa: N802
        return False

    def Cancel(self): ...  # noqa: N802

    def test(self):
        return True, None

    def iprobe(self, source, tag):
        self.n_probes += 1
        return tag == CONTACT_TAG and source <= self.n_looks

    def recv(self, source, tag):
        return {"name": f"SimulationOutput-{source}", "contact": 7}

    def watch(self):
        self.n_looks += 1
        return self.lost


def network(comm, directory):
    return Network(comm, comm, StreamsSection(engine="BP5", first_hop="mpi"), directory, lost=comm.watch)


STREAMS = [(f"SimulationOutput-{rank}", rank) for rank in range(1, N_STREAMS + 1)]


def test_while_streams_open_lost_ranks_are_looked_for_once_a_pass_not_once_a_stream(tmp_path):
    comm = Writers()
    assert len(network(comm, tmp_path).readers(STREAMS, first_hop=True)) == N_STREAMS
    assert comm.n_looks == N_STREAMS  # a pass for each, as they come
    assert comm.n_probes == sum(range(1, N_STREAMS + 1))


def test_a_writer_that_is_lost_before_its_stream_is_open_ends_the_run(tmp_path):
    with pytest.raises(LostRankError, match="rank 3 was lost"):
        network(Writers(lost={3}), tmp_path).readers(STREAMS, first_hop=True)
