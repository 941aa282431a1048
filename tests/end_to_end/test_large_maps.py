"""The use case spike, cut down to seconds: 3375 residues through streams, windows, model and restarts."""

import json

import pytest

from ddmd_mpi.analysis import open_run

pytestmark = [pytest.mark.end_to_end, pytest.mark.alone, pytest.mark.timeout(300)]

SHORT = (
    "simulation.engine=emulated",
    "emulation.report_seconds=0.5",
    "simulation.segment_ps=8",
    "training.filters=2",
    "training.epochs=1",
    "training.first_frames=6",
    "training.window_frames=8",
    "training.batch_size=2",
    "training.dense_units=8",
    "steering.round_reports=2",
    "steering.window_rounds=3",
    "run.drain=60",
    "simulation.walker_length_ns=0.12",
)


def test_huge_maps_are_learnt_and_walkers_restarted_in_little_memory(ddmd_mpi, tmp_path):
    directory = tmp_path / "run"
    done = ddmd_mpi(4, "--usecase", "spike", "--duration", "150s", "--output", directory, sets=SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["completed"]
    assert summary["training"]["versions"] >= 1
    assert summary["steering"]["delivered"] >= 1
    assert summary["streams"]["dropped_blocks"] == 0
    per_frame = summary["streams"]["bytes_by_hop"]["AggregatorToTraining"] / summary["simulation"]["frames"]
    assert per_frame < 3375**2 / 150
    memory = summary["memory"]
    assert 0 < memory["peak_mb_total"] < 6000
    assert 400 < memory["peak_mb_of_a_rank"]["training"] < 2000
    assert "not for spike's biophysics" in summary["note"]
    assert open_run(directory).contradictions() == []
