"""The autoencoder: its loss against NumPy, its rounds, and latents that depend on nothing but frame and weights."""

import random

import numpy as np
import pytest
from watch import Watch

from ddmd_mpi import model
from ddmd_mpi.analysis import features
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import ModelError, NothingToLearnError
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.model import ModelWeights, architecture
from ddmd_mpi.structure import contacts

N_RESIDUES = 7  # padded to 8
SMALL = {"filters": 4, "dense_units": 16, "latent_dimensions": 3, "batch_size": 16, "epochs": 3, "dropout": 0.1}


def make(seed: int = 1, n_residues: int = N_RESIDUES, **changes):
    return model.create(model.Setup(TrainingSection(**{**SMALL, **changes}), n_residues, seed))


def chain_block(n_frames: int, n_residues: int = N_RESIDUES, seed: int = 0) -> FrameBlock:
    """Chains that are compact or stretched."""
    generator = np.random.default_rng(seed)
    scale = generator.choice([0.2, 0.6], size=(n_frames, 1, 1))
    chains = np.cumsum(scale * generator.normal(size=(n_frames, n_residues, 3)), axis=1)
    return features(chains, 8.0)


@pytest.fixture(scope="module")
def trained():
    """A model after one round on 100 frames, and the round."""
    cvae = make(epochs=30, patience=30, learning_rate=5e-3)
    return cvae, cvae.train(chain_block(100), Watch())


def test_a_state_is_restored_without_the_learning_rate_which_is_a_setting(trained):
    other = make(seed=2, learning_rate=1e-4)
    other.restore(trained[0].state())
    for ours, theirs in zip(other.weights(), trained[0].weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert float(other._optimizer.learning_rate) == pytest.approx(1e-4)


def layers_of(network, kind: str) -> list:
    return [layer for layer in network.layers if type(layer).__name__ == kind]


@pytest.mark.parametrize(
    ("n_residues", "filters", "first_kernel", "strides"), [(28, 64, 3, [1, 2, 1, 1]), (70, 32, 5, [2, 2, 2, 2])]
)
def test_encoder_and_decoder_mirror_each_other(n_residues, filters, first_kernel, strides):
    cvae = model.create(model.Setup(TrainingSection(), n_residues, 1))
    down, up = layers_of(cvae._encoder, "Conv2D"), layers_of(cvae._decoder, "Conv2DTranspose")
    assert [layer.strides[0] for layer in down] == strides == [layer.strides[0] for layer in up][::-1]
    assert [layer.kernel_size[0] for layer in down] == [first_kernel, 3, 3, 3]
    assert [layer.kernel_size[0] for layer in up][::-1] == [first_kernel, 3, 3, 3]
    assert [layer.filters for layer in down] == [filters] * 4
    assert [layer.filters for layer in up] == [filters] * 3 + [1]
    assert [layer.units for layer in layers_of(cvae._encoder, "Dense")] == [128, 10, 10]
    assert [layer.rate for layer in layers_of(cvae._encoder, "Dropout")] == [0.4]
    assert cvae._decoder.output_shape[1] == cvae.architecture["size"] >= n_residues


def test_loss_is_the_summed_cross_entropy_and_divergence_of_the_real_residues(trained):
    cvae, _ = trained
    maps = contacts.dense(*(chain_block(3)[n] for n in ("contact_counts", "contact_columns")), size=8)
    mean, log_variance = (part.numpy() for part in cvae._encoder(maps[..., None].astype(np.float32)))
    divergence = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1)
    many, weights = np.tile(maps, (200, 1, 1)), np.tile(np.array([1, 0, 1], np.float32), 200)
    loss, reconstruction, kl = cvae._test(many, weights).numpy() / 200
    np.testing.assert_allclose(kl, divergence[[0, 2]].sum(), rtol=1e-4)
    np.testing.assert_allclose(loss, reconstruction + kl, rtol=1e-5)

    noise = np.random.default_rng(0).normal(size=(200, *mean.shape))
    latents = (mean + np.exp(0.5 * log_variance) * noise).reshape(-1, mean.shape[1]).astype(np.float32)
    logits = cvae._decoder(latents).numpy().reshape(200, 3, 8, 8)[:, :, :7, :7]
    x = maps[:, :7, :7]
    entropy = (np.logaddexp(0, logits) - x * logits).sum(axis=(2, 3)).mean(axis=0)
    np.testing.assert_allclose(reconstruction, entropy[[0, 2]].sum(), rtol=0.03)


