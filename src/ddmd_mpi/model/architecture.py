"""The layers of the convolutional variational autoencoder, by the size of the system (section IV-D of the paper)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from ..sections import TrainingSection

#: Residues up to which a map counts as small; the paper names 28 as small and 309 as large.
LARGEST_SMALL_MAP = 64


@dataclass(frozen=True)
class Architecture:
    """Encoder: one convolution per kernel, a dense layer, the latents; the decoder is its mirror image."""

    n_residues: int
    filters: int
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    dense_units: int
    dropout: float
    latent_dimensions: int

    @property
    def size(self) -> int:
        """Residues of the padded map: the next multiple of the total stride."""
        stride = prod(self.strides)
        return -(-self.n_residues // stride) * stride

    @property
    def smallest(self) -> int:
        """Side of the last convolution's output."""
        return self.size // prod(self.strides)

    def describe(self) -> dict[str, Any]:
        """All numbers, for a model's metadata."""
        return {"model": "cvae", "size": self.size, **asdict(self)}


def architecture(settings: TrainingSection, n_residues: int) -> Architecture:
    """The paper's layers: small maps 64 filters and one stride, large maps 32 filters and strides everywhere."""
    if n_residues <= LARGEST_SMALL_MAP:
        filters, kernels, strides = 64, (3, 3, 3, 3), (1, 2, 1, 1)
    else:
        filters, kernels, strides = 32, (5, 3, 3, 3), (2, 2, 2, 2)
    filters = filters if settings.filters == "auto" else settings.filters
    return Architecture(
        n_residues, filters, kernels, strides, settings.dense_units, settings.dropout, settings.latent_dimensions
    )
