"""What the built-in models are made of, by the settings and the size of the system; no library is needed to say it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from ..errors import ModelError
from ..sections import TrainingSection

#: Residues up to which a map counts as small; the paper names 28 as small and 309 as large.
LARGEST_SMALL_MAP = 64
LATENT_DIMENSIONS = 10
#: Residues up to which principal components are worth their memory: half a million pairs.
LARGEST_PCA = 1000

#: Residues from which batches of maps are refused; the activations take about 90 bytes a pixel and frame.
LARGEST_MAP = 1500


@dataclass(frozen=True)
class Architecture:
    """The convolutional variational autoencoder (section IV-D of the paper). Encoder: one convolution per kernel, a
    dense layer, the latents; the decoder is its mirror image.
    """

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
        """All numbers that weights depend on, for a model's metadata."""
        numbers = {"model": "cvae", "size": self.size, **asdict(self)}
        del numbers["dropout"]
        return numbers


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
    """The autoencoder of contact maps.

    Raises
    ------
    ModelError
        For maps whose batches would not fit into memory.
    """
    if n_residues > LARGEST_MAP:
        memory = 90 * n_residues**2 * settings.batch_size / 1e9
        raise ModelError(f"training.model cvae needs at least {memory:.0f} GB for a batch of {settings.batch_size} "
                         f"maps of {n_residues} residues: set training.model to aae, which is linear in residues")
    return architecture(settings, n_residues).describe()


@dataclass(frozen=True)
class PointArchitecture:
    """The adversarial autoencoder of point clouds, 3dAAE (Zamorski et al., arXiv:1811.07605, with the numbers that
    DeepDriveMD publishes for proteins). No setting but the latent dimensions changes it.
    """

    n_residues: int
    latent_dimensions: int
    filters: tuple[int, ...] = (64, 128, 256, 256, 512)
    kernels: tuple[int, ...] = (5, 5, 3, 1, 1)
    encoder_units: int = 256
    generator_units: tuple[int, ...] = (64, 128, 512, 1024)
    critic_units: tuple[int, ...] = (512, 512, 128, 64)

    @property
    def field(self) -> int:
        """Consecutive residues that the last convolution sees at once."""
        return 1 + sum(kernel - 1 for kernel in self.kernels)

    def describe(self) -> dict[str, Any]:
        """All numbers, for a model's metadata."""
        return {"model": "aae", **asdict(self)}


def point_architecture(settings: TrainingSection, n_residues: int) -> PointArchitecture:
    """The published layers, with the latent dimensions of the settings."""
    return PointArchitecture(n_residues, 64 if settings.latent_dimensions == "auto" else settings.latent_dimensions)


def aae(settings: TrainingSection, n_residues: int) -> dict[str, Any]:
    """The adversarial autoencoder of point clouds."""
    return point_architecture(settings, n_residues).describe()


def pca(settings: TrainingSection, n_residues: int) -> dict[str, Any]:
    """Principal components of the contact map.

    Raises
    ------
    ModelError
        If the map is too large, or has fewer pairs than there are to be components.
    """
    n_pairs = n_residues * (n_residues - 1) // 2
    if n_residues > LARGEST_PCA:
        raise ModelError(f"training.model pca takes at most {LARGEST_PCA} residues (got {n_residues}): choose cvae, or "
                         "aae for very large systems")
    n_latent = settings.latent_dimensions
    n_latent = min(LATENT_DIMENSIONS, n_pairs) if n_latent == "auto" else n_latent
    if not 1 <= n_latent <= n_pairs:
        raise ModelError(f"training.latent_dimensions is {n_latent}, and a contact map of {n_residues} residues has "
                         f"{n_pairs} pairs: choose another training.model, or fewer dimensions")
    return {"model": "pca", "n_residues": n_residues, "latent_dimensions": n_latent}
