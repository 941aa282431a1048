"""Time-lagged independent components: the slow motion and not the large one, and only within segments."""

import numpy as np
import pytest
from doubles import Twins

from ddmd_mpi import model
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import ModelError, NothingToLearnError
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.model import ModelWeights, Ranks, Setup, Supervisor
from ddmd_mpi.model.architecture import TICA_RESIDUES, lagged_pairs

N_RESIDUES, N_FRAMES = 8, 600


def make(ranks=None, n_residues=N_RESIDUES, **settings):
    settings = {"latent_dimensions": 2, **settings}
    return model.create(Setup(TrainingSection(model="tica", **settings), n_residues, ranks=ranks or Ranks()))


def two_walkers(segment_reports=50):
    """A chain whose end moves slowly between two places, and whose other end moves fast and more; and the place."""
    random = np.random.default_rng(0)
    place = np.cumsum(random.random(N_FRAMES) < 0.02) % 2
    x = np.tile(np.cumsum(np.tile([0.38, 0, 0], (N_RESIDUES, 1)), axis=0), (N_FRAMES, 1, 1))
    x[:, 6:, 1] += 0.4 * place[:, None]
    x[:, :2, 2] += random.normal(scale=0.5, size=(N_FRAMES, 1))
    x += random.normal(scale=0.02, size=x.shape)
    half = N_FRAMES // 2
    frame = np.tile(np.arange(half), 2)
    return FrameBlock({
        "walker": np.repeat(np.arange(2, dtype="<i4"), half), "segment": (frame // segment_reports).astype("<i4"),
        "frame": frame, "ca_positions": np.rint(1000 * (x - x.mean(axis=1, keepdims=True))).astype("<i2"),
    }), place  # fmt: skip


def likeness(latents, place):
    """Absolute correlation of each latent with the place."""
    return [abs(np.corrcoef(column, place)[0, 1]) for column in latents.T]


def test_it_finds_the_slow_motion_and_not_the_large_one():
    mine, (block, place) = make(options={"lag": 2}), two_walkers()
    assert not mine.embed(block).any()
    result = mine.train(block, Supervisor())
    assert (result.accepted, result.epochs, len(result.history)) == (True, 1, 1)
    assert 0 < result.loss < 1
    first, second = likeness(mine.embed(block), place)
    assert first > 0.9 > 0.5 > second


def test_the_lag_is_a_fifth_of_a_segment_unless_it_is_given():
    for segment_reports, lag in ((50, 10), (10, 2), (3, 1)):
        block, _ = two_walkers(segment_reports)
        given, automatic = make(options={"lag": lag}), make()
        for mine in (given, automatic):
            mine.train(block, Supervisor())
        np.testing.assert_array_equal(given.embed(block), automatic.embed(block))


def test_no_pair_of_frames_spans_two_segments():
    """Every segment has a place of its own, so that only pairs of two segments could show the end's motion."""
    block, _ = two_walkers(10)
    x = block["ca_positions"].copy()
    x[:, 6:, 1] = 400 * (block["segment"] % 2)[:, None]
    frames = FrameBlock({**block.columns, "ca_positions": x})
    mine = make(options={"lag": 10})
    with pytest.raises(NothingToLearnError, match="0 pairs of frames within a segment are too few"):
        mine.train(frames, Supervisor())


@pytest.mark.parametrize("step_nm", [0.38, 0.333])
def test_frames_that_are_all_alike_teach_nothing(step_nm):
    block, _ = two_walkers()
    x = np.zeros_like(block["ca_positions"])
    x[:, :, 0] = np.rint(1000 * step_nm * np.arange(N_RESIDUES))
    x[:, 1::2, 1] = 157
    mine = make()
    with pytest.raises(NothingToLearnError, match="the distances of all frames of the window are the same"):
        mine.train(FrameBlock({**block.columns, "ca_positions": x}), Supervisor())
    assert not mine.embed(block).any()


def test_its_weights_travel():
    mine, (block, _) = make(), two_walkers()
    mine.train(block, Supervisor())
    other = make()
    other.load(ModelWeights.unpack(ModelWeights(1, mine.weights()).pack()).arrays)
    np.testing.assert_array_equal(other.embed(block), mine.embed(block))
    with pytest.raises(ModelError):
        make(latent_dimensions=3).load(mine.weights())


def test_two_ranks_with_the_same_frames_learn_what_one_learns():
    (block, _), latents = two_walkers(), []
    for ranks in (Ranks(), Twins()):
        mine = make(ranks)
        mine.train(block, Supervisor())
        latents.append(mine.embed(block))
    np.testing.assert_allclose(np.abs(latents[0]), np.abs(latents[1]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "reason"), [({"max_validation_loss": 1e-6}, "above"), ({"select": "best"}, "no better")]
)
def test_a_version_that_is_not_wanted_leaves_the_last_one(settings, reason):
    mine, (block, _) = make(**settings), two_walkers()
    if "select" in settings:
        assert mine.train(block, Supervisor()).accepted
    before = mine.weights()
    result = mine.train(block, Supervisor())
    assert not result.accepted
    assert reason in result.reason
    for mine_now, then in zip(mine.weights(), before, strict=True):
        np.testing.assert_array_equal(mine_now, then)


def test_many_residues_are_thinned_evenly():
    first, second = lagged_pairs(1000)
    assert {0, 999} <= set(first) | set(second)
    assert len(np.union1d(first, second)) == TICA_RESIDUES
    assert len(first) <= 1000


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"options": {"lag": 0}}, "at least 1"),
        ({"options": {"delay": 2}}, "may have lag"),
        ({"latent_dimensions": 100}, "15 distances of 8 residues"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(ModelError, match=said):
        model.check(TrainingSection(model="tica", **settings), N_RESIDUES)
