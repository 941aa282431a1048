"""Latents of the window, always of one model version; only frames that are new to that version are embedded."""

from __future__ import annotations

import numpy as np

from ..frames import FrameBlock
from ..model import Model, ModelWeights


class Embedding:
    """A model, and the latents of the frames that it was given last.

    Parameters
    ----------
    model
        Where the weights go.
    """

    def __init__(self, model: Model):
        self.version = 0
        self._model = model
        self._forget()

    def load(self, weights: ModelWeights) -> None:
        """Take newer weights; every latent of the older ones is forgotten."""
        self._model.load(weights.arrays)
        self.version = weights.version
        self._forget()

    def embed(self, block: FrameBlock) -> np.ndarray:
        """Latents of every frame of `block`, shape (n_frames, n_latent), float32."""
        keys = (block["simulation"].astype(np.int64) << 40) | block["frame"]
        known = np.isin(keys, self._keys)
        latents = np.empty((len(block), self._model.n_latent), np.float32)
        latents[known] = self._latents[np.searchsorted(self._keys, keys[known])]
        if not known.all():
            latents[~known] = self._model.embed(block.take(~known))
        order = np.argsort(keys)
        self._keys, self._latents = keys[order], latents[order]
        return latents

    def _forget(self) -> None:
        self._keys = np.zeros(0, np.int64)
        self._latents = np.zeros((0, self._model.n_latent), np.float32)
