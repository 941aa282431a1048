"""Other shapes of the loop: more ranks, other transports, early stops, failing walkers, equal seeds."""

import json

import numpy as np
import pytest

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

GO = ("training.model=none", "simulation.report_interval_ps=2", "simulation.segment_ps=20")


def read_summary(directory):
    return json.loads((directory / "summary.json").read_text())


def test_six_ranks_by_mpi_messages_stop_at_the_target(ddmd_mpi, tmp_path):
    done = ddmd_mpi(
        6,
        "--usecase",
        "bba-go",
        "--duration",
        "60s",
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
    assert summary["wall_s"] < 60


def test_eight_ranks_two_aggregators_over_files(ddmd_mpi, tmp_path):
    done = ddmd_mpi(
        8,
        "--usecase",
        "bba-go",
        "--duration",
        "20s",
        "--output",
        tmp_path / "run",
        sets=(*GO, "steering.strategy=random", "streams.engine=BP5", "ranks.aggregation=2"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = read_summary(tmp_path / "run")
    assert summary["completed"] is True
    assert summary["ranks"] == {"simulation": 4, "aggregation": 2, "training": 1, "inference": 1}
    assert summary["steering"]["delivered"] >= 1
    assert summary["aggregation"]["frames_archived"] == summary["simulation"]["frames"] > 0
    assert len(list((tmp_path / "run" / "frames").glob("agg-*.bp"))) == 2
    assert "steering, not BBA's biophysics" in done.stdout


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
            "10s",
            "--seed",
            seed,
            "--output",
            tmp_path / name,
            sets=(*GO, "steering.strategy=none"),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        path = tmp_path / name / "trajectories" / "sim-0002.frames.csv"
        coordinates.append(np.genfromtxt(path, delimiter=",", names=True)["rmsd_angstrom"])
    n = min(map(len, coordinates))
    assert n >= 5
    np.testing.assert_array_equal(coordinates[0][:n], coordinates[1][:n])
    assert not np.array_equal(coordinates[0][1:n], coordinates[2][1:n])
