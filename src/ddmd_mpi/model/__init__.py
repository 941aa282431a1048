"""The model that embeds contact maps: rounds of training, latents, versioned weights. The only room with TensorFlow.

Importing it imports NumPy alone; :func:`create` imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..frames import FrameBlock
from ..sections import TrainingSection
from .training import Epoch, Round, publishable
from .weights import ModelWeights

__all__ = ["Epoch", "Model", "ModelWeights", "Round", "create", "publishable"]


class Model(Protocol):
    """What training and inference need of a model."""

    architecture: dict[str, Any]

    def train(self, block: FrameBlock, stop: Callable[[], bool], between_batches: Callable[[], None]) -> Round:
        """One round on the frames of `block`; the model goes on from its present weights."""

    def embed(self, block: FrameBlock) -> np.ndarray:
        """Latents of the frames of `block`, shape (n_frames, n_latent), float32."""

    def weights(self) -> list[np.ndarray]:
        """Copies of all weights."""

    def load(self, arrays: list[np.ndarray]) -> None:
        """Take the weights of another model of the same architecture."""


def create(settings: TrainingSection, n_residues: int, seed: int, gpu: int | None = None) -> Model:
    """A new model for frames of `n_residues` residues. Imports TensorFlow: seconds, and 500 MB.

    Parameters
    ----------
    settings
        Architecture, optimiser, rounds and threads.
    seed
        Of the first weights, the splits, dropout and the latent noise.
    gpu
        Index among the GPUs that this process sees; None for the CPU.
    """
    from .backend import start

    start(settings.threads, gpu)
    from .cvae import Cvae

    return Cvae(settings, n_residues, seed)
