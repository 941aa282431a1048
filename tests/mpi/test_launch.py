"""The start of an MPI program."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi
HERE = Path(__file__).parent


@pytest.mark.parametrize(("n", "gpus"), [(1, "none"), (3, "none"), (4, "none"), (4, "shared"), (6, "bound")])
def test_all_ranks_know_the_world_and_agree(mpiexec, n, gpus):
    out = mpiexec(n, HERE / "launch_program.py", gpus).stdout
    assert sorted(out.split()[1::4]) == [str(rank) for rank in range(n)]


def test_self_test_finds_windows_that_work(mpiexec):
    out = mpiexec(3, HERE / "self_test.py").stdout
    assert "mailboxes True" in out
    assert "rings True" in out


def test_an_exit_code_comes_through(mpiexec):
    assert mpiexec(2, HERE / "leave.py", 0, check=False).returncode == 0
    assert mpiexec(2, HERE / "leave.py", 2, check=False).returncode == 2
