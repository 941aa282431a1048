"""What a killed run has left half written is cleared away, and nothing else."""

import json

import numpy as np
import pytest

from ddmd_mpi import resume
from ddmd_mpi.errors import RunDirectoryError
from ddmd_mpi.model.versions import Versions
from ddmd_mpi.rundir import disk
from ddmd_mpi.rundir.disk import read_lines, write_durably, write_json

WHOLE = (
    "config.toml",
    "environment.json",
    "models/v000001/metadata.json",
    "checkpoints/manifest-000001.json",
    "frames/agg-00.bp/md.idx",
    "trajectories/sim-0000.dcd",
    "segments/iteration-0001/sim-0000.h5",
    "failures/sim-0000-0001.npz",
    "my.own.notes.7",
    ".gitignore",
)
STALE = (
    ".status.json.4711",
    ".config.toml.12",
    "checkpoints/.manifest-000002.json.4711",
    "models/.v000002.4711/weights.npz",
    "segments/iteration-0002/.sim-0000.h5.4711",
    "topology/.a.json.3",
    "failures/.sim-0000-0002.npz.4711",
    "streams/SimulationOutput-0000.sst",
    "streams/AggregatorToInference-0003-from-3-to-5.bp/md.idx",
)


@pytest.fixture
def directory(tmp_path):
    run = tmp_path / "run"
    for name in (*WHOLE, *STALE):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("{}\n")
    return run


def test_a_run_that_goes_on_finds_nothing_half_written(directory):
    (directory / "decisions.jsonl").write_text('{"decision": 0}\n{"decisi')
    assert resume.reopen(directory) == 1
    assert [name for name in STALE if (directory / name).exists()] == []
    assert [name for name in WHOLE if not (directory / name).exists()] == []
    assert list((directory / "streams").iterdir()) == []
    assert read_lines(directory / "decisions.jsonl") == [{"decision": 0}]


def test_a_directory_that_cannot_be_written_is_refused_and_counts_no_session(directory, limited):
    with limited(0), pytest.raises(RunDirectoryError, match="cannot resume in .*: File too large"):
        resume.reopen(directory)
    assert list(directory.glob("environment.0*")) == []
    assert resume.reopen(directory) == 1


def save(directory, version, loss):
    path = directory / f"v{version:06d}"
    path.mkdir(parents=True)
    np.savez(path / "weights.npz", np.arange(1000.0))
    (path / "metadata.json").write_text(json.dumps({"version": version, "validation_loss": loss}))
    return path


@pytest.mark.parametrize("harm", ["metadata cut", "metadata gone", "weights cut", "weights gone", "empty"])
def test_the_last_whole_version_of_the_model_counts_and_a_torn_one_gets_out_of_the_way(tmp_path, harm):
    save(tmp_path, 1, 0.5)
    torn = save(tmp_path, 2, 0.4)
    name = "weights.npz" if "weights" in harm else "metadata.json"
    if "cut" in harm:
        (torn / name).write_bytes((torn / name).read_bytes()[:-20])
    else:
        (torn / name).unlink()
    if harm == "empty":
        (torn / "weights.npz").unlink()
    assert Versions(tmp_path, "all").newest == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v000001"]


def test_a_temporary_file_of_a_process_of_the_same_number_is_written_over(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.os, "getpid", lambda: 4711)
    (tmp_path / ".summary.json.4711").write_text("half a summ")
    write_json(tmp_path / "summary.json", {"a": 1})
    write_durably(tmp_path / "part.npz", b"1234")
    assert json.loads((tmp_path / "summary.json").read_text()) == {"a": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.npz", "summary.json"]
