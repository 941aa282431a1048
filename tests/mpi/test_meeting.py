"""What ranks in stages have in place of windows."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi
HERE = Path(__file__).parent


@pytest.mark.parametrize("n", [1, 2, 4])
def test_records_by_messages_and_ranks_that_wait(mpiexec, n):
    assert "board and meeting passed" in mpiexec(n, HERE / "meeting.py").stdout
