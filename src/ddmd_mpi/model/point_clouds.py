"""Point clouds of the descriptor atoms: what a window holds of them, and how far two clouds are apart."""

from __future__ import annotations

import numpy as np
import torch

from ..frames.block import FrameBlock
from ..structure.rmsd import superposed

#: Of a step of ``ca_positions``, 0.01 angstrom.
NM = 1e-3

#: Distances that are held at once, 64 MB; but all of one pair of clouds, which are 46 MB at 3375 points.
DISTANCES = 2**24


class PointClouds:
    """The point clouds of the frames of `block`, centred and superposed on a reference.

    Parameters
    ----------
    reference
        Shape (n_residues, 3), 0.01 angstrom, centred; zeros for none: clouds then stay as the simulation turned them.

    Attributes
    ----------
    slow
        False: a batch is picked from the window.
    """

    slow = False

    def __init__(self, block: FrameBlock, reference: np.ndarray):
        self._positions, self._reference = block["ca_positions"], reference

    def __len__(self) -> int:
        return len(self._positions)

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Clouds of the frames at `indices`, shape (n, n_residues, 3), int16, 0.01 angstrom."""
        clouds = self._positions[indices]
        if not self._reference.any():
            return clouds
        turned = superposed(clouds.astype(np.float32), self._reference)
        limits = np.iinfo(np.int16)
        return np.rint(turned).clip(limits.min, limits.max).astype(np.int16)


def chamfer(clouds: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The Chamfer distance of each cloud from the other one beside it (Fan et al., arXiv:1612.00603).

    sum_i min_j |x_i - y_j|^2 + sum_j min_i |x_i - y_j|^2. The neighbours are found without a graph, some frames at a
    time, so that memory is linear in the points but for :data:`DISTANCES`; time is quadratic.

    Parameters
    ----------
    clouds, others
        Shape (n, n_points, 3), nm.

    Returns
    -------
    torch.Tensor
        Shape (n,), nm^2.
    """
    there, back = nearest(clouds.detach(), others.detach())
    to_others = clouds - torch.take_along_dim(others, there[..., None], dim=1)
    to_clouds = others - torch.take_along_dim(clouds, back[..., None], dim=1)
    return (to_others**2).sum(dim=(1, 2)) + (to_clouds**2).sum(dim=(1, 2))


def nearest(clouds: torch.Tensor, others: torch.Tensor, limit: int = DISTANCES) -> tuple[torch.Tensor, torch.Tensor]:
    """For each point the nearest one of the other cloud, and for each of the other's points the nearest of the cloud's.

    Both are indices of shape (n, n_points); at most `limit` distances are held at once, but those of one frame.
    """
    n, there, back = max(1, limit // (clouds.shape[1] * others.shape[1])), [], []
    for some, their in zip(clouds.split(n), others.split(n), strict=True):
        distances = torch.cdist(some, their)
        there.append(distances.argmin(dim=2))
        back.append(distances.argmin(dim=1))
    return torch.cat(there), torch.cat(back)
