"""One real run of the main job on 4 ranks, and everything that it must leave behind."""

import json
import subprocess
import sys

import numpy as np
import pytest

from ddmd_mpi.analysis import open_run
from ddmd_mpi.steering.instant import INSTANT

pytestmark = [pytest.mark.end_to_end, pytest.mark.alone, pytest.mark.timeout(400)]

SECONDS = 75
SMALL = ("training.first_frames=60", "training.epochs=5", "training.retrain_growth=1.2")


@pytest.fixture(scope="module")
def run(ddmd_mpi, tmp_path_factory):
    """The run directory of a steered run of cln025, and what the run printed."""
    directory = tmp_path_factory.mktemp("loop") / "run"
    done = ddmd_mpi(4, "--usecase", "cln025", "--duration", f"{SECONDS}s", "--output", directory, sets=SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory, done.stdout


@pytest.fixture(scope="module")
def summary(run):
    return json.loads((run[0] / "summary.json").read_text())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_loop_closes(summary):
    assert summary["completed"] is True
    assert summary["stop_reason"] == "duration"
    assert summary["steering"]["delivered"] >= 1
    assert summary["steering"]["latency_ms"]["p50"] > 0
    assert summary["training"]["versions"] >= 2
    assert summary["inference"]["rounds"] >= 1
    assert summary["aggregation"]["frames_archived"] == summary["simulation"]["frames"] > 0
    assert summary["streams"]["dropped_blocks"] == 0
    assert summary["ranks"] == {"simulation": 1, "aggregation": 1, "training": 1, "inference": 1}
    assert 0 < summary["science"]["best_rmsd_angstrom"] < 10


def test_every_decision_is_recorded_with_its_fate(run, summary):
    decisions = lines(run[0] / "decisions.jsonl")
    assert sorted(d["decision"] for d in decisions) == list(range(summary["steering"]["decisions"]))
    applied = [d for d in decisions if d["outcome"] == "applied"]
    assert len(applied) == summary["steering"]["delivered"]
    assert sum(d["model"] == INSTANT for d in decisions) == summary["steering"]["instant_decisions"]
    for d in applied:
        assert d["decided"] <= d["delivered"] <= d["first_step"]
        assert (d["model_version"] == 0) == (d["model"] == INSTANT)
        assert d["source"]["rmsd_angstrom"] < d["replaced"]["rmsd_angstrom"]
    sources = [(d["source"]["walker"], d["source"]["frame"]) for d in decisions]
    assert len(set(sources)) == len(sources), "a frame was used twice"


def test_the_lineage_follows_from_the_files_and_fits_the_trajectories(run):
    mdtraj = pytest.importorskip("mdtraj")
    directory = run[0]
    assert open_run(directory).contradictions() == []
    restarted = [s for s in open_run(directory).segments if s.restarted]
    assert restarted
    topology = next((directory / "topology").glob("*.pdb"))
    trajectories = {
        int(p.stem[4:]): mdtraj.load(p, top=topology) for p in (directory / "trajectories").glob("sim-*.dcd")
    }
    for segment in restarted:
        first = trajectories[segment.walker][segment.first_frame]
        source = trajectories[segment.parent.walker][segment.parent.frame]
        assert mdtraj.rmsd(first, source)[0] < 1e-3, segment  # nm
        previous = trajectories[segment.walker][segment.first_frame - 1]
        assert mdtraj.rmsd(first, previous)[0] > 1e-2, "the restart changed nothing"


def test_trajectories_open_in_mdtraj_and_mdanalysis_and_agree_with_their_index(run):
    mdtraj, mdanalysis = pytest.importorskip("mdtraj"), pytest.importorskip("MDAnalysis")
    directory = run[0]
    topology = directory / "topology" / "cln025.pdb"
    target = mdtraj.load(json.loads(json.dumps(str(_target(directory)))))
    for path in sorted((directory / "trajectories").glob("sim-*.dcd")):
        index = np.genfromtxt(path.with_suffix(".frames.csv"), delimiter=",", names=True)
        loaded = mdtraj.load(path, top=topology)
        assert loaded.n_frames == len(index) == len(mdanalysis.Universe(str(topology), str(path)).trajectory)
        alpha = loaded.atom_slice(loaded.topology.select("name CA"))
        np.testing.assert_allclose(10 * mdtraj.rmsd(alpha, target), index["rmsd_angstrom"], atol=0.02)


def _target(directory):
    import tomllib

    return tomllib.loads((directory / "config.toml").read_text())["system"]["target"]


def test_the_archive_holds_every_streamed_frame(run):
    from ddmd_mpi.streams.archive import read_archive

    directory = run[0]
    archived = [
        (int(s), int(f))
        for path in (directory / "frames").glob("*.bp")
        for block in read_archive(path)
        for s, f in zip(block["walker"], block["frame"], strict=True)
    ]
    restart_points = {(s.walker, s.first_frame) for s in open_run(directory).segments if s.restart_point}
    written = {
        (int(path.stem[4:8]), frame)
        for path in (directory / "trajectories").glob("*.frames.csv")
        for frame in range(len(path.read_text().splitlines()) - 1)
    }
    assert len(set(archived)) == len(archived)
    assert set(archived) == written - restart_points


def test_models_are_versioned_and_load(run, summary):
    from ddmd_mpi.model import ModelWeights

    versions = sorted((run[0] / "models").iterdir())
    assert len(versions) == summary["training"]["versions"]
    newest = ModelWeights.read(versions[-1])
    assert newest.version == len(versions)
    assert all(np.isfinite(a).all() for a in newest.arrays)
    assert newest.metadata["validation_loss"] > 0


def test_the_environment_names_every_rank(run):
    environment = json.loads((run[0] / "environment.json").read_text())
    assert [r["rank"] for r in environment["ranks"]] == [0, 1, 2, 3]
    assert {r["role"] for r in environment["ranks"]} == {"simulation", "aggregation", "training", "inference"}
    assert environment["versions"]["openmm"]


def test_simulations_step_before_the_model_is_ready(run):
    spans = [line for path in (run[0] / "events").glob("*.jsonl") for line in lines(path)]
    first_segment = min(s["start"] for s in spans if s["name"] == "segment")
    model_ready = min(s["end"] for s in spans if s["name"] == "start" and s["role"] == "training")
    assert first_segment < model_ready


def test_progress_is_shown_on_one_rank_and_ends_with_a_summary(run):
    directory, output = run
    assert output.count("Completed (duration)") == 1
    assert str(directory) in output
    assert output.count(" left\n") >= 3


def test_report_and_status_read_the_run(run):
    directory = run[0]
    program = [sys.executable, "-m", "ddmd_mpi"]
    shown = subprocess.run([*program, "status", directory, "--once"], capture_output=True, text=True, check=True)
    assert "best RMSD" in shown.stdout
    told = subprocess.run([*program, "status", directory, "--json"], capture_output=True, text=True, check=True)
    state = json.loads(told.stdout)
    assert state["state"] == "ended"
    assert len(state["walkers"]) == state["view"]["walkers"]
    assert state["ns_per_day"] > 0
    subprocess.run([*program, "report", directory], capture_output=True, text=True, check=True)
    assert (directory / "report.html").stat().st_size > 10_000
    assert list((directory / "plots").glob("*.png"))
