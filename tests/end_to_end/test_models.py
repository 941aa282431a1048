"""Whole runs with other models than the default one: principal components, one's own, and one that fails."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from jobs import restarts, stopped, summary

from ddmd_mpi.analysis import open_model
from ddmd_mpi.streams.archive import read_archive

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
QUICK = ("simulation.report_interval_ps=2", "simulation.segment_ps=20", "simulation.walkers_per_rank=4",
         "training.first_frames=100", "steering.instant_model=false")  # fmt: skip

FAILING = """
import numpy as np
from ddmd_mpi.model import Model, Round

class Failing(Model):
    n_latent, architecture = 2, {"model": "failing"}

    def __init__(self, setup):
        pass

    def train(self, block, supervisor):
        return Round(1, len(block), 1.0, 1.0, True)

    def embed(self, block):
        raise RuntimeError("no latents today")

    def weights(self):
        return [np.zeros(1)]

    def load(self, arrays):
        pass
"""


@pytest.fixture
def steer(tmp_path, monkeypatch):
    """A run of bba-go with a model until that is enough: its directory, its summary and what it said."""
    (tmp_path / "slow.py").write_text(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0])
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(tmp_path)

    def run(name, *sets, enough):
        directory = tmp_path / "run"
        given = (f"training.model={name}", *QUICK, *sets)
        said = stopped(4, directory, "--usecase", "bba-go", sets=given, enough=lambda: enough(directory))
        return directory, summary(directory), said

    return run


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("name", "sets", "n_latent"), [
    ("pca", (), 10), ("tica", ("training.first_frames=450",), 10),
    ("slow:Slow", ("training.options.dimensions=2", "training.first_frames=450"), 2),
])  # fmt: skip
def test_another_model_steers(steer, name, sets, n_latent):
    directory, found, _ = steer(name, *sets, enough=restarts)
    assert found["training"]["versions"] >= 1
    assert found["inference"]["rounds"] >= 1
    assert found["steering"]["delivered"] >= 1
    decisions = lines(directory / "decisions.jsonl")
    assert all(d["model_version"] >= 1 and d["model"] == name for d in decisions)

    opened = open_model(max((directory / "models").glob("v*")), model=name)
    assert opened.n_latent == n_latent
    topology = directory / "topology" / "bba-go.pdb"
    latents = opened.embed_trajectory(directory / "trajectories" / "sim-0001.dcd", topology)
    archived = agreeing = 0
    for archive in (directory / "frames").glob("*.bp"):
        for block in read_archive(archive):
            mine = block["walker"] == 1
            difference = np.abs(opened.embed(block)[mine] - latents[block["frame"][mine]])
            archived += mine.sum()
            agreeing += (difference.max(axis=1, initial=0) < 1e-3 * np.abs(latents).max()).sum()
    assert archived > 0.5 * len(latents)  # all but the restart points
    assert agreeing >= 0.95 * archived


def test_a_model_that_cannot_embed_steers_nothing_and_ends_nothing(steer):
    failure = "training.model failing:Failing failed in embed: RuntimeError: no latents"
    sentence = f"no restarts until the model embeds again: {failure}"

    def failed(directory):
        return any(sentence in log.read_text() for log in (directory / "logs").glob("inference-*.log"))

    directory, found, said = steer("failing:Failing", enough=failed)
    assert found["training"]["versions"] >= 1
    assert found["inference"]["rounds"] >= 1
    assert found["steering"]["decisions"] == 0
    assert (directory / "decisions.jsonl").read_text() == ""
    (log,) = (directory / "logs").glob("inference-*.log")
    assert "Traceback" in log.read_text()
    assert sentence in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("name", "words"), [
    ("nowhere:Nothing", ("No module named 'nowhere'", "PYTHONPATH")), ("nothing", ("cvae", "module:Class")),
])  # fmt: skip
def test_a_model_that_is_not_there(ddmd_mpi, tmp_path, name, words):
    done = ddmd_mpi(4, "--usecase", "bba-go", "--output", tmp_path / "run", "--set", f"training.model={name}")
    said = [line for line in done.stderr.splitlines() if line.startswith("ddmd-mpi: ")]
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in (name, *words):
        assert word in said[0]
    assert not (tmp_path / "run").exists()
