"""Sums that ranks ask for together while some of them are late."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi
HERE = Path(__file__).parent


@pytest.mark.parametrize("n", [1, 3])
def test_all_ranks_are_given_the_same_sums_in_order_and_nobody_waits_for_the_late_one(mpiexec, n):
    assert f"the same sums on {n} ranks" in mpiexec(n, HERE / "agreement_ranks.py", timeout=60).stdout
