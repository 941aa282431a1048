"""The model of docs/models.md: taken from the page, it is found by its name, learns and travels."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from doubles import Twins

from ddmd_mpi import model
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import NothingToLearnError
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.model import ModelWeights, Ranks, Setup, Supervisor

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
N_RESIDUES, N_FRAMES = 8, 600


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """The page's module, on the path."""
    directory = tmp_path_factory.mktemp("slow")
    (directory / "slow.py").write_text(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        yield


def make(ranks=None, **options):
    settings = TrainingSection(model="slow:Slow", options={"dimensions": 2, **options})
    return model.create(Setup(settings, N_RESIDUES, ranks=ranks or Ranks()))


def two_walkers():
    """A chain whose end moves slowly between two places, and whose other end moves fast and more; and the place."""
    random = np.random.default_rng(0)
    place = np.cumsum(random.random(N_FRAMES) < 0.02) % 2
    x = np.tile(np.cumsum(np.tile([0.38, 0, 0], (N_RESIDUES, 1)), axis=0), (N_FRAMES, 1, 1))
    x[:, 6:, 1] += 0.4 * place[:, None]
    x[:, :2, 2] += random.normal(scale=0.5, size=(N_FRAMES, 1))
    x += random.normal(scale=0.02, size=x.shape)
    rounded = np.rint(1000 * (x - x.mean(axis=1, keepdims=True))).astype("<i2")
    half = N_FRAMES // 2
    return FrameBlock({
        "walker": np.repeat(np.arange(2, dtype="<i4"), half), "segment": np.zeros(N_FRAMES, "<i4"),
        "frame": np.tile(np.arange(half), 2), "ca_positions": rounded,
    }), place  # fmt: skip


def likeness(latents, place):
    """Absolute correlation of each latent with the place."""
    return [abs(np.corrcoef(column, place)[0, 1]) for column in latents.T]


def test_it_finds_the_slow_motion_and_not_the_large_one(slow):
    mine, (block, place) = make(), two_walkers()
    assert not mine.embed(block).any()
    result = mine.train(block, Supervisor())
    assert result.accepted
    assert 0 < result.loss < result.validation_loss < 1
    first, second = likeness(mine.embed(block), place)
    assert first > 0.9 > 0.5 > second
    x = mine._model.distances(block)
    largest = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[0][:, :1]
    assert likeness(largest, place)[0] < 0.5, "principal components would do"


def test_its_weights_travel(slow):
    mine, (block, _) = make(), two_walkers()
    mine.train(block, Supervisor())
    other = make()
    other.load(ModelWeights.unpack(ModelWeights(1, mine.weights()).pack()).arrays)
    np.testing.assert_array_equal(other.embed(block), mine.embed(block))
    assert mine.architecture == {"model": "slow", "n_residues": 8, "n_latent": 2}


def test_two_ranks_with_the_same_frames_learn_what_one_learns(slow):
    (block, _), latents = two_walkers(), []
    for ranks in (Ranks(), Twins()):
        mine = make(ranks)
        mine.train(block, Supervisor())
        latents.append(mine.embed(block))
    np.testing.assert_allclose(np.abs(latents[0]), np.abs(latents[1]), rtol=1e-3, atol=1e-4)


def test_frames_that_do_not_follow_each_other_teach_nothing(slow):
    block, _ = two_walkers()
    with pytest.raises(NothingToLearnError, match="too few pairs"):
        make(lag=299).train(block, Supervisor())
    apart = FrameBlock({**block.columns, "frame": 10 * block["frame"]})
    with pytest.raises(NothingToLearnError, match="too few pairs"):
        make().train(apart, Supervisor())


def test_the_page_names_every_policy_of_training():
    page = PAGE.read_text()
    of_a_network = {"latent_dimensions", "dense_units", "dropout", "filters", "learning_rate", "rho", "epsilon"}
    names = {field.name for field in fields(TrainingSection)} - of_a_network - {"model", "options"}
    assert {name for name in names if f"`{name}" not in page} == set()
