"""Registers, mailboxes and rings under the installed MPI."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi
HERE = Path(__file__).parent


@pytest.mark.parametrize("n", [1, 2, 4])
def test_windows_do_what_they_say(mpiexec, n):
    assert "tests passed" in mpiexec(n, HERE / "windows_semantics.py").stdout


@pytest.mark.parametrize("n", [2, 3, 4])
def test_hammered_mailboxes_are_never_torn_and_the_newest_wins(mpiexec, n):
    assert "none torn" in mpiexec(n, HERE / "mailbox_hammer.py", 120_000).stdout


@pytest.mark.parametrize(("n", "n_frames", "n_atoms"), [(2, 20_000, 40), (3, 4_000, 2_000), (4, 4_000, 2_000)])
def test_hammered_rings_give_the_whole_frame_asked_for_or_none(mpiexec, n, n_frames, n_atoms):
    assert "every stale one refused" in mpiexec(n, HERE / "ring_hammer.py", n_frames, n_atoms).stdout


def test_windows_that_are_not_shared_memory(mpiexec):
    """Open MPI's component for several nodes; MPICH knows only one kind and runs the same again."""
    between_nodes = {"OMPI_MCA_osc": "rdma"}
    assert "none torn" in mpiexec(3, HERE / "mailbox_hammer.py", 20_000, **between_nodes).stdout
    assert "none torn" in mpiexec(3, HERE / "ring_hammer.py", 2_000, 2_000, **between_nodes).stdout
