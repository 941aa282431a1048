"""Rounds of training: what one reports, whether its weights are published, and how frames are split into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..sections import TrainingSection


@dataclass(frozen=True)
class Losses:
    """Means over frames of the loss and its two terms, in nats."""

    loss: float
    reconstruction: float  # binary cross-entropy, summed over the map
    divergence: float  # Kullback-Leibler to N(0, 1), summed over the latent dimensions


@dataclass(frozen=True)
class Epoch:
    """One pass over the training frames."""

    training: Losses
    validation: Losses
    seconds: float

    @property
    def finite(self) -> bool:
        """Whether both losses are."""
        return bool(np.isfinite([self.training.loss, self.validation.loss]).all())


@dataclass(frozen=True)
class Round:
    """One round of training. The losses are those of the epoch whose weights were kept; NaN if none was finished."""

    epochs: int  # finished ones
    samples: int  # training frames seen, over all epochs
    loss: float
    validation_loss: float
    finite: bool  # False: a loss was not finite, and the model has the weights it had before the round
    stopped: bool
    history: tuple[Epoch, ...] = ()


def publishable(result: Round, settings: TrainingSection) -> bool:
    """Whether the round's weights may steer: finite, and with a validation loss below the guard."""
    return result.finite and bool(result.validation_loss <= settings.max_validation_loss)


def split(n_frames: int, validation_fraction: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled indices of the training frames and of the validation frames; at least one frame trains."""
    order = generator.permutation(n_frames)
    n_validation = min(round(validation_fraction * n_frames), n_frames - 1)
    return order[n_validation:], order[:n_validation]


def batches(indices: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of one size, so that a compiled step never compiles again: (indices, weights 1 or 0 for padding)."""
    for start in range(0, len(indices), batch_size):
        batch = indices[start : start + batch_size]
        weights = (np.arange(batch_size) < len(batch)).astype(np.float32)
        yield np.resize(batch, batch_size), weights
