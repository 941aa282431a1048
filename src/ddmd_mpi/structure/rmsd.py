"""Root-mean-square deviation after the best superposition by a proper rotation."""

from __future__ import annotations

import numpy as np


def superposed_rmsd(positions: np.ndarray, reference: np.ndarray) -> np.ndarray | float:
    """Superposed RMSD of one or many structures to a reference.

    Only proper rotations superpose: a structure and its mirror image differ.

    Parameters
    ----------
    positions
        Shape (n, 3) or (n_frames, n, 3), any unit of length.
    reference
        Shape (n, 3), the same unit.

    Returns
    -------
    float or ndarray, shape (n_frames,)
        RMSD in that unit.

    Notes
    -----
    W. Kabsch, Acta Cryst. A32, 922 (1976), doi:10.1107/S0567739476001873: the best overlap is the sum of the singular
    values of the covariance, the smallest with the sign of its determinant.
    """
    n = positions.shape[-2]
    x = positions - positions.sum(axis=-2, keepdims=True, dtype=np.float64) / n
    y = reference - reference.sum(axis=0, dtype=np.float64) / n
    covariance = np.matmul(np.swapaxes(x, -1, -2), y)
    singular = np.linalg.svd(covariance, compute_uv=False)
    overlap = singular[..., 0] + singular[..., 1] + np.copysign(singular[..., 2], np.linalg.det(covariance))
    squares = np.square(x).sum(axis=(-1, -2)) + np.square(y).sum() - 2.0 * overlap
    rmsd = np.sqrt(np.maximum(squares, 0.0) / n)
    return float(rmsd) if positions.ndim == 2 else rmsd
