"""The control plane on one node, and between nodes that ranks pretend to be on."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi
HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("n", "per_node", "n_aggregators", "n_nodes"),
    [(4, 4, 1, 1), (8, 4, 2, 2), (8, 3, 1, 3), (8, 2, 3, 4), (6, 3, 1, 2)],
    ids=["one node", "an aggregator on each node", "nodes without one", "ranks alone on a node", "far training"],
)
def test_records_commands_and_frames_reach_every_node(mpiexec, n, per_node, n_aggregators, n_nodes):
    out = mpiexec(n, HERE / "plane_ranks.py", per_node, n_aggregators).stdout
    assert f"6 tests passed on {n_nodes} nodes" in out
