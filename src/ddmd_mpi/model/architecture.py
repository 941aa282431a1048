"""What the built-in models are made of, by the settings and the size of the system; no library is needed to say it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from ..sections import TrainingSection

#: Residues up to which a map counts as small; the paper names 28 as small and 309 as large.
LARGEST_SMALL_MAP = 64
LATENT_DIMENSIONS = 10


@dataclass(frozen=True)
class Architecture:
    """The convolutional variational autoencoder (section IV-D of the paper). Encoder: one convolution per kernel, a dense layer, the latents; the decoder is its mirror image."""

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
    n_latent = LATENT_DIMENSIONS if settings.latent_dimensions == "auto" else settings.latent_dimensions
    return Architecture(n_residues, filters, kernels, strides, settings.dense_units, settings.dropout, n_latent)


def cvae(settings: TrainingSection, n_residues: int) -> dict[str, Any]:
    """The autoencoder of contact maps."""
    return architecture(settings, n_residues).describe()


def aae(settings: TrainingSection, n_residues: int) -> dict[str, Any]:
    """The adversarial autoencoder of point clouds."""
    n_latent = 64 if settings.latent_dimensions == "auto" else settings.latent_dimensions
    return {"model": "aae", "n_residues": n_residues, "latent_dimensions": n_latent}


def pca(settings: TrainingSection, n_residues: int) -> dict[str, Any]:
    """Principal components of the contact map."""
    n_latent = LATENT_DIMENSIONS if settings.latent_dimensions == "auto" else settings.latent_dimensions
    return {"model": "pca", "n_residues": n_residues, "latent_dimensions": n_latent}