def test_a_round_learns_and_reports_both_terms(trained):
    _, result = trained
    first, last = result.history[0], result.history[-1]
    assert last.training.loss < 0.9 * first.training.loss
    for losses in (first.training, first.validation, last.training, last.validation):
        assert losses.loss == pytest.approx(sum(losses.terms.values()), rel=1e-4)
        assert losses.terms["divergence"] > 0
    assert (result.epochs, result.samples, result.accepted, result.stopped) == (30, 30 * 80, True, False)
    assert result.validation_loss == min(epoch.validation.loss for epoch in result.history)


def test_the_same_seed_gives_the_same_round_and_another_seed_another():
    results, latents = [], []
    for seed in (5, 5, 6):
        cvae = make(seed)
        results.append(cvae.train(chain_block(40), Watch()).validation_loss)
        latents.append(cvae.embed(chain_block(5)))
    assert results[0] == results[1] != results[2]
    assert np.array_equal(latents[0], latents[1])


def test_the_steps_compile_once_whatever_the_number_of_frames():
    cvae = make(epochs=1)
    for n_frames in (3, 40, 57):
        cvae.train(chain_block(n_frames), Watch())
        cvae.embed(chain_block(n_frames))
    steps = (cvae._train_step, cvae._test_step, cvae._embed_step)
    assert [step.experimental_get_tracing_count() for step in steps] == [1, 1, 1]


def test_a_loss_that_is_not_finite_leaves_the_model_as_it_was():
    cvae = make(learning_rate=1e25)
    before = cvae.state()
    result = cvae.train(chain_block(64), Watch())
    assert not result.accepted
    assert "learning_rate" in result.reason
    for old, new in zip(before, cvae.state(), strict=True):
        assert np.array_equal(old, new)


def test_a_round_stops_between_batches_and_keeps_the_best_weights():
    cvae, watch = make(epochs=50, patience=50), Watch(2)
    first = cvae.weights()
    result = cvae.train(chain_block(40), watch)
    assert (watch.left, result.epochs, result.stopped, result.accepted) == (0, 0, True, False)
    assert np.isnan(result.validation_loss)
    assert all(np.array_equal(a, b) for a, b in zip(first, cvae.weights(), strict=True))
    # Two batches of training and one of validation make an epoch: stop in the second one.
    watch = Watch(4)
    result = cvae.train(chain_block(40), watch)
    assert (result.epochs, result.stopped, result.accepted, len(watch.epochs)) == (1, True, True, 1)
    assert np.isfinite(result.validation_loss)
    assert not all(np.array_equal(a, b) for a, b in zip(first, cvae.weights(), strict=True))


def test_a_round_ends_when_the_validation_loss_no_longer_falls():
    cvae = make(epochs=30, patience=2, learning_rate=1e-12)
    result = cvae.train(chain_block(40), Watch())
    losses = [epoch.validation.loss for epoch in result.history]
    assert result.epochs < 30
    assert result.epochs == int(np.argmin(losses)) + 1 + 2
    assert result.validation_loss == min(losses)


def test_without_validation_frames_the_training_loss_takes_their_place():
    result = make(validation_fraction=0.0, epochs=1).train(chain_block(20), Watch())
    assert result.validation_loss == result.loss
    assert result.samples == 20


def test_latents_depend_on_frame_and_weights_alone(trained):
    cvae, _ = trained
    block = chain_block(300, seed=3)
    latents = cvae.embed(block)
    assert latents.shape == (300, 3)
    assert latents.dtype == np.float32
    assert np.array_equal(cvae.embed(block), latents)
    picked = np.array([299, 5, 17])
    assert np.array_equal(cvae.embed(block.take(picked)), latents[picked])
    assert cvae.embed(block.take(np.array([], int))).shape == (0, 3)
    other = make(seed=9)
    assert not np.allclose(other.embed(block), latents)
    other.load(cvae.weights())
    assert np.array_equal(other.embed(block), latents)


def test_weights_of_another_architecture_are_refused(trained):
    cvae, _ = trained
    with pytest.raises(ModelError, match="architecture"):
        cvae.load(make(filters=5).weights())
    with pytest.raises(ModelError, match="architecture"):
        cvae.load(cvae.weights()[:-1])


