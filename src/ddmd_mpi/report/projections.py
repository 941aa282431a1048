"""Latents in two dimensions: principal components, or t-SNE or UMAP where they are asked for."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from ..errors import InputError

PROJECTIONS = ("pca", "tsne", "umap")
#: Neighbours that t-SNE and UMAP look at; a set of fewer points has fewer.
NEIGHBOURS = 30


class Projection(NamedTuple):
    """Points in the plane, shape (n, 2), the labels of its axes, and how they were found, in words."""

    points: np.ndarray
    labels: tuple[str, str]
    words: str


def project(latents: np.ndarray, how: str = "pca", seed: int = 0) -> Projection:
    """Latents in the plane.

    Parameters
    ----------
    latents
        Shape (n, n_latent), float64.
    how
        One of :data:`PROJECTIONS`.

    Raises
    ------
    InputError
        If UMAP is not installed, or there are too few points.
    """
    if how == "pca":
        points, shares = principal_components(latents)
        labels = tuple(f"component {i + 1} ({100 * share:.0f} % of the variance)" for i, share in enumerate(shares))
        return Projection(points, (labels[0], labels[1]), "The first two principal components")
    neighbours = min(NEIGHBOURS, (len(latents) - 1) // 3)
    if neighbours < 2:
        raise InputError(f"{len(latents)} frames are too few for {how}: take the principal components")
    if how == "tsne":
        from sklearn.manifold import TSNE

        points = TSNE(perplexity=neighbours, init="pca", random_state=seed).fit_transform(latents)
        return Projection(points, ("t-SNE 1", "t-SNE 2"), "t-SNE (distances between groups mean little)")
    if find_spec("umap") is None:
        raise InputError("UMAP is not installed: pip install umap-learn, or take another --projection")
    from umap import UMAP

    points = UMAP(n_neighbors=neighbours, random_state=seed).fit_transform(latents)
    return Projection(points, ("UMAP 1", "UMAP 2"), "UMAP (distances between groups mean little)")


def principal_components(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components of points, shape (n, 2), and the shares of the variance along them."""
    centred = latents - latents.mean(axis=0)
    _, widths, axes = np.linalg.svd(centred, full_matrices=False)
    components = np.zeros((len(latents), 2))
    components[:, : len(axes)] = centred @ axes[:2].T
    shares = widths**2 / max(float((widths**2).sum()), 1e-300)
    return components, np.append(shares, 0.0)[:2]
