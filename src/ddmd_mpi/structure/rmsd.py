"""Root-mean-square deviation after the best superposition by a proper rotation."""

from __future__ import annotations

import numpy as np

# B. K. P. Horn, J. Opt. Soc. Am. A 4, 629 (1987), doi:10.1364/JOSAA.4.000629: the overlap under the best rotation is
# the largest eigenvalue of a symmetric 4 x 4 matrix whose elements are sums of the covariances xx, xy, xz, yx, ... zz.
_HORN = (
    ("xx+yy+zz", "yz-zy", "zx-xz", "xy-yx"),
    ("yz-zy", "xx-yy-zz", "xy+yx", "zx+xz"),
    ("zx-xz", "xy+yx", "yy-xx-zz", "yz+zy"),
    ("xy-yx", "zx+xz", "yz+zy", "zz-xx-yy"),
)


def _coefficients(terms: str) -> list[float]:
    """Coefficient of each covariance, xx to zz, in an element of Horn's matrix."""
    signed = terms if terms[0] in "+-" else f"+{terms}"
    signs = {signed[i + 1 : i + 3]: 1.0 if signed[i] == "+" else -1.0 for i in range(0, len(signed), 3)}
    return [signs.get(a + b, 0.0) for a in "xyz" for b in "xyz"]


HORN = np.array([_coefficients(terms) for row in _HORN for terms in row]).T  # shape (9, 16)


def best_rotation(positions: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Proper rotations R for which positions @ R lie nearest to the reference.

    W. Kabsch, Acta Cryst. A 32, 922 (1976), doi:10.1107/S0567739476001873.

    Parameters
    ----------
    positions
        Shape (..., n, 3), centred.
    reference
        Shape (n, 3), centred, the same unit of length.

    Returns
    -------
    ndarray, shape (..., 3, 3)
    """
    u, _, v = np.linalg.svd(positions.swapaxes(-1, -2) @ reference)
    u[..., -1] *= np.sign(np.linalg.det(u @ v))[..., None]
    return u @ v


def superposed(positions: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Structures turned, each by :func:`best_rotation`, so that they lie nearest to a reference.

    Parameters
    ----------
    positions
        Shape (n_frames, n, 3), centred.
    reference
        Shape (n, 3), centred.

    Returns
    -------
    ndarray, shape (n_frames, n, 3)
    """
    return positions @ best_rotation(positions, reference)


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
    """
    n = len(reference)
    x = positions - np.add.reduce(positions, axis=-2, keepdims=True, dtype=np.float64) / n
    y = reference - np.add.reduce(reference, axis=0, dtype=np.float64) / n
    covariance = x.swapaxes(-1, -2) @ y
    horn = (covariance.reshape(*x.shape[:-2], 9) @ HORN).reshape(*x.shape[:-2], 4, 4)
    overlap = np.linalg.eigvalsh(horn)[..., -1]
    squares = np.einsum("...ij,...ij->...", x, x) + np.vdot(y, y) - 2.0 * overlap
    rmsd = np.sqrt(np.maximum(squares, 0.0) / n)
    return float(rmsd) if positions.ndim == 2 else rmsd
