"""Molecular dynamics that explodes: contained, kept for a post-mortem, and not for ever."""

import numpy as np
import pytest
from hurt_jobs import REAL_DYNAMICS, run_to_its_end

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(400)]

EXPLODES = (
    *REAL_DYNAMICS,
    "simulation.timestep_fs=400",
    "simulation.minimize=false",
    "simulation.failures_per_walker=10000",
    "faults.failures_per_run=8",
)


def test_a_run_ends_when_its_molecular_dynamics_fails_again_and_again(tmp_path):
    ended = run_to_its_end(tmp_path / "run", EXPLODES, ("--duration", "100s"))
    assert ended.code == 1, ended.err
    assert ended.err.count("faults.failures_per_run is 8: the run ends") == 1, ended.err
    assert (ended.summary["completed"], ended.summary["stop_reason"]) == (False, "failure")
    assert ended.summary["simulation"]["failures"] > 8
    remains = sorted((ended.directory / "failures").glob("sim-*.npz"))
    assert len(remains) == ended.summary["simulation"]["failures"]
    with np.load(remains[0]) as state:
        assert str(state["error"])
        assert state["positions"].shape == (28, 3)
        assert not np.abs(state["positions"]).max() < 33.0  # nm: far out, or no number at all
