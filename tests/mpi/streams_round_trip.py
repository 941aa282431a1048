"""Program of 2 or more ranks: rank 0 reads a stream from every other rank to its end, and answers the first of them.

Arguments: ENGINE FIRST_HOP DIRECTORY N_PAYLOADS ROUNDS
"""

import faulthandler
import sys
import time
import traceback
from pathlib import Path

import numpy as np
from mpi4py import MPI

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.streams.network import Network
from ddmd_mpi.streams.stream import END


def payload(rank: int, index: int) -> np.ndarray:
    """A payload whose length and bytes tell where it comes from."""
    return np.random.default_rng((rank, index)).integers(0, 256, 1 + (17 * index) % 3000, np.uint8)


def read(network, comm, n):
    writers = range(1, comm.size)
    readers = network.readers([(f"SimulationOutput-{rank}", rank) for rank in writers], first_hop=True)
    answer = network.writer("TrainingToInference", 1)
    seen, open_ends = dict.fromkeys(writers, 0), set(writers)
    while open_ends:
        for rank in tuple(open_ends):
            got = readers[rank - 1].poll()
            if got is END:
                open_ends.discard(rank)
            elif got is not None:
                assert np.array_equal(got, payload(rank, seen[rank])), (rank, seen[rank])
                seen[rank] += 1
        time.sleep(0.0005)
    assert seen == dict.fromkeys(writers, n), seen
    assert all(reader.complete and reader.poll() is END for reader in readers)
    answer.write(payload(0, 0))
    answer.close()


def write(network, comm, n):
    writer = network.writer(f"SimulationOutput-{comm.rank}", 0, first_hop=True)
    reader = network.reader("TrainingToInference", 0) if comm.rank == 1 else None
    for index in range(n):
        writer.write(payload(comm.rank, index))
    writer.close()
    assert writer.n_written == n
    if reader is not None:
        answers = []
        while (got := reader.poll()) is not END:
            answers.extend([got] if got is not None else [])
            _ = writer.ready  # messages get on when MPI is called
            time.sleep(0.001)
        assert len(answers) == 1
        assert np.array_equal(answers[0], payload(0, 0))
        assert reader.complete


def main():
    engine, first_hop, directory, n, rounds = sys.argv[1:]
    comm = MPI.COMM_WORLD
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED)
    settings = StreamsSection(engine=engine, first_hop=first_hop)
    for _ in range(int(rounds)):
        with Network(comm, node_comm, settings, Path(directory)) as network:
            (read if comm.rank == 0 else write)(network, comm, int(n))
        all_free = comm.Ibarrier()
        while not all_free.Test():
            time.sleep(0.005)
    if comm.rank == 0:
        sys.stdout.write("all payloads arrived\n")


def abort(*error):
    """End all ranks when one fails."""
    traceback.print_exception(*error)
    MPI.COMM_WORLD.Abort(1)


if __name__ == "__main__":
    sys.excepthook = abort
    faulthandler.dump_traceback_later(100)  # says where a rank waits, before the test gives up
    main()
    faulthandler.cancel_dump_traceback_later()
