"""The control plane over hosts: what tests/mpi/plane_ranks.py holds, with a network between the nodes."""

import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent / "mpi" / "plane_ranks.py"


@pytest.mark.parametrize(("n_hosts", "per_host", "n_aggregators"), [(2, 3, 1), (3, 3, 3)])
def test_nobody_waits_for_another_host(box, n_hosts, per_host, n_aggregators):
    hosts = box.hosts[:n_hosts]
    done = box.run(hosts, per_host, sys.executable, "-m", "mpi4py", PROGRAM, per_host, n_aggregators)
    assert f"6 tests passed on {n_hosts} nodes" in done.out
    assert min(done.n_bytes[host] for host in hosts) > 1_000_000, "frames of 720 kB were to cross"
