"""Trained models and trajectories from elsewhere: their words make no code run."""

import sys

import numpy as np
import pytest

from ddmd_mpi import config
from ddmd_mpi.analysis import open_model, read_trajectory
from ddmd_mpi.config.imports import source_of
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import InputError, ModelError
from ddmd_mpi.model import ModelWeights
from ddmd_mpi.model.plugins import GROUP
from ddmd_mpi.prepare import note_own_code

MODULE = """
from pathlib import Path
Path({canary!r}).touch()
class Evil: pass
"""


def version(directory, **metadata):
    settings = TrainingSection(model="pca").plain()
    known = {"settings": settings, "n_residues": 10, "descriptor": ["CA"], "cutoff_angstrom": 8.0}
    return ModelWeights(1, [np.zeros(3)], {**known, **metadata}).save(directory)


def test_a_directory_does_not_import_what_it_names(tmp_path, monkeypatch):
    (tmp_path / "evil_model.py").write_text(MODULE.format(canary=str(tmp_path / "canary")))
    monkeypatch.syspath_prepend(tmp_path)
    settings = {**TrainingSection(model="pca").plain(), "model": "evil_model:Evil"}
    path = version(tmp_path, settings=settings)
    for named in (None, "another:Model"):
        with pytest.raises(ModelError, match=r"wants the code of evil_model:Evil to run: if you trust it"):
            open_model(path, model=named)
    assert "evil_model" not in sys.modules
    assert not (tmp_path / "canary").exists()
    with pytest.raises(ModelError, match="must be a subclass"):
        open_model(path, model="evil_model:Evil")
    assert (tmp_path / "canary").exists(), "who names it has it run"


def test_the_file_of_a_model_is_found_without_running_it(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "model.py"
    path.write_text(MODULE.format(canary=str(tmp_path / "canary")))
    monkeypatch.syspath_prepend(tmp_path)
    assert source_of("mine.model:Evil", GROUP) == path
    assert not (tmp_path / "canary").exists()
    assert [source_of(name, GROUP) for name in ("cvae", "none", "mine.other:Evil", "nowhere:Evil")] == [None] * 4


def test_a_model_that_has_changed_is_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "changing.py").write_text("class Mine: pass")
    monkeypatch.syspath_prepend(tmp_path)
    records, settings = {}, config.load("bba-go", assignments=("training.model=changing:Mine",))
    note_own_code(settings, records)
    note_own_code(settings, records)
    assert capsys.readouterr().err == ""
    (tmp_path / "changing.py").write_text("class Mine: x = 1")
    note_own_code(settings, records)
    assert "training.model changing:Mine" in capsys.readouterr().err


@pytest.mark.parametrize("n", [0, -5, 10**6, 10**30, float("inf")])
def test_a_model_of_absurd_size_is_not_made(tmp_path, n):
    with pytest.raises(ModelError, match="does not say what its model is made from|cannot read the model"):
        open_model(version(tmp_path, n_residues=n))


@pytest.mark.parametrize("name", ["x.h5", "x.hdf5", "x.lh5", "x.pkl", "x.pdb.gz", "x"])
def test_trajectories_that_hold_more_than_numbers_are_not_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"has an unknown format: give one of \.dcd, \.xtc"):
        next(read_trajectory(tmp_path / name, tmp_path / "x.pdb", ["CA"]))
