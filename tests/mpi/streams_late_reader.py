"""Program of 2 ranks: the writer frees its network before the reader looks at the stream for the first time.

Arguments: FIRST_HOP DIRECTORY
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
from ddmd_mpi.streams.stream import END

FREE_TAG, READ_TAG = 1, 2


def main():
    network_module.CLOSE_SECONDS = 0.5
    first_hop, directory = sys.argv[1:]
    comm = MPI.COMM_WORLD
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED)
    network = Network(comm, node_comm, StreamsSection(first_hop=first_hop), Path(directory))
    if comm.rank == 0:
        writer = network.writer("SimulationOutput-0", 1, first_hop=True)
        for index in range(5):
            writer.write(np.full(1_000_000, index, np.uint8))
        network.free()
        comm.send(None, dest=1, tag=FREE_TAG)
        comm.recv(source=1, tag=READ_TAG)
        return
    reader, read = network.reader("SimulationOutput-0", 0, first_hop=True), []
    comm.recv(source=0, tag=FREE_TAG)
    while (got := reader.poll()) is not END:
        read.extend([got[-1]] if got is not None else [])
        time.sleep(0.001)
    assert reader.complete
    assert read == [0, 1, 2, 3, 4]
    network.free()
    comm.send(None, dest=0, tag=READ_TAG)
    sys.stdout.write("read after all\n")


def abort(*error):
    """End all ranks when one fails."""
    traceback.print_exception(*error)
    MPI.COMM_WORLD.Abort(1)


if __name__ == "__main__":
    sys.excepthook = abort
    faulthandler.dump_traceback_later(50)  # says where a rank waits, before the test gives up
    main()
    faulthandler.cancel_dump_traceback_later()
