"""The convolutional variational autoencoder of contact maps (section IV-D of the paper; Kingma and Welling,
arXiv:1312.6114).

q(z|x) = N(mu, sigma^2), z = mu + exp(log sigma^2 / 2) e with e ~ N(0, 1); the loss of a frame is the binary
cross-entropy summed over the map plus the divergence of q(z|x) from N(0, 1) summed over the latent dimensions.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ..errors import ModelError
from ..frames import FrameBlock
from ..sections import TrainingSection
from .architecture import Architecture, architecture
from .maps import ContactMaps
from .training import Epoch, Losses, Round, batches, split

#: Pixels of an embedding batch, and its frames at most: bounds the memory of large maps.
EMBED_PIXELS, EMBED_FRAMES = 2**23, 256


def encoder(shape: Architecture) -> keras.Model:
    """Padded map (size, size, 1) -> mean and log variance of the latents."""
    x = maps = keras.Input((shape.size, shape.size, 1))
    for kernel, stride in zip(shape.kernels, shape.strides, strict=True):
        x = layers.Conv2D(shape.filters, kernel, stride, padding="same", activation="relu")(x)
    x = layers.Dropout(shape.dropout)(layers.Flatten()(x))
    x = layers.Dense(shape.dense_units, activation="relu")(x)
    mean, log_variance = (layers.Dense(shape.latent_dimensions, name=n)(x) for n in ("mean", "log_variance"))
    return keras.Model(maps, [mean, log_variance], name="encoder")


def decoder(shape: Architecture) -> keras.Model:
    """Latents -> logits of the padded map: the encoder's mirror image."""
    x = latents = keras.Input((shape.latent_dimensions,))
    x = layers.Dense(shape.dense_units, activation="relu")(x)
    x = layers.Dense(shape.smallest**2 * shape.filters, activation="relu")(x)
    x = layers.Reshape((shape.smallest, shape.smallest, shape.filters))(x)
    for kernel, stride in zip(shape.kernels[:0:-1], shape.strides[:0:-1], strict=True):
        x = layers.Conv2DTranspose(shape.filters, kernel, stride, padding="same", activation="relu")(x)
    logits = layers.Conv2DTranspose(1, shape.kernels[0], shape.strides[0], padding="same")(x)
    return keras.Model(latents, logits, name="decoder")


