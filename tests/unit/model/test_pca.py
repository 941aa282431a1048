"""Principal components: against scikit-learn on the same frames, small windows, rounds that go on or start afresh."""

import numpy as np
import pytest
from sklearn.decomposition import PCA, IncrementalPCA

from ddmd_mpi import model
from ddmd_mpi.analysis import features
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import ModelError, NothingToLearnError
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.model.rounds import split
from ddmd_mpi.structure import contacts

N_RESIDUES, N_PAIRS = 8, 28
FIRST, SECOND = np.triu_indices(N_RESIDUES, 1)
SMALL = {"model": "pca", "latent_dimensions": 4, "batch_size": 16}
MEAN, VARIANCE, COMPONENTS, SINGULAR_VALUES, N_SAMPLES = range(5)


class StopAfter(model.Supervisor):
    """Asks a round to end after so many batches."""

    def __init__(self, batches):
        self.left, self.epochs = batches, []

    def between_batches(self):
        self.left -= 1
        return self.left <= 0

    def epoch(self, epoch):
        self.epochs.append(epoch)


def make(n_residues: int = N_RESIDUES, seed: int = 1, **changes):
    return model.create(model.Setup(TrainingSection(**{**SMALL, **changes}), n_residues, seed))


def chains(n_frames: int, seed: int = 0, n_residues: int = N_RESIDUES, scale: float = 0.3) -> FrameBlock:
    """Random chains, whose every map is another one."""
    positions = np.cumsum(np.random.default_rng(seed).normal(scale=scale, size=(n_frames, n_residues, 3)), axis=1)
    return features(positions, 8.0)


def pairs_of(block: FrameBlock) -> np.ndarray:
    """The upper triangles, by way of the dense maps."""
    maps = contacts.dense(block["contact_counts"], block["contact_columns"])
    return maps[:, FIRST, SECOND].astype(float)


def same_axes(mine: np.ndarray, theirs: np.ndarray) -> None:
    """Asserts equal components but for their signs."""
    np.testing.assert_allclose(np.abs(np.einsum("ij,ij->i", mine, theirs)), 1, atol=1e-8)


def test_one_batch_gives_scikit_learns_principal_components():
    pca, block = make(batch_size=100, validation_fraction=0.0), chains(90)
    result = pca.train(block, model.Supervisor())
    theirs = PCA(4, svd_solver="full").fit(pairs_of(block))
    weights = pca.weights()
    np.testing.assert_allclose(weights[MEAN], theirs.mean_, atol=1e-12)
    np.testing.assert_allclose(weights[SINGULAR_VALUES], theirs.singular_values_)
    same_axes(weights[COMPONENTS], theirs.components_)
    signs = np.sign(np.einsum("ij,ij->i", weights[COMPONENTS], theirs.components_))
    np.testing.assert_allclose(pca.embed(block), signs * theirs.transform(pairs_of(block)), atol=1e-5)
    assert (result.epochs, result.samples, result.accepted, int(weights[N_SAMPLES])) == (1, 90, True, 90)


def test_batches_and_rounds_are_those_of_incremental_pca():
    pca, block, other = make(batch_size=20, seed=7), chains(75), chains(50, seed=1)
    theirs = IncrementalPCA(4)
    for number, window in enumerate((block, other), 1):
        pca.train(window, model.Supervisor())
        generator = np.random.default_rng([7, number, 0])
        order = generator.permutation(split(window, 0.2, 7)[0])
        for start in range(0, len(order), 20):
            theirs.partial_fit(pairs_of(window)[order[start : start + 20]])
    weights = pca.weights()
    assert int(weights[N_SAMPLES]) == theirs.n_samples_seen_ == 60 + 40
    np.testing.assert_allclose(weights[VARIANCE], theirs.var_, atol=1e-12)
    np.testing.assert_allclose(weights[SINGULAR_VALUES], theirs.singular_values_)
    same_axes(weights[COMPONENTS], theirs.components_)


def test_the_loss_is_the_squared_distance_to_the_reconstruction():
    pca, block = make(), chains(60)
    result = pca.train(block, model.Supervisor())
    mean, components = pca.weights()[MEAN], pca.weights()[COMPONENTS]
    rebuilt = pca.embed(block).astype(float) @ components + mean
    squares = ((pairs_of(block) - rebuilt) ** 2).sum(axis=1)
    training, validation = split(block, 0.2, 1)
    assert result.loss == pytest.approx(squares[training].mean(), rel=1e-5)
    assert result.validation_loss == pytest.approx(squares[validation].mean(), rel=1e-5)
    assert 0 < result.loss < result.validation_loss < ((pairs_of(block) - mean) ** 2).sum(axis=1).mean()


@pytest.mark.parametrize(("n_frames", "batch_size"), [(4, 16), (5, 1), (16, 3), (17, 16), (21, 16), (35, 16)])
def test_each_frame_of_any_window_is_fitted_once(n_frames, batch_size):
    pca = make(batch_size=batch_size, validation_fraction=0.0)
    block = chains(n_frames)
    result = pca.train(block, model.Supervisor())
    assert result.accepted
    np.testing.assert_allclose(pca.weights()[MEAN], pairs_of(block).mean(axis=0), atol=1e-12)
    assert int(pca.weights()[N_SAMPLES]) == n_frames


