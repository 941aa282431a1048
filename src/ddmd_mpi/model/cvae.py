"""The convolutional variational autoencoder of contact maps.

Section IV-D of the paper; Kingma and Welling, arXiv:1312.6114.

q(z|x) = N(mu, sigma^2), z = mu + exp(log sigma^2 / 2) e with e ~ N(0, 1); the loss of a frame is the binary
cross-entropy summed over the map plus the divergence of q(z|x) from N(0, 1) summed over the latent dimensions.
"""

from __future__ import annotations

import logging
import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ..frames.block import FrameBlock
from . import gradients
from .architecture import Architecture, architecture
from .interface import Model, Round, Setup, Supervisor, resources
from .maps import ContactMaps
from .rounds import TrainingRound, batches
from .tensorflow_backend import has_bfloat16, seeded
from .weights import check_shapes

log = logging.getLogger("ddmd_mpi")

#: Frames of an embedding batch of small maps.
EMBED_FRAMES = 256


def encoder(shape: Architecture, dtype: str = "float32") -> keras.Model:
    """Padded map (size, size, 1) -> mean and log variance of the latents."""
    x = maps = keras.Input((shape.size, shape.size, 1))
    for kernel, stride in zip(shape.kernels, shape.strides, strict=True):
        x = layers.Conv2D(shape.filters, kernel, stride, padding="same", activation="relu", dtype=dtype)(x)
    x = layers.Dropout(shape.dropout, dtype=dtype)(layers.Flatten(dtype=dtype)(x))
    x = layers.Dense(shape.dense_units, activation="relu", dtype=dtype)(x)
    mean, log_variance = (layers.Dense(shape.latent_dimensions, name=n)(x) for n in ("mean", "log_variance"))
    return keras.Model(maps, [mean, log_variance], name="encoder")


def decoder(shape: Architecture, dtype: str = "float32") -> keras.Model:
    """Latents -> logits of the padded map: the encoder's mirror image."""
    x = latents = keras.Input((shape.latent_dimensions,))
    x = layers.Dense(shape.dense_units, activation="relu", dtype=dtype)(x)
    x = layers.Dense(shape.smallest**2 * shape.filters, activation="relu", dtype=dtype)(x)
    x = layers.Reshape((shape.smallest, shape.smallest, shape.filters), dtype=dtype)(x)
    for kernel, stride in zip(shape.kernels[:0:-1], shape.strides[:0:-1], strict=True):
        x = layers.Conv2DTranspose(shape.filters, kernel, stride, padding="same", activation="relu", dtype=dtype)(x)
    bias = keras.initializers.Constant(shape.first_logit)
    logits = layers.Conv2DTranspose(1, shape.kernels[0], shape.strides[0], padding="same", bias_initializer=bias)(x)
    return keras.Model(latents, logits, name="decoder")


