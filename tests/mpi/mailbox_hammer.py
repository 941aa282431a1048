"""The last rank sends commands as fast as it can while all the others poll every mailbox.

Usage: mailbox_hammer.py COMMANDS. Every field of a command is a function of its decision id.
"""

import sys

from mpi4py import MPI

from ddmd_mpi.frames.command import RestartCommand
from ddmd_mpi.parallel.mailbox import Mailboxes

comm = MPI.COMM_WORLD
n_commands = int(sys.argv[1])
n_readers = comm.size - 1
n_walkers = 2 * n_readers


def command(d):
    return RestartCommand(1, d, d * 0.5, 3 * d, d ^ 0x5555, -d, d << 20, d * d, d % 7, d + 1, ~d, d * 0x9E3779B1)


def write():
    for d in range(1, n_commands + 1):
        mailboxes.send(d % n_walkers, command(d))


def read():
    """Poll until the last command of every walker is there; returns the number of commands seen."""
    last = [max(d for d in range(n_commands - n_walkers + 1, n_commands + 1) if d % n_walkers == w) for w in walkers]
    seen, count = [0] * n_walkers, 0
    while seen != last:
        for w in walkers:
            new = mailboxes.poll(w)
            if new is None:
                continue
            assert new == command(new.decision), f"torn: {new}"
            assert new.decision % n_walkers == w, f"walker {w} got {new}"
            assert new.decision > seen[w], f"decision {new.decision} after {seen[w]}"
            seen[w] = new.decision
            count += 1
    return count


walkers = range(n_walkers)
mailboxes = Mailboxes.on(comm, [w % n_readers for w in walkers])
result = write() if comm.rank == n_readers else read()
counts = comm.gather(result)
mailboxes.free()
if comm.rank == 0:
    sys.stdout.write(
        f"{n_commands} commands sent, {counts[:-1]} seen, none torn, none out of order, each last one seen\n"
    )