def average(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """Gradients averaged over the ranks that train together: this rank's own, for one rank."""
    return gradients


class Cvae:
    """The autoencoder, its optimiser and its rounds."""

    def __init__(self, settings: TrainingSection, n_residues: int, seed: int):
        keras.utils.set_random_seed(seed)
        self._settings, self._seed, self._rounds = settings, seed, 0
        self._shape = shape = architecture(settings, n_residues)
        self.architecture = shape.describe()
        self._encoder, self._decoder = encoder(shape), decoder(shape)
        self._variables = self._encoder.trainable_variables + self._decoder.trainable_variables
        self._noise = keras.random.SeedGenerator(seed)
        self._optimizer = keras.optimizers.RMSprop(settings.learning_rate, rho=settings.rho, epsilon=settings.epsilon)
        self._optimizer.build(self._variables)
        self._train_step, self._test_step = tf.function(self._train), tf.function(self._test)
        self._embed_step = tf.function(self._embed)

    def train(self, block: FrameBlock, stop: Callable[[], bool], between_batches: Callable[[], None]) -> Round:
        """One round: epochs until the validation loss no longer falls, the weights of the best one kept.

        Parameters
        ----------
        block
            Frames to train on; the round holds back a fraction of them, drawn anew each round, for validation.
        stop
            Asked between batches; True ends the round with the best weights so far.
        between_batches
            Called between batches.
        """
        settings = self._settings
        self._rounds += 1
        generator = np.random.default_rng([self._seed, self._rounds])
        maps = ContactMaps(block, self._shape.size)
        training, validation = split(len(block), settings.validation_fraction, generator)
        before, kept, best, history, stopped = self._state(), self.weights(), 0, [], False
        while len(history) < settings.epochs and len(history) - best < settings.patience:
            frames = generator.permutation(training), validation
            epoch = self._epoch(maps, *frames, lambda: between_batches() or stop())
            if epoch is None:
                stopped = True
                break
            if not epoch.finite:
                self._assign(self._state_variables, before)
                return Round(len(history), len(history) * len(training), np.nan, np.nan, False, False, tuple(history))
            history.append(epoch)
            if best == 0 or epoch.validation.loss < history[best - 1].validation.loss:
                kept, best = self.weights(), len(history)
        self.load(kept)
        losses = (history[best - 1].training.loss, history[best - 1].validation.loss) if history else (np.nan, np.nan)
        return Round(len(history), len(history) * len(training), *losses, True, stopped, tuple(history))

    def embed(self, block: FrameBlock) -> np.ndarray:
        """Means of the latents, shape (n_frames, n_latent), float32; the same bits for the same frame and weights."""
        maps = ContactMaps(block, self._shape.size)
        n = max(1, min(EMBED_FRAMES, EMBED_PIXELS // self._shape.size**2))
        means = [self._embed_step(maps.batch(indices)).numpy() for indices, _ in batches(np.arange(len(block)), n)]
        return np.concatenate([np.zeros((0, self._shape.latent_dimensions), np.float32), *means])[: len(block)]

    def weights(self) -> list[np.ndarray]:
        """Copies of all weights, the encoder's first."""
        return [v.numpy() for v in self._variables]

    def load(self, arrays: list[np.ndarray]) -> None:
        """Take the weights of another model of the same architecture.

        Raises
        ------
        ModelError
            If their number or shapes differ from this model's.
        """
        shapes, expected = [tuple(a.shape) for a in arrays], [tuple(v.shape) for v in self._variables]
        if shapes != expected:
            raise ModelError(f"weights of shapes {expected} were expected, got {shapes}: is it another architecture?")
        self._assign(self._variables, arrays)

    @property
    def _state_variables(self) -> list[keras.Variable]:
        return [*self._variables, *self._optimizer.variables]

    def _state(self) -> list[np.ndarray]:
        return [v.numpy() for v in self._state_variables]

    @staticmethod
    def _assign(variables: list[keras.Variable], arrays: list[np.ndarray]) -> None:
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)

    def _epoch(
        self, maps: ContactMaps, training: np.ndarray, validation: np.ndarray, interrupted: Callable[[], bool]
    ) -> Epoch | None:
        """One pass over the training frames and one over the validation frames; None if it was interrupted."""
        clock = time.perf_counter()
        trained = self._pass(self._train_step, maps, training, interrupted)
        tested = trained and self._pass(self._test_step, maps, validation, interrupted) if len(validation) else trained
        return tested and Epoch(trained, tested, time.perf_counter() - clock)

    def _pass(
        self, step: Callable, maps: ContactMaps, frames: np.ndarray, interrupted: Callable[[], bool]
    ) -> Losses | None:
        """Mean losses of `step` over all `frames`; None if it was interrupted."""
        total = np.zeros(3, np.float32)
        for indices, weights in batches(frames, self._settings.batch_size):
            total = total + step(maps.batch(indices), weights)
            if interrupted():
                return None
        return Losses(*(np.asarray(total, np.float64) / len(frames)).tolist())

    def _train(self, maps: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """One step of the optimiser on a batch; its summed losses."""
        with tf.GradientTape() as tape:
            losses = self._losses(maps, weights, training=True)
            loss = losses[0] / tf.reduce_sum(weights)
        gradients = tape.gradient(loss, [v.value for v in self._variables])
        self._optimizer.apply(average(gradients), self._variables)
        return losses

    def _test(self, maps: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Summed losses of a batch."""
        return self._losses(maps, weights, training=False)

    def _embed(self, maps: tf.Tensor) -> tf.Tensor:
        """Means of the latents of a batch."""
        return self._encoder(tf.cast(maps, tf.float32)[..., None], training=False)[0]

    def _losses(self, maps: tf.Tensor, weights: tf.Tensor, training: bool) -> tf.Tensor:
        """Loss, reconstruction and divergence, summed over the frames of weight 1; padding of a map does not count."""
        x, n = tf.cast(maps, tf.float32)[..., None], self._shape.n_residues
        mean, log_variance = self._encoder(x, training=training)
        noise = keras.random.normal(tf.shape(mean), seed=self._noise)
        logits = self._decoder(mean + tf.exp(0.5 * log_variance) * noise, training=training)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(x[:, :n, :n], logits[:, :n, :n])
        reconstruction = tf.reduce_sum(entropy, axis=(1, 2, 3))
        divergence = 0.5 * tf.reduce_sum(mean**2 + tf.exp(log_variance) - 1 - log_variance, axis=1)
        return tf.linalg.matvec(tf.stack([reconstruction + divergence, reconstruction, divergence]), weights)
