"""Two ranks on each of two hosts: which address is published, whether a stream passes, and what is refused.

Arguments: DIRECTORY INTERFACE ... (those that are refused)
"""

import os
import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.errors import StreamError
from ddmd_mpi.streams.addresses import agree_on_address, self_test
from ddmd_mpi.streams.network import Network
from ddmd_mpi.streams.stream import END
from ddmd_mpi.streams.waiting import wait_until


def refusal(comm, node_comm, interface):
    """What all ranks are told of an interface."""
    try:
        return agree_on_address(comm, node_comm, interface)
    except StreamError as error:
        return str(error)


def pass_on(comm, network):
    """Whether a payload gets from the first host to the second."""
    payload, got = np.arange(100, dtype=np.uint8), []
    if comm.rank == 0:
        writer = network.writer("SimulationOutput-0", comm.size - 1)
        writer.write(payload)
        writer.close()
    if comm.rank == comm.size - 1:
        reader = network.reader("SimulationOutput-0", 0)
        wait_until(lambda: got.append(reader.poll()) or got[-1] is END, 60, "the end of the stream")
    arrived = [one for one in got if isinstance(one, np.ndarray)]
    return len(arrived) == 1 and np.array_equal(arrived[0], payload)


def main():
    comm = MPI.COMM_WORLD
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED)
    for interface in sys.argv[2:]:
        told = comm.allgather(refusal(comm, node_comm, interface))
        if comm.rank == 0:
            sys.stdout.write(f"{interface}: {told[0] if len(set(told)) == 1 else told}\n")
    found = self_test(comm, node_comm, None)
    with Network(comm, node_comm, StreamsSection(), Path(sys.argv[1])) as network:
        passed = comm.allgather(pass_on(comm, network))[-1]
    published = comm.allgather(os.environ["ADIOS2_IP"])
    if comm.rank == 0:
        sys.stdout.write(f"check: {found}\npublished: {' '.join(published)}\npassed: {passed}\n")


def abort(*error):
    """End all ranks when one fails."""
    sys.__excepthook__(*error)
    MPI.COMM_WORLD.Abort(1)


if __name__ == "__main__":
    sys.excepthook = abort
    main()
