"""The whole loop without molecular dynamics: frames and times are emulated, everything else is real."""

import json

import pytest

from ddmd_mpi.analysis import open_run

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

EMULATED = (
    "simulation.engine=emulated",
    "emulation.report_seconds=0.2",
    "simulation.report_interval_ps=4",
    "simulation.segment_ps=40",
    "steering.round_reports=5",
    "run.drain=60",
)


def finished(done, directory, reports):
    """The summary of a run whose walkers all came to their end, after so many reports, however late they started."""
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((directory / "summary.json").read_text())
    assert (summary["completed"], summary["stop_reason"]) == (True, "all simulations ended")
    assert summary["simulation"]["frames"] == reports * summary["simulation"]["walkers"]
    assert summary["aggregation"]["frames_archived"] == summary["simulation"]["frames"]
    assert summary["streams"]["dropped_by_hop"]["SimulationOutput"] == 0
    assert summary["steering"]["delivered"] >= 1
    assert "emulated molecular dynamics" in summary["note"]
    assert all(sentence in done.stdout for sentence in summary["note"].split("; "))
    assert open_run(directory).contradictions() == []
    return summary


def test_four_ranks_with_a_model_whose_rounds_are_stretched(ddmd_mpi, tmp_path):
    done = ddmd_mpi(
        4,
        "--usecase",
        "bba-go",
        "--duration",
        "150s",
        "--output",
        tmp_path / "run",
        sets=(
            *EMULATED,
            "training.model=pca",
            "training.first_frames=48",
            "simulation.walkers_per_rank=12",
            "simulation.walker_length_ns=0.4",
            "emulation.training_seconds=1",
            "emulation.inference_seconds=0.3",
        ),
    )
    summary = finished(done, tmp_path / "run", reports=100)
    assert summary["training"]["versions"] >= 1
    for role, stage, seconds in (("training", "train_round", 1.0), ("inference", "inference_round", 0.3)):
        (file,) = (tmp_path / "run" / "events").glob(f"{role}-*.jsonl")
        spans = [e for e in map(json.loads, file.read_text().splitlines()) if e["name"] == stage]
        assert len(spans) > 1
        assert all(e["end"] - e["start"] >= seconds for e in spans[:-1])  # the end may cut the last one short
    assert 0.5 < summary["roles"]["simulation"]["mean_s"] <= 2.0, "a segment is ten reports of 0.2 s, or was left"
    streams = summary["streams"]
    assert streams["bytes"] == sum(streams["bytes_by_hop"].values())
    assert all(streams["bytes_by_hop"].values())
    assert all(0 < share < 1 for share in streams["io_fraction"].values())


def test_twenty_four_ranks_on_this_machine(ddmd_mpi, tmp_path):
    done = ddmd_mpi(
        24,
        "--usecase",
        "bba-go",
        "--duration",
        "200s",
        "--output",
        tmp_path / "run",
        sets=(
            *EMULATED,
            "training.model=none",
            "steering.strategy=greedy",
            "simulation.walkers_per_rank=3",
            "simulation.walker_length_ns=0.16",
            "emulation.jitter=0.2",
            "aggregation.ring_mb=4",
        ),
    )
    summary = finished(done, tmp_path / "run", reports=40)
    assert summary["ranks"] == {"simulation": 20, "aggregation": 2, "training": 1, "inference": 1}
    assert summary["simulation"]["walkers"] == 60