def test_making_a_model_leaves_the_global_random_numbers_alone():
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the old generator is the global one
    before = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    make(epochs=1).train(chain_block(20), Watch())
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == before  # noqa: NPY002


def test_dropout_may_differ_between_models_that_exchange_weights(trained):
    cvae, _ = trained
    assert make(dropout=0.3).architecture == cvae.architecture
    assert "dropout" not in cvae.architecture


def test_threads_are_pinned(trained):
    import tensorflow as tf

    assert tf.config.threading.get_intra_op_parallelism_threads() == 1
    assert tf.config.threading.get_inter_op_parallelism_threads() == 1


def test_the_optimiser_is_the_papers(trained):
    optimizer = make()._optimizer
    assert type(optimizer).__name__ == "RMSprop"
    assert (float(optimizer.learning_rate), optimizer.rho, optimizer.epsilon) == (pytest.approx(1e-3), 0.9, 1e-8)


def test_a_round_may_begin_with_fresh_weights():
    """Without that the second round goes on from the first one's weights, so that it begins lower."""
    first = {}
    for reinitialize in (False, True):
        cvae = make(epochs=20, patience=20, learning_rate=5e-3, reinitialize=reinitialize)
        cvae.train(chain_block(60), Watch())
        first[reinitialize] = cvae.train(chain_block(60), Watch()).history[0].validation.loss
    assert first[False] < 0.8 * first[True]


def test_the_best_model_stays_where_only_better_ones_are_wanted(trained):
    """A learning rate far too high makes a finite but worse model: the round is taken back."""
    good, _ = trained
    block = chain_block(60)
    for select, accepted in (("latest", True), ("best", False)):
        cvae = make(select=select, learning_rate=0.03, epochs=1, max_validation_loss=1e30)
        cvae.load(good.weights())
        result = cvae.train(block, Watch())
        assert result.accepted is accepted
        unchanged = all(np.array_equal(a, b) for a, b in zip(good.weights(), cvae.weights(), strict=True))
        assert unchanged is not accepted
    assert "limit" in result.reason


def test_a_model_above_the_guard_is_taken_back():
    cvae = make(max_validation_loss=1e-3)
    before = cvae.state()
    result = cvae.train(chain_block(40), Watch())
    assert (result.accepted, result.epochs) == (False, 3)
    assert all(np.array_equal(a, b) for a, b in zip(before, cvae.state(), strict=True))


def test_maps_that_are_all_the_same_teach_nothing():
    with pytest.raises(NothingToLearnError, match="40 contact maps .* are the same.*cutoff"):
        make().train(chain_block(40).take(np.zeros(40, int)), Watch())


def test_a_window_smaller_than_a_batch_trains():
    result = make(batch_size=64).train(chain_block(3), Watch())
    assert (result.accepted, result.samples) == (True, 3 * 2)


def test_a_window_of_compressed_rows_trains_to_the_same_bits(monkeypatch):
    """Batches that are made while the one before trains are those of the dense window."""
    dense = make()
    dense.train(chain_block(100), Watch())
    monkeypatch.setattr("ddmd_mpi.model.maps.DENSE_BYTES", 0)
    sparse = make()
    assert sparse.samples(chain_block(1)).slow
    sparse.train(chain_block(100), Watch())
    assert all(np.array_equal(a, b) for a, b in zip(dense.weights(), sparse.weights(), strict=True))


def test_mixed_precision_learns_from_the_first_step_on():
    cvae = make(mixed_precision=True, filters=8)
    before = cvae.weights()
    cvae.train_batch(cvae.samples(chain_block(16)).batch(np.arange(16)), np.ones(16, np.float32), stop=False)
    assert not any(np.array_equal(a, b) for a, b in zip(before, cvae.weights(), strict=True) if a.ndim > 1)


