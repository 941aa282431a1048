"""The control plane over hosts: what tests/mpi/test_plane.py holds, with a network between the nodes."""

import json
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent / "mpi"
sys.path.append(str(TESTS))
import test_plane  # noqa: E402


@pytest.mark.parametrize(("n_hosts", "per_host", "n_aggregators"), [(2, 3, 1), (3, 3, 3)])
def test_nobody_waits_for_another_host(box, tmp_path, n_hosts, per_host, n_aggregators):
    names = [name for name in vars(test_plane) if name.startswith("test_")]
    call = {
        "seconds": 100,
        "parameters": {"per_node": per_host, "n_aggregators": n_aggregators},
    }
    (tmp_path / "calls.json").write_text(json.dumps([{**call, "name": name, "function": name} for name in names]))
    hosts = box.hosts[:n_hosts]
    runner = (TESTS / "run_functions.py", TESTS / "test_plane.py", tmp_path)
    done = box.run(hosts, per_host, sys.executable, "-m", "mpi4py", *runner, timeout=240)
    assert (tmp_path / "passed").read_text().splitlines() == names
    assert len(names) == 6
    assert min(done.n_bytes[host] for host in hosts) > 1_000_000, "frames of 720 kB were to cross"
