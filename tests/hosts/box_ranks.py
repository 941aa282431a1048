"""One rank on each of two hosts: who is where, what a message costs, and what becomes of it on a slow or a cut link."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

from ddmd_mpi.parallel.launch import launch

SCRIPT = Path(__file__).with_name("box.sh")
MEGABYTE = 1_000_000


def sent() -> int:
    """Bytes that this host has sent over its link."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if "eth0:" in line)
    return int(line.split(":")[1].split()[8])


def pass_on(comm: MPI.Comm, n_bytes: int) -> tuple[int, float]:
    """Send to the other rank and hear that it is there: bytes on the wire, seconds."""
    data, before, clock = np.zeros(n_bytes, np.uint8), sent(), time.monotonic()
    if comm.rank == 0:
        comm.Send(data, 1)
        comm.recv(source=1)
    else:
        comm.Recv(data, 0)
        comm.send(None, 0)
    return sent() - before, time.monotonic() - clock


def box(*words: str) -> None:
    """Tell the box."""
    subprocess.run([SCRIPT, *words], check=True)


def cut_and_mend(comm: MPI.Comm) -> tuple[bool, bool]:
    """Whether a message and its answer pass a link that is cut, and one that is mended."""
    data, answer = np.zeros(MEGABYTE, np.uint8), np.zeros(1, np.uint8)
    if comm.rank == 1:
        comm.Recv(data, 0)
        comm.Send(answer, 0)
        return False, True
    box("cut", "host2")
    requests, deadline = [comm.Irecv(answer, 1), comm.Isend(data, 1)], time.monotonic() + 1.5
    while not (passed := MPI.Request.Testall(requests)) and time.monotonic() < deadline:
        time.sleep(0.01)
    box("mend", "host2")
    MPI.Request.Waitall(requests)
    return passed, True


def main() -> None:
    world = launch()
    comm = world.comm
    pass_on(comm, MEGABYTE)  # connections are made by the first message
    n_bytes, quick = pass_on(comm, 2 * MEGABYTE)
    comm.Barrier()
    if comm.rank == 0:
        box("rate", "host2", "20mbit")
    comm.Barrier()
    _, slow = pass_on(comm, 2 * MEGABYTE)
    comm.Barrier()
    if comm.rank == 0:
        box("rate", "host2", "none")
    comm.Barrier()
    through_a_cut, after_it = cut_and_mend(comm)
    comm.Barrier()
    if comm.rank == 0:
        sys.stdout.write(
            f"hosts={','.join(world.hosts)} nodes={world.nodes} ranks_per_node={world.node_comm.size} "
            f"n_bytes={n_bytes} quick={quick:.4f} slow={slow:.4f} cut={through_a_cut} mended={after_it}\n"
        )


if __name__ == "__main__":
    main()
