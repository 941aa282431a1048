"""A smoke test of the installed MPI's windows, for ``ddmd-mpi check``."""

from __future__ import annotations

import time

import numpy as np
from mpi4py import MPI

from ..errors import LayoutError
from ..frames.command import RestartCommand
from ..layout.memory import slot_nbytes
from .mailbox import Mailboxes
from .ring import CoordinateRing

_N_ATOMS = 100
_N_POLLS = 1000

Finding = tuple[str, bool, str]


def self_test(comm: MPI.Comm) -> list[Finding]:
    """Collective over `comm`: try mailboxes and a ring on its first rank.

    Returns
    -------
    list of (name, ok, detail)
        The same on all ranks.
    """
    version = MPI.Get_library_version().splitlines()[0].split(",")[0].strip()
    findings = [("MPI", True, f"{version}, {comm.size} ranks")]
    for test in (_test_mailboxes, _test_ring):
        try:
            finding = test(comm)
        except (LayoutError, MPI.Exception) as error:
            finding = (test.__name__.removeprefix("_test_"), False, str(error))
        everyone = comm.allgather(finding)
        findings.append(min(everyone, key=lambda f: f[1]))
    return findings


def _test_mailboxes(comm: MPI.Comm) -> Finding:
    """The last rank commands; all see it, and time a poll."""
    mailboxes = Mailboxes.on(comm, [0])
    quiet = mailboxes.poll(0) is None
    comm.Barrier()
    command = RestartCommand(kind=1, decision=7, decided=time.time(), velocity_seed=3)
    if comm.rank == comm.size - 1:
        mailboxes.send(0, command)
    comm.Barrier()
    seen = mailboxes.poll(0)
    arrived = comm.bcast(command, root=comm.size - 1) == seen
    start = time.perf_counter()
    for _ in range(_N_POLLS):
        mailboxes.poll(0)
    microseconds = (time.perf_counter() - start) / _N_POLLS * 1e6
    mailboxes.free()
    return "mailboxes", quiet and arrived, f"a poll takes {microseconds:.1f} us"


def _test_ring(comm: MPI.Comm) -> Finding:
    """The first rank stores three frames in two slots; all fetch the newest two and are refused the oldest."""
    ring = CoordinateRing(comm, [0], [[0]], _N_ATOMS, 3 * slot_nbytes(_N_ATOMS))
    frames = [np.full((_N_ATOMS, 3), k, np.float32) for k in range(ring.slots_per_walker + 1)]
    placed = [ring.store(0, x, x + 0.5, np.eye(3)) for x in frames] if comm.rank == 0 else None
    placed = comm.bcast(placed, root=0)
    fetched = [ring.fetch(0, slot, generation) for slot, generation in placed]
    whole = all(f is not None and (f[1] - f[0] == 0.5).all() for f in fetched[1:])
    comm.Barrier()
    ring.free()
    return "rings", whole and fetched[0] is None, f"{ring.slots_per_walker} slots"
