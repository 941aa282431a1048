"""Principal components on several ranks."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("n", [2, 3])
def test_all_ranks_hold_the_components_of_the_frames_of_all(mpiexec, n):
    program = Path(__file__).parent / "pca_ranks.py"
    assert f"the same components on {n} ranks" in mpiexec(n, program, timeout=100).stdout
