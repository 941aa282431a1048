"""Program of 2 or more ranks: rank 0 reads a stream from every other rank to its end, and answers on one of its own."""

import sys
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

from ddmd_mpi.config import StreamsSection
from ddmd_mpi.streams.network import Network
from ddmd_mpi.streams.stream import END

N = 200


def payload(rank: int, index: int) -> np.ndarray:
    """A payload whose length and bytes tell where it comes from."""
    return np.random.default_rng((rank, index)).integers(0, 256, 1 + (17 * index) % 3000, np.uint8)


def read(network: Network, comm: MPI.Comm) -> None:
    readers = network.readers([(f"SimulationOutput-{rank}", rank) for rank in range(1, comm.size)], first_hop=True)
    answers = [network.writer("TrainingToInference", rank) for rank in range(1, comm.size)]
    seen = [0] * len(readers)
    open_ends = set(range(len(readers)))
    while open_ends:
        for i in tuple(open_ends):
            got = readers[i].poll()
            if got is END:
                open_ends.discard(i)
            elif got is not None:
                assert np.array_equal(got, payload(i + 1, seen[i])), (i, seen[i])
                seen[i] += 1
        time.sleep(0.0005)
    assert seen == [N] * len(readers), seen
    assert all(reader.complete and reader.poll() is END for reader in readers)
    for rank, writer in enumerate(answers, 1):
        writer.write(payload(0, rank))
        writer.close()


def write(network: Network, comm: MPI.Comm) -> None:
    writer = network.writer(f"SimulationOutput-{comm.rank}", 0, first_hop=True)
    reader = network.reader("TrainingToInference", 0)
    for index in range(N):
        writer.write(payload(comm.rank, index))
    writer.close()
    assert writer.n_written == N
    while (got := reader.poll()) is None:
        time.sleep(0.001)
    assert np.array_equal(got, payload(0, comm.rank))
    while (got := reader.poll()) is None:
        time.sleep(0.001)
    assert got is END


def main() -> None:
    engine, first_hop, directory = sys.argv[1:4]
    comm = MPI.COMM_WORLD
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED)
    start = time.perf_counter()
    with Network(comm, node_comm, StreamsSection(engine=engine, first_hop=first_hop), Path(directory)) as network:
        (read if comm.rank == 0 else write)(network, comm)
        print("read", comm.rank, time.perf_counter() - start, file=sys.stderr)
    print("freed", comm.rank, time.perf_counter() - start, file=sys.stderr)
    comm.Barrier()
    if comm.rank == 0:
        print("ok")


main()