def test_memory_that_runs_out_is_an_error_that_a_run_survives(trained, monkeypatch):
    import tensorflow as tf

    cvae, _ = trained
    monkeypatch.setattr(
        cvae,
        "_embed_step",
        lambda _: (_ for _ in ()).throw(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")),
    )
    with pytest.raises(ModelError, match="OOM when allocating.*training.batch_size"):
        cvae.embed(chain_block(3))


@pytest.mark.parametrize("changes", [{"mixed_precision": True}, {"xla": True}], ids=["mixed_precision", "xla"])
def test_the_settings_of_a_gpu_learn_as_well(trained, changes):
    _, reference = trained
    result = make(epochs=30, patience=30, learning_rate=5e-3, **changes).train(chain_block(100), Watch())
    assert result.validation_loss == pytest.approx(reference.validation_loss, rel=0.1)


def test_a_model_starts_from_given_weights(trained, tmp_path):
    cvae, _ = trained
    path = ModelWeights(3, cvae.weights(), {"architecture": cvae.architecture}).save(tmp_path)
    again = make(seed=4, initial_weights=path)
    assert np.array_equal(again.embed(chain_block(5)), cvae.embed(chain_block(5)))
    settings = TrainingSection(**{**SMALL, "filters": 5, "initial_weights": path})
    with pytest.raises(ModelError, match="filters is 4 there and 5 here"):
        model.check(settings, N_RESIDUES)


def test_huge_maps_have_the_strides_published_for_spike_and_begin_as_sparse_as_maps_are():
    shape = architecture.architecture(TrainingSection(), 3375)
    assert (shape.filters, shape.kernels, shape.strides) == (64, (9, 5, 5, 5), (8, 4, 4, 4))
    assert (shape.size, shape.smallest) == (3584, 7), "padded to the next multiple of 512, never cropped"
    assert 1 / (1 + np.exp(-shape.first_logit)) == pytest.approx(12.8 / 3375)
    assert architecture.architecture(TrainingSection(), 1500).first_logit == 0.0
    assert all(kernel > stride for kernel, stride in zip(shape.kernels, shape.strides, strict=True))


def test_frames_at_once_divide_the_batch_and_bound_the_pixels():
    def at_once(n_residues, n_frames=64):
        return architecture.architecture(TrainingSection(), n_residues).at_once(n_frames)

    assert [at_once(n) for n in (28, 309, 1000, 3375)] == [64, 64, 8, 1]
    assert at_once(1000, 61) == 1
    assert at_once(1000, 12) == 6


def test_gradients_of_parts_add_up_to_those_of_the_whole_batch(monkeypatch):
    """Without dropout and with next to no noise a step in parts is the step of the whole batch, and so is its loss."""
    block, weights = chain_block(16), np.repeat([1, 0], [13, 3]).astype(np.float32)
    steps = {}
    for at_once in (16, 4):
        monkeypatch.setattr(architecture.Architecture, "at_once", lambda _self, _n, m=at_once: m)
        cvae = make(dropout=0.0)
        log_variance = cvae._encoder.get_layer("log_variance")
        log_variance.bias.assign(np.full(3, -40.0))
        maps, losses, before = cvae.samples(block), np.zeros(3), cvae.weights()
        cvae.begin_batch(maps.batch(np.arange(4)), weights[:4]) if at_once == 4 else None
        cvae._forget()  # of a round that was interrupted nothing is left
        for first in range(0, 16 - at_once, at_once):
            part = slice(first, first + at_once)
            losses += cvae.begin_batch(maps.batch(np.arange(16)[part]), weights[part])
        last = slice(16 - at_once, 16)
        more, stopped = cvae.train_batch(maps.batch(np.arange(16)[last]), weights[last], stop=True)
        assert stopped
        steps[at_once] = losses + more, before, cvae.weights()
    (loss, before, whole), (summed, _, parts) = steps[16], steps[4]
    np.testing.assert_allclose(summed, loss, rtol=1e-5)
    assert max(np.abs(a - b).max() for a, b in zip(before, whole, strict=True)) > 1e-4, "a step was taken"
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_a_round_in_parts_sees_every_frame_once_an_epoch(monkeypatch):
    monkeypatch.setattr(architecture, "PIXELS_AT_ONCE", 4 * 8**2)
    cvae, watch = make(epochs=4), Watch()
    assert (cvae.at_once, cvae._shape.size) == (4, 8)
    result = cvae.train(chain_block(50), watch)
    assert (result.epochs, result.samples, result.accepted) == (4, 4 * 40, True)
    assert result.history[-1].training.loss < result.history[0].training.loss
    stopped = cvae.train(chain_block(50), Watch(1))
    assert (stopped.stopped, stopped.epochs) == (True, 0)


def test_a_session_with_other_settings_of_keras_makes_the_same_model(trained):
    """A notebook in which Keras runs already."""
    import keras

    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float64")
    again = make(epochs=30, patience=30, learning_rate=5e-3)
    again.load(trained[0].weights())
    block = chain_block(5)
    assert again.embed(block).tobytes() == trained[0].embed(block).tobytes()
