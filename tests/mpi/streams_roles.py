"""Program of 4 or more ranks: the streams of a run, opened in the roles' order, with a reader that stops reading.

Inference leaves the aggregator's stream unread from its first block on: nobody else may notice.
Arguments: DIRECTORY
"""

import faulthandler
import sys
import time
import traceback
from pathlib import Path

import numpy as np
from mpi4py import MPI

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.streams import network as network_module
from ddmd_mpi.streams.network import Network
from ddmd_mpi.streams.outbox import Outbox
from ddmd_mpi.streams.stream import END

N = 300


def block(index):
    return np.full(500, index % 256, np.uint8)


def take(reader, n):
    """The next `n` payloads."""
    taken = []
    while len(taken) < n:
        got = reader.poll()
        assert got is not END
        if got is None:
            time.sleep(0.001)
        else:
            taken.append(got)
    return taken


def simulate(network, comm, counts):
    writer = network.writer(f"SimulationOutput-{comm.rank}", comm.size - 3)
    outbox = Outbox(writer, lambda: counts[comm.rank], 4, 64, 64)
    for index in range(N):
        outbox.offer(block(index))
        time.sleep(0.0002)
    outbox.flush(stop=lambda: False)
    writer.close()


def aggregate(network, comm, counts):
    simulations = range(comm.size - 3)
    readers = network.readers([(f"SimulationOutput-{rank}", rank) for rank in simulations])
    training = Outbox(network.writer("AggregatorToTraining-0", comm.size - 2), lambda: counts[comm.size - 2], 4, 64, 64)
    stuck = Outbox(network.writer("AggregatorToInference-0", comm.size - 1), lambda: counts[comm.size - 1], 4, 8, 64)
    open_ends = set(simulations)
    while open_ends:
        for rank in tuple(open_ends):
            got = readers[rank].poll()
            if got is END:
                assert readers[rank].complete
                open_ends.discard(rank)
            elif got is not None:
                counts[rank] += 1
                training.offer(got)
                stuck.offer(got)
        training.pump()
        time.sleep(0.0005)
    training.flush(stop=lambda: False)
    n = sum(counts[: len(simulations)])
    assert training.writer.n_written == n - training.dropped
    assert stuck.writer.n_written == 4
    assert stuck.dropped == n - 4 - 8
    training.writer.close()


def train(network, comm, counts):
    reader, weights = network.reader("AggregatorToTraining-0", comm.size - 3), None
    weights = network.writer("TrainingToInference", comm.size - 1)
    n = 0
    while (got := reader.poll()) is not END:
        n += got is not None
        counts[comm.rank] = n
        time.sleep(0.0005 if got is None else 0)
    assert reader.complete
    weights.write(np.array([n], "<i8").view(np.uint8))


def infer(network, comm, counts):
    network.reader("AggregatorToInference-0", comm.size - 3)
    weights = network.reader("TrainingToInference", comm.size - 2)
    trained = take(weights, 1)[0].view("<i8")[0]
    assert trained == counts[comm.size - 2]


def main():
    network_module.CLOSE_SECONDS = 1.0
    comm = MPI.COMM_WORLD
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED)
    window = MPI.Win.Allocate_shared(8 * comm.size if comm.rank == 0 else 0, 8, comm=node_comm)
    counts = np.frombuffer(window.Shared_query(0)[0], "<i8")
    comm.Barrier()
    role = {comm.size - 3: aggregate, comm.size - 2: train, comm.size - 1: infer}.get(comm.rank, simulate)
    with Network(comm, node_comm, StreamsSection(), Path(sys.argv[1])) as network:
        role(network, comm, counts)
    comm.Barrier()
    if comm.rank == 0:
        sys.stdout.write("every stream ended\n")


def abort(*error):
    """End all ranks when one fails."""
    traceback.print_exception(*error)
    MPI.COMM_WORLD.Abort(1)


if __name__ == "__main__":
    sys.excepthook = abort
    faulthandler.dump_traceback_later(100)  # says where a rank waits, before the test gives up
    main()
    faulthandler.cancel_dump_traceback_later()
