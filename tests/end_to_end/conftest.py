"""Whole runs of the program."""

import pytest


@pytest.fixture(scope="session")
def ddmd_mpi(mpiexec):
    """``ddmd_mpi(n, *arguments, sets=())`` runs the program on n ranks; each of `sets` becomes a --set."""

    def run(n, *arguments, sets=(), timeout=240.0):
        options = [text for s in sets for text in ("--set", s)]
        return mpiexec(n, "-m", "ddmd_mpi", *arguments, *options, timeout=timeout, check=False)

    return run
