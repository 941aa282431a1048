"""Errors that one rank meets at the start while the others wait for it inside MPI: one sentence, and nobody hangs."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(120)]
INJECTED = Path(__file__).with_name("injected.py")
OPTIONS = ("--usecase", "bba-go", "--set", "training.model=none", "--set", "steering.strategy=greedy")


def refused(mpiexec, fault, directory, **environment):
    """What a job that is refused says, without what the launcher adds."""
    done = mpiexec(4, INJECTED, fault, *OPTIONS, "--output", directory, check=False, timeout=60, **environment)
    assert done.returncode == 2, done.stderr
    assert not directory.exists()
    return [line for line in done.stderr.splitlines() if "ddmd-mpi: " in line]


def test_a_window_that_mpi_allocates_on_all_ranks_but_one(mpiexec, tmp_path):
    (said,) = refused(mpiexec, "window", tmp_path / "run")
    assert "cannot allocate" in said
    assert "mailboxes and records" in said
    assert "enlarge the shared memory" in said


def test_hosts_of_which_some_no_longer_wait_for_the_last_one(mpiexec, tmp_path):
    (said,) = refused(mpiexec, "late", tmp_path / "run", DDMD_MPI_RANKS_PER_NODE="2")
    assert "the other hosts" in said
