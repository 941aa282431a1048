"""Streams between ranks."""

import time
from contextlib import contextmanager

import numpy as np
import pytest
from mpi4py import MPI
from on_ranks import on_ranks

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.streams import network as network_module
from ddmd_mpi.streams.network import Network
from ddmd_mpi.streams.outbox import Outbox
from ddmd_mpi.streams.stream import END

FREE_TAG, READ_TAG = 1, 2
N_BLOCKS = 300


@pytest.mark.parametrize(("engine", "first_hop"), [("SST", "adios2"), ("SST", "mpi"), ("BP5", "adios2")])
@on_ranks(4)
def test_every_payload_arrives_in_order_and_the_end_with_it(comm, directory, engine, first_hop):
    round_trip(comm, directory, 200, engine, first_hop)


@on_ranks(2)
def test_stale_files_of_an_earlier_run_do_no_harm(comm, directory):
    if comm.rank == 0:
        for stale in ("SimulationOutput-1.sst", "SimulationOutput-1-to-0.sst", "hub.sst"):
            (directory / stale).write_text("#ADIOS2-SST v0\n0x1:AAAA")
    comm.Barrier()
    for engine in ("SST", "BP5", "BP5"):
        round_trip(comm, directory, 10, engine, "adios2")


@on_ranks(33, seconds=240)
def test_thirty_two_writers_on_one_reader_again_and_again(comm, directory):
    for _ in range(5):
        round_trip(comm, directory, 5, "SST", "adios2")


@contextmanager
def network_of(comm, directory, close_seconds=None, **settings):
    """The streams of some ranks."""
    before = network_module.CLOSE_SECONDS
    network_module.CLOSE_SECONDS = close_seconds or before
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        with Network(comm, node_comm, StreamsSection(**settings), directory) as network:
            yield network
    finally:
        network_module.CLOSE_SECONDS = before
        node_comm.Free()


def round_trip(comm, directory, n, engine, first_hop):
    """Rank 0 reads a stream from every other rank to its end, and answers the first of them."""
    with network_of(comm, directory, engine=engine, first_hop=first_hop) as network:
        (read if comm.rank == 0 else write)(network, comm, n)
    all_free = comm.Ibarrier()
    while not all_free.Test():
        time.sleep(0.005)


def payload(rank, index):
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


@pytest.mark.parametrize("first_hop", ["adios2", "mpi"])
@on_ranks(2)
def test_a_late_reader_holds_nobody_up_and_gets_everything(comm, directory, first_hop):
    """The writer frees its network before the reader looks at the stream for the first time."""
    with network_of(comm, directory, close_seconds=0.5, first_hop=first_hop) as network:
        if comm.rank == 0:
            writer = network.writer("SimulationOutput-0", 1, first_hop=True)
            for index in range(5):
                writer.write(np.full(1_000_000, index, np.uint8))
            network.free()
            comm.send(None, dest=1, tag=FREE_TAG)
            comm.recv(source=1, tag=READ_TAG)
        else:
            reader, received = network.reader("SimulationOutput-0", 0, first_hop=True), []
            comm.recv(source=0, tag=FREE_TAG)
            while (got := reader.poll()) is not END:
                received.extend([got[-1]] if got is not None else [])
                time.sleep(0.001)
            assert reader.complete
            assert received == [0, 1, 2, 3, 4]
            network.free()
            comm.send(None, dest=0, tag=READ_TAG)


@on_ranks(5)
def test_the_streams_of_a_run_open_flow_past_a_stuck_reader_and_end(comm, directory):
    """Inference leaves the aggregator's stream unread from its first block on: nobody else may notice."""
    with network_of(comm, directory, close_seconds=1.0) as network:
        node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED)
        window = MPI.Win.Allocate_shared(8 * comm.size if comm.rank == 0 else 0, 8, comm=node_comm)
        counts = np.frombuffer(window.Shared_query(0)[0], "<i8")
        comm.Barrier()
        role = {comm.size - 3: aggregate, comm.size - 2: train, comm.size - 1: infer}.get(comm.rank, simulate)
        role(network, comm, counts)
    comm.Barrier()
    window.Free()
    node_comm.Free()


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
    for index in range(N_BLOCKS):
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