class Cvae(Model):
    """The autoencoder, its optimiser and its rounds."""

    terms: tuple[str, ...] = ("reconstruction", "divergence")  # cross-entropy and Kullback-Leibler to N(0, 1), nats

    def __init__(self, setup: Setup):
        settings, ranks = setup.settings, setup.ranks
        self._setup, self._rounds, on_gpu = setup, 0, setup.gpu is not None
        self._shape = shape = architecture(settings, setup.n_residues)
        self.architecture, self.n_latent = shape.describe(), shape.latent_dimensions
        self.worst_loss = 10 * shape.n_residues**2 * math.log(2)  # ten times that of a coin for every pixel
        mixed = settings.mixed_precision
        if mixed == "auto":
            mixed = setup.gpu is not None and has_bfloat16(setup.gpu)
        dtype = "mixed_bfloat16" if mixed else "float32"
        with seeded(setup.seed + ranks.rank):
            self._encoder, self._decoder = encoder(shape, dtype), decoder(shape, dtype)
        self._variables = self._encoder.trainable_variables + self._decoder.trainable_variables
        self._noise = keras.random.SeedGenerator(setup.seed + ranks.rank)
        rate = 1e-3 if settings.learning_rate == "auto" else settings.learning_rate
        self._rate = rate
        self._optimizer = keras.optimizers.RMSprop(rate, rho=settings.rho, epsilon=settings.epsilon)
        self._optimizer.build(self._variables)
        self.data_parallel, self._sum = gradients.connect(ranks, settings.data_parallel, log)
        self.restore(ranks.broadcast(self.state()))
        self._initial = self.state() if settings.reinitialize else None
        compiled = settings.xla if settings.xla != "auto" else on_gpu
        self.at_once = shape.at_once(settings.batch_size)
        in_parts = self.at_once < settings.batch_size
        self._sums = [tf.Variable(tf.zeros(v.shape)) for v in self._variables] if in_parts else []
        self._weight = 0.0  # of the frames in these sums
        # A pass over the pixels is most of the work for huge maps: without XLA there would be a dozen.
        self._entropy_of = tf.function(entropy, jit_compile=True) if in_parts and settings.xla else entropy
        self._gradients_of = tf.function(self._gradients, jit_compile=compiled)
        self._train_step, self._test_step = tf.function(self._train), tf.function(self._test, jit_compile=compiled)
        self._embed_step = tf.function(self._embed, jit_compile=compiled)
        self._add_step, self._apply_step = tf.function(self._add), tf.function(self._apply)

    def train(self, block: FrameBlock, supervisor: Supervisor) -> Round:
        """One round; see :class:`.rounds.TrainingRound`."""
        self._rounds += 1
        self._forget()
        with resources("cvae", tf.errors.OpError), self._sum:
            return TrainingRound(self, block, self._setup, self._rounds, supervisor).run(self._initial)

    def embed(self, block: FrameBlock) -> np.ndarray:
        """Means of the latents, shape (n_frames, n_latent), float32; the same bits for the same frame and weights."""
        maps = ContactMaps(block, self._shape.size)
        n = self._shape.at_once(EMBED_FRAMES)
        with resources("cvae", tf.errors.OpError):
            means = [self._embed_step(maps.batch(indices)).numpy() for indices, _ in batches(np.arange(len(block)), n)]
        return np.concatenate([np.zeros((0, self.n_latent), np.float32), *means])[: len(block)]

    def weights(self) -> list[np.ndarray]:
        """Copies of all weights, the encoder's first."""
        return [v.numpy() for v in self._variables]

    def load(self, arrays: list[np.ndarray]) -> None:
        """Take the weights of another model of the same architecture."""
        check_shapes(arrays, [tuple(v.shape) for v in self._variables])
        assign(self._variables, arrays)

    def state(self) -> list[np.ndarray]:
        """Copies of the weights and of the optimiser's variables."""
        return [v.numpy() for v in [*self._variables, *self._optimizer.variables]]

    def restore(self, arrays: list[np.ndarray]) -> None:
        """Restore a :meth:`state`, but for the learning rate, which is a variable of the optimiser."""
        variables = [*self._variables, *self._optimizer.variables]
        check_shapes(arrays, [tuple(v.shape) for v in variables])
        assign(variables, arrays)
        self._optimizer.learning_rate = self._rate

    def samples(self, block: FrameBlock) -> ContactMaps:
        """The padded maps of `block`."""
        return ContactMaps(block, self._shape.size)

    def train_batch(self, batch: np.ndarray, weights: np.ndarray, stop: bool) -> tuple[np.ndarray, bool]:
        """One step of the optimiser; see :class:`.rounds.Network`."""
        if not self._sums:
            losses, stops = self._train_step(batch, weights, np.float32(stop))
            return losses.numpy(), bool(stops.numpy() > 0)
        losses = self.begin_batch(batch, weights)
        stops = self._apply_step([s.value() for s in self._sums], np.float32(self._weight), np.float32(stop))
        self._forget()
        return losses, bool(stops.numpy() > 0)

    def begin_batch(self, batch: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Add to the gradients of a step that is not done yet; see :class:`.rounds.Network`."""
        if not weights.any():
            return np.zeros(1 + len(self.terms), np.float32)
        self._weight += float(weights.sum())
        return self._add_step(batch, weights).numpy()

    def test_batch(self, batch: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Summed losses; see :class:`.rounds.Network`."""
        return self._test_step(batch, weights).numpy()

    def _train(self, maps: tf.Tensor, weights: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step of the optimiser on the batches of all ranks: my summed losses, and how many ranks want to stop."""
        parts, losses = self._gradients_of(maps, weights)
        return losses, self._apply(parts, tf.reduce_sum(weights), stop)

    def _apply(self, parts: list[tf.Tensor], weight: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
        """One step down the summed gradients of all ranks' frames of that weight; how many ranks want to stop."""
        *sums, counts = self._sum([*parts, tf.stack([weight, stop])])
        self._optimizer.apply([g / counts[0] for g in sums], self._variables)
        return counts[1]

    def _add(self, maps: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Add the gradients of a part of a batch to those of the parts before it; its summed losses."""
        parts, losses = self._gradients_of(maps, weights)
        for total, part in zip(self._sums, parts, strict=True):
            total.assign_add(part)
        return losses

    def _forget(self) -> None:
        """Start a new batch."""
        self._weight = 0.0
        for total in self._sums:
            total.assign(tf.zeros(total.shape))

    def _gradients(self, maps: tf.Tensor, weights: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Gradients of the summed loss of a batch, and its summed losses."""
        with tf.GradientTape() as tape:
            losses = self._losses(maps, weights, training=True)
            loss = losses[0]
        return tape.gradient(loss, [v.value for v in self._variables]), losses

    def _test(self, maps: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Summed losses of a batch."""
        return self._losses(maps, weights, training=False)

    def _embed(self, maps: tf.Tensor) -> tf.Tensor:
        """Means of the latents of a batch."""
        return self._encoder(tf.cast(maps, tf.float32)[..., None], training=False)[0]

    def _losses(self, maps: tf.Tensor, weights: tf.Tensor, training: bool) -> tf.Tensor:
        """Loss, reconstruction and divergence, summed over the frames by weight; padding of a map does not count."""
        x, n = tf.cast(maps, tf.float32)[..., None], self._shape.n_residues
        mean, log_variance = self._encoder(x, training=training)
        noise = keras.random.normal(tf.shape(mean), seed=self._noise)
        logits = self._decoder(mean + tf.exp(0.5 * log_variance) * noise, training=training)
        reconstruction = self._entropy_of(x[:, :n, :n], logits[:, :n, :n])
        divergence = 0.5 * tf.reduce_sum(mean**2 + tf.exp(log_variance) - 1 - log_variance, axis=1)
        return tf.linalg.matvec(tf.stack([reconstruction + divergence, reconstruction, divergence]), weights)


def entropy(x: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of each map, summed over its pixels, shape (n, size, size, 1) -> (n,)."""
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(x, logits), axis=(1, 2, 3))


def assign(variables: list[keras.Variable], arrays: list[np.ndarray]) -> None:
    """Copy arrays into variables."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
