"""Blocks per second and latency of one stream, SST next to bare MPI messages, in one run of two ranks.

    mpiexec -n 2 python benchmarks/streams.py [--json FILE]

The writer keeps `in_flight` blocks under way, by the consumer's count in shared window memory, as a run does.
*fast*: as many blocks as go through; *paced*: one block a millisecond, what one block alone takes.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from mpi4py import MPI

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.streams.network import Network
from ddmd_mpi.streams.outbox import Outbox

SETTINGS = StreamsSection()
REFERENCE = "MPI Isend/Irecv"
IDLE_SECONDS = 1e-5  # SST works in threads of its own: ranks that spin would take their cores


class BareWriter:
    """The reference: one message a block, nothing else."""

    ready = True

    def __init__(self, comm):
        self._comm, self._sends, self.n_written = comm, [], 0

    def write(self, payload):
        self._sends = [(request, kept) for request, kept in self._sends if not request.Test()]
        self._sends.append((self._comm.Isend(payload, dest=1, tag=7), payload))
        self.n_written += 1


class BareReader:
    """The other end of the reference; blocks of one size."""

    def __init__(self, comm, nbytes):
        self._comm, self._nbytes = comm, nbytes
        self._post()

    def _post(self):
        self._buffer = np.empty(self._nbytes, np.uint8)
        self._request = self._comm.Irecv(self._buffer, source=0, tag=7)

    def poll(self):
        if not self._request.Test():
            return None
        payload = self._buffer
        self._post()
        return payload

    def close(self):
        self._request.Cancel()


def write(writer, consumed, n, nbytes, interval):
    """Write `n` blocks that hold their time of writing, one per `interval` seconds, or as fast as they go."""
    outbox = Outbox(writer, consumed, SETTINGS.in_flight_blocks, 1, 1)
    filling = np.random.default_rng(1).integers(0, 256, nbytes, np.uint8)
    start, first = time.perf_counter(), writer.n_written
    while (k := writer.n_written - first) < n:
        if len(outbox) == 0 and time.perf_counter() >= start + k * interval:
            block = filling.copy()
            block[:8].view("<i8")[0] = time.perf_counter_ns()
            outbox.offer(block)
        else:
            outbox.pump()
            time.sleep(IDLE_SECONDS)


def read(reader, count, n):
    """Seconds of each of `n` blocks from its writing to its reading, and of all of them together."""
    latencies, start = np.empty(n), None
    for k in range(n):
        while (payload := reader.poll()) is None:
            time.sleep(IDLE_SECONDS)
        now = time.perf_counter_ns()
        latencies[k] = (now - payload[:8].view("<i8")[0]) * 1e-9
        start = start or now
        count[0] += 1
    return latencies, (time.perf_counter_ns() - start) * 1e-9


def measure(comm, end, count, nbytes, arguments):
    """One row of the table, on rank 1."""
    row = {"nbytes": nbytes}
    count[0] = 0
    for name, n, interval in (("fast", arguments.blocks, 0), ("paced", arguments.blocks // 8, 0.001)):
        comm.Barrier()
        if comm.rank == 0:
            write(end, lambda: count[0], n, nbytes, interval)
        else:
            latencies, seconds = read(end, count, n)
            p50, p99 = np.percentile(latencies, [50, 99]) * 1e3
            row |= {f"{name}_blocks_per_s": (n - 1) / seconds, f"{name}_p50_ms": p50, f"{name}_p99_ms": p99}
    return row


def rows_of(comm, network, count, arguments):
    """The rows of every size and transport."""
    for nbytes in arguments.nbytes:
        ends = {REFERENCE: BareWriter(comm) if comm.rank == 0 else BareReader(comm, nbytes)}
        for name, first_hop in (("SST", False), ("messages", True)):
            kind = f"SimulationOutput-{name}-{nbytes}"
            ends[name] = network.writer(kind, 1, first_hop) if comm.rank == 0 else network.reader(kind, 0, first_hop)
        for name, end in ends.items():
            yield {"stream": name, **measure(comm, end, count, nbytes, arguments)}
            if comm.rank == 1 or name != REFERENCE:
                end.close()


def table(rows):
    """Text of the rows, with the ratio to the reference of the same size."""
    keys = ("fast_blocks_per_s", "fast_p50_ms", "fast_p99_ms", "paced_p50_ms", "paced_p99_ms")
    lines = [f"{'stream':>16} {'bytes':>8} " + " ".join(f"{key:>18}" for key in keys) + f" {'of ' + REFERENCE:>20}"]
    for row in rows:
        values = " ".join(f"{row[key]:18.3f}" for key in keys)
        lines.append(f"{row['stream']:>16} {row['nbytes']:8d} {values} {row['ratio']:20.3f}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=8000)
    parser.add_argument("--nbytes", type=int, nargs="+", default=[1000, 3000, 100_000])
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.blocks, arguments.nbytes = 80, [3000]
    comm = MPI.COMM_WORLD
    if comm.size != 2:
        sys.exit(f"two ranks are needed, got {comm.size}: mpiexec -n 2 python benchmarks/streams.py")
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED)
    window = MPI.Win.Allocate_shared(8 if comm.rank == 0 else 0, 8, comm=node_comm)
    count = np.frombuffer(window.Shared_query(0)[0], "<i8")
    settings = replace(SETTINGS, first_hop="mpi")
    with tempfile.TemporaryDirectory() as directory, Network(comm, node_comm, settings, Path(directory)) as network:
        rows = list(rows_of(comm, network, count, arguments))
    if comm.rank == 1:
        reference = {row["nbytes"]: row["fast_blocks_per_s"] for row in rows if row["stream"] == REFERENCE}
        rows = [{**row, "ratio": row["fast_blocks_per_s"] / reference[row["nbytes"]]} for row in rows]
        sys.stdout.write(table(rows) + "\n")
        if arguments.json:
            arguments.json.write_text(json.dumps({"blocks": arguments.blocks, "rows": rows}, indent=1))


main()
