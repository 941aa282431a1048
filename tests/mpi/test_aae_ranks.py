"""The adversarial autoencoder on several training ranks."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("n", [2])
def test_ranks_train_one_model(mpiexec, n):
    assert "5 tests passed" in mpiexec(n, Path(__file__).parent / "aae_ranks.py").stdout
