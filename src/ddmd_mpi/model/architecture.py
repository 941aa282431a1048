"""What the built-in models are made of, by the settings and the size of the system; no library is needed to say it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import log, prod
from typing import Any

import numpy as np

from ..config.schema import TrainingSection
from ..errors import ModelError

#: Residues up to which a map counts as small; the paper names 28 as small and 309 as large.
LARGEST_SMALL_MAP = 64
LATENT_DIMENSIONS = 10
#: Residues up to which principal components are worth their memory: half a million pairs.
LARGEST_PCA = 1000
#: Residues whose distances tica sees, at most: a thousand pairs.
TICA_RESIDUES = 46

#: Residues from which a map is huge: strides that take it to a few pixels, as published for spike, not to hundreds.
LARGEST_LARGE_MAP = 1500
#: Pixels of a large protein's map that are contacts, a residue: 5.9 below 8 angstrom on either side, and itself.
CONTACTS_PER_RESIDUE = 12.8
#: Pixels of padded maps that are on their way through the network at a time; training takes about 90 bytes for each.
PIXELS_AT_ONCE = 2**23


@dataclass(frozen=True)
class Architecture:
    """The convolutional variational autoencoder (section IV-D of the paper).

    Encoder: one convolution per kernel, a dense layer, the latents; the decoder is its mirror image.
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

    @property
    def first_logit(self) -> float:
        """Logit of every pixel before training: even, and for huge maps as sparse as maps are.

        Of a million even pixels nothing else would be learnt in the few steps that there is time for.
        """
        if self.n_residues <= LARGEST_LARGE_MAP:
            return 0.0
        density = CONTACTS_PER_RESIDUE / self.n_residues
        return log(density / (1 - density))

    def at_once(self, n_frames: int) -> int:
        """Frames of `n_frames` that pass through the network at a time, to save memory: a divisor of their number."""
        most = max(1, PIXELS_AT_ONCE // self.size**2)
        return max(n for n in range(1, n_frames + 1) if n_frames % n == 0 and n <= most)

    def describe(self) -> dict[str, Any]:
        """All numbers that weights depend on, for a model's metadata."""
        numbers = {"model": "cvae", "size": self.size, **asdict(self)}
        del numbers["dropout"]
        return numbers


def architecture(settings: TrainingSection, n_residues: int) -> Architecture:
    """The paper's layers: small maps 64 filters and one stride, large maps 32 filters and strides everywhere.

    Huge maps have 64 filters and the strides that DeepDriveMD publishes for spike; kernels are as small as they can be
    without leaving pixels out.
    """
    if n_residues <= LARGEST_SMALL_MAP:
        filters, kernels, strides = 64, (3, 3, 3, 3), (1, 2, 1, 1)
    elif n_residues <= LARGEST_LARGE_MAP:
        filters, kernels, strides = 32, (5, 3, 3, 3), (2, 2, 2, 2)
    else:
        filters, kernels, strides = 64, (9, 5, 5, 5), (8, 4, 4, 4)
    filters = filters if settings.filters == "auto" else settings.filters
    n_latent = LATENT_DIMENSIONS if settings.latent_dimensions == "auto" else settings.latent_dimensions
    return Architecture(n_residues, filters, kernels, strides, settings.dense_units, settings.dropout, n_latent)


def cvae(settings: TrainingSection, n_residues: int) -> dict[str, Any]:
    """The autoencoder of contact maps."""
    return architecture(settings, n_residues).describe()


@dataclass(frozen=True)
class PointArchitecture:
    """The adversarial autoencoder of point clouds, 3dAAE (Zamorski et al., arXiv:1811.07605).

    Its numbers are those that DeepDriveMD publishes for proteins. No setting but the latent dimensions changes it.
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
        raise ModelError(
            f"training.model pca takes at most {LARGEST_PCA} residues (got {n_residues}): choose cvae, or "
            "aae for very large systems"
        )
    wanted = settings.latent_dimensions
    n_latent = min(LATENT_DIMENSIONS, n_pairs) if wanted == "auto" else wanted
    if not 1 <= n_latent <= n_pairs:
        raise ModelError(
            f"training.latent_dimensions is {n_latent}, and a contact map of {n_residues} residues has "
            f"{n_pairs} pairs: choose another training.model, or fewer dimensions"
        )
    return {"model": "pca", "n_residues": n_residues, "latent_dimensions": n_latent}


def tica(settings: TrainingSection, n_residues: int) -> dict[str, Any]:
    """Time-lagged independent components of distances; ``lag`` counts reports, None is a share of a segment.

    Raises
    ------
    ModelError
        If an option is unknown, or there are fewer distances than there are to be components.
    """
    unknown = sorted(settings.options.keys() - {"lag"})
    lag = settings.options.get("lag")
    if unknown or not (lag is None or (type(lag) is int and lag >= 1)):
        raise ModelError(
            f"training.options of tica may have lag, a whole number of reports of at least 1 (got {settings.options})"
        )
    n_pairs = len(lagged_pairs(n_residues)[0])
    wanted = settings.latent_dimensions
    n_latent = min(LATENT_DIMENSIONS, n_pairs) if wanted == "auto" else wanted
    if not 1 <= n_latent <= n_pairs:
        raise ModelError(
            f"training.latent_dimensions is {n_latent}, and tica has {n_pairs} distances of {n_residues} residues: "
            "choose another training.model, or fewer dimensions"
        )
    return {"model": "tica", "n_residues": n_residues, "latent_dimensions": n_latent, "lag": lag}


def lagged_pairs(n_residues: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of residues whose distances tica sees, three or more apart in an evenly spaced selection."""
    chosen = np.unique(np.linspace(0, n_residues - 1, TICA_RESIDUES).round().astype(int))
    first, second = np.triu_indices(len(chosen), 3)
    return chosen[first], chosen[second]
