"""Every example runs on a run directory, and says what its files say."""

import csv
import io
import json
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from synthetic_files import N_RESIDUES, write_model, write_trajectories
from synthetic_run import SyntheticRun

from ddmd_mpi import model
from ddmd_mpi.analysis import features, open_run
from ddmd_mpi.analysis.lineage import ancestry
from ddmd_mpi.analysis.routes import route_to
from ddmd_mpi.config.schema import TrainingSection

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory that holds runs/demo."""
    directory = tmp_path_factory.mktemp("home")
    run = SyntheticRun(n_rounds=6).write(directory / "runs" / "demo")
    random = np.random.default_rng(0)
    write_trajectories(run, random)
    write_model(run / "models", random)
    return directory


def call(name, *arguments, monkeypatch):
    monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def run_cells(name, home, monkeypatch):
    """Run all cells of a notebook; the names that they have defined."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(plt, "show", lambda: None)
    plt.switch_backend("agg")
    names: dict = {}
    for cell in json.loads((EXAMPLES / name).read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), names)
    return names


def test_every_cell_of_the_notebook_runs(home, monkeypatch, capsys):
    names = run_cells("read_run.ipynb", home, monkeypatch)
    plt.close("all")
    summary = json.loads((home / "runs" / "demo" / "summary.json").read_text())
    assert names["best_so_far"][-1] == pytest.approx(summary["science"]["best_rmsd_angstrom"], rel=1e-5)
    assert names["path"][-1].frame == summary["science"]["best_rmsd_source"]["frame"]
    assert f"{len(names['applied'])} applied" in capsys.readouterr().out


def test_every_cell_of_the_notebook_on_populations_runs(home, monkeypatch, capsys):
    names = run_cells("populations.ipynb", home, monkeypatch)
    printed, run, best = capsys.readouterr().out, names["run"], names["best"]
    route = route_to(run, int(best["walker"]), int(best["frame"]))
    for column in ("walker", "frame"):
        np.testing.assert_array_equal(names["route"][column], run.frames[column][route.rows])
    assert sum(names["descendants"].values()) == len(run.frames)
    assert set(names["descendants"]) <= set(run.frames["walker"].tolist())
    assert "Converged" in printed or "Not enough data" in printed
    assert len(plt.gca().containers) == 2, "error bars of two methods"
    plt.close("all")


def test_the_lineage_of_the_best_frame_is_printed(home, monkeypatch, capsys):
    run = home / "runs" / "demo"
    call("lineage.py", run, monkeypatch=monkeypatch)
    printed = capsys.readouterr().out.splitlines()
    best = open_run(run).summary["science"]["best_rmsd_source"]
    path = ancestry(open_run(run).segments, best["walker"], best["frame"])
    applied = sum(d["outcome"] == "applied" for d in open_run(run).decisions)
    assert f"{applied} applied" in printed[0]
    assert printed[2:] == [f"  walker {s.walker}, segment {s.segment}, frame {s.frame}" for s in path]


def test_a_trajectory_is_embedded(home, monkeypatch, capsys):
    run = home / "runs" / "demo"
    call("embed_trajectory.py", run, 1, monkeypatch=monkeypatch)
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    with open(run / "trajectories" / "sim-0001.frames.csv") as file:
        n_frames = len(list(csv.DictReader(file)))
    assert rows[0] == [f"z{i}" for i in range(10)]
    assert len(rows) == 1 + n_frames
    assert np.isfinite(np.array(rows[1:], float)).all()


def test_the_model_finds_what_moves_and_its_weights_travel(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    settings = TrainingSection(model="radial:Radial", options={"dimensions": 1})
    mine, other = (model.create(model.Setup(settings, N_RESIDUES)) for _ in range(2))
    random = np.random.default_rng(0)
    chain = np.cumsum(np.tile([0.38, 0, 0], (N_RESIDUES, 1)), axis=0)
    moves = random.normal(scale=0.3, size=200)
    positions = np.tile(chain, (200, 1, 1)) + random.normal(scale=0.01, size=(200, N_RESIDUES, 3))
    positions[:, -1, 0] += moves
    block = features(positions, 8.0)
    result = mine.train(block, model.Supervisor())
    assert result.accepted
    assert 0 < result.validation_loss < 0.01
    latents = mine.embed(block)[:, 0]
    assert abs(np.corrcoef(latents, moves)[0, 1]) > 0.99
    other.load(mine.weights())
    np.testing.assert_array_equal(other.embed(block)[:, 0], latents)
