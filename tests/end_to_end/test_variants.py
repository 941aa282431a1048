"""Other shapes of the loop: more ranks, other transports, early stops, failing walkers, equal seeds."""

import numpy as np
import pytest
from jobs import restarts, stopped
from jobs import summary as read_summary

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

GO = ("training.model=none", "simulation.report_interval_ps=2", "simulation.segment_ps=20")


def test_six_ranks_by_mpi_messages_stop_at_the_target(ddmd_mpi, tmp_path):
    done = ddmd_mpi(
        6,
        "--usecase",
        "bba-go",
        "--duration",
        "200s",
        "--target-rmsd",
        "6",
        "--output",
        tmp_path / "run",
        sets=(*GO, "steering.strategy=greedy", "streams.first_hop=mpi"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = read_summary(tmp_path / "run")
    assert summary["completed"] is True
    assert summary["stop_reason"] == "target_rmsd"
    assert summary["ranks"]["simulation"] == 3
    assert summary["science"]["best_rmsd_angstrom"] <= 6
    assert summary["wall_s"] < 200


def test_eight_ranks_two_aggregators_over_files(tmp_path):
    run, sets = tmp_path / "run", (*GO, "steering.strategy=random", "streams.engine=BP5", "ranks.aggregation=2")
    printed = stopped(8, run, "--usecase", "bba-go", sets=sets, enough=lambda: restarts(run))
    summary = read_summary(run)
    assert summary["ranks"] == {"simulation": 4, "aggregation": 2, "training": 1, "inference": 1}
    assert summary["steering"]["delivered"] >= 1
    assert summary["aggregation"]["frames_archived"] == summary["simulation"]["frames"] > 0
    assert len(list((run / "frames").glob("agg-*.bp"))) == 2
    assert "steering, not BBA's biophysics" in printed


def test_a_walker_that_blows_up_is_contained(ddmd_mpi, tmp_path):
    done = ddmd_mpi(
        4,
        "--usecase",
        "bba-go",
        "--duration",
        "20s",
        "--output",
        tmp_path / "run",
        sets=(*GO, "steering.strategy=none", "simulation.timestep_fs=125", "simulation.failures_per_walker=5"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = read_summary(tmp_path / "run")
    assert summary["simulation"]["failures"] >= 1
    assert summary["completed"] is True
    events = (tmp_path / "run" / "events" / "simulation-0000.jsonl").read_text()
    assert '"reason": "failure"' in events


def test_equal_seeds_give_equal_trajectories(ddmd_mpi, tmp_path):
    coordinates = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        done = ddmd_mpi(
            4,
            "--usecase",
            "bba-go",
            "--duration",
            "200s",
            "--seed",
            seed,
            "--output",
            tmp_path / name,
            sets=(*GO, "steering.strategy=none", "simulation.walker_length_ns=0.04"),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        path = tmp_path / name / "trajectories" / "sim-0002.frames.csv"
        coordinates.append(np.genfromtxt(path, delimiter=",", names=True)["rmsd_angstrom"])
    assert len(coordinates[0]) > 20
    np.testing.assert_array_equal(coordinates[0], coordinates[1])
    assert not np.array_equal(coordinates[0][1:], coordinates[2][1:])