def test_no_fit_has_fewer_rows_than_components(monkeypatch):
    rows = []
    monkeypatch.setattr(IncrementalPCA, "partial_fit", lambda self, x, fit=IncrementalPCA.partial_fit:
                        rows.append(len(x)) or fit(self, x))  # fmt: skip
    pca = make(batch_size=6, validation_fraction=0.0)
    for n_frames in (13, 14, 18):
        pca.train(chains(n_frames), model.Supervisor())
    assert rows == [6, 7, 6, 8, 6, 6, 6]


def test_too_few_frames_are_refused_with_the_cure():
    pca = make()
    before = pca.weights()
    with pytest.raises(NothingToLearnError, match=r"got 3.*training\.first_frames"):
        pca.train(chains(4), model.Supervisor())
    assert all(map(np.array_equal, before, pca.weights()))


def test_maps_that_are_all_alike_teach_nothing():
    stretched = chains(30, scale=0.0)
    with pytest.raises(NothingToLearnError, match="are the same"):
        make().train(stretched, model.Supervisor())


def test_a_round_goes_on_unless_it_is_to_start_afresh():
    on, afresh = make(), make(reinitialize=True)
    for pca in (on, afresh):
        for seed in (0, 1):
            pca.train(chains(40, seed=seed), model.Supervisor())
    assert int(on.weights()[N_SAMPLES]) == 64
    assert int(afresh.weights()[N_SAMPLES]) == 32
    alone = make(reinitialize=True)
    alone._rounds = 1  # the split of a second round
    alone.train(chains(40, seed=1), model.Supervisor())
    assert all(map(np.array_equal, alone.weights(), afresh.weights()))


def test_the_model_before_a_round_gives_zeros_and_takes_weights():
    pca, block = make(), chains(50)
    assert np.array_equal(pca.embed(block), np.zeros((50, 4), np.float32))
    trained = make()
    trained.train(block, model.Supervisor())
    pca.load(trained.weights())
    assert np.array_equal(pca.embed(block), trained.embed(block))
    packed = model.ModelWeights(1, trained.weights()).pack()
    other = make()
    other.restore(model.ModelWeights.unpack(packed).arrays)
    for p in (trained, other):
        p._rounds = 5
        p.train(chains(50, seed=2), model.Supervisor())
    assert all(map(np.array_equal, trained.state(), other.state()))


def test_latents_depend_on_frame_and_weights_alone():
    pca = make()
    pca.train(chains(60), model.Supervisor())
    block, picked = chains(300, seed=3), np.array([299, 5, 17])
    latents = pca.embed(block)
    assert latents.dtype == np.float32
    assert len(np.unique(latents, axis=0)) > 100
    assert np.array_equal(pca.embed(block.take(picked)), latents[picked])
    assert pca.embed(block.take(np.array([], int))).shape == (0, 4)


def test_a_round_that_is_stopped_leaves_the_model_as_it_was():
    pca, watch = make(), StopAfter(2)
    pca.train(chains(60), model.Supervisor())
    before = pca.weights()
    result = pca.train(chains(60, seed=1), watch)
    assert (watch.left, result.epochs, result.stopped, result.accepted, watch.epochs) == (0, 0, True, False, [])
    assert all(map(np.array_equal, before, pca.weights()))
    watch = StopAfter(100)
    assert pca.train(chains(60, seed=1), watch).accepted
    assert len(watch.epochs) == 1


def test_a_round_above_the_guard_is_not_accepted():
    pca = make(max_validation_loss=1e-6)
    result = pca.train(chains(60), model.Supervisor())
    assert not result.accepted
    assert "limit" in result.reason
    assert not pca.weights()[COMPONENTS].any()


def test_only_better_rounds_are_accepted_where_the_best_is_wanted():
    pca = make(select="best", reinitialize=True)
    assert pca.train(chains(300), model.Supervisor()).accepted
    before = pca.weights()
    assert not pca.train(chains(12, seed=5), model.Supervisor()).accepted
    assert all(map(np.array_equal, before, pca.weights()))
    assert make(select="latest", reinitialize=True).train(chains(12, seed=5), model.Supervisor()).accepted


@pytest.mark.parametrize(("n_residues", "changes", "words"), [
    (1001, {}, "at most 1000 residues"),
    (4, {"latent_dimensions": 7}, "6 pairs"),
    (1, {"latent_dimensions": "auto"}, "0 pairs"),
])  # fmt: skip
def test_what_cannot_be_fitted_is_refused_before_the_start(n_residues, changes, words):
    settings = TrainingSection(**{**SMALL, **changes})
    with pytest.raises(ModelError, match=words):
        model.check(settings, n_residues)
    with pytest.raises(ModelError, match=words):
        make(n_residues, **changes)


def test_dimensions_are_ten_or_as_many_as_there_are_pairs():
    assert make(latent_dimensions="auto").n_latent == 10
    assert make(n_residues=4, latent_dimensions="auto").n_latent == 6


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(ModelError, match="architecture"):
        make().load(make(latent_dimensions=5).weights())


def test_a_full_set_of_components_loses_nothing():
    pca = make(n_residues=4, latent_dimensions=6, validation_fraction=0.0, batch_size=50)
    result = pca.train(chains(40, n_residues=4), model.Supervisor())
    assert result.loss == pytest.approx(0, abs=1e-20)
