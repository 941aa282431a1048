"""Contact maps as compressed rows of the upper triangle, from rounded positions.

Positions are rounded to 0.01 angstrom first. Distances of the rounded integers are exact, so that every consumer that
rebuilds a map from them gets the same bits, whatever library it uses. SciPy is imported for large maps only: a rank
that makes small ones starts half a second of CPU time earlier.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

UNITS_PER_NM = 1000.0  # 0.01 angstrom
UNITS_PER_ANGSTROM = 100.0
LARGEST_RADIUS = 32_767
STRIPS_FROM, TREE_FROM = 64, 500  # residues from which a kernel is the fastest
STRIP = 128  # rows of a map at a time


def round_positions(positions_nm: np.ndarray) -> np.ndarray:
    """Positions, centred, in 0.01 angstrom.

    Parameters
    ----------
    positions_nm
        Shape (n, 3), nm.

    Returns
    -------
    ndarray, int16, shape (n, 3)

    Raises
    ------
    ValueError
        If an atom lies more than 327 angstrom from the centre along an axis, or is not finite.
    """
    scaled = np.multiply(positions_nm, UNITS_PER_NM, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        scaled -= np.add.reduce(scaled) / len(scaled)
    np.rint(scaled, out=scaled)
    extent = max(scaled.max(), -scaled.min())
    if not extent <= LARGEST_RADIUS:
        raise ValueError(f"positions must lie within 327 angstrom of their centre (got {extent / UNITS_PER_ANGSTROM})")
    return scaled.astype(np.int16)


def contact_csr(rounded: np.ndarray, cutoff_angstrom: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs i < j that are nearer than the cutoff.

    Parameters
    ----------
    rounded
        Positions in 0.01 angstrom, int16, shape (n, 3).
    cutoff_angstrom
        Pairs at exactly this distance are not contacts.

    Returns
    -------
    counts : ndarray, uint16, shape (n,)
        Contacts j > i of each residue i.
    columns : ndarray, uint16, shape (n_contacts,)
        Their j, ascending, row after row.
    """
    positions = rounded.astype(np.float64)
    squared_cutoff = (UNITS_PER_ANGSTROM * cutoff_angstrom) ** 2
    if len(rounded) < STRIPS_FROM:
        return _square(positions, squared_cutoff)
    if len(rounded) < TREE_FROM:
        return _strips(positions, squared_cutoff)
    return _near_pairs(positions, squared_cutoff)


def _square(positions: np.ndarray, squared_cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    n = len(positions)
    limits, rows, columns = _square_tables(n, squared_cutoff)
    axes = np.ascontiguousarray(positions.T)
    squares = axes[:, :, None] - axes[:, None]
    squares *= squares
    contacts = (squares[0] + squares[1] + squares[2] < limits).ravel().nonzero()[0]
    return np.bincount(rows[contacts], minlength=n).astype(np.uint16), columns[contacts]


@lru_cache(maxsize=4)
def _square_tables(n: int, squared_cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The limit of each pair's squared distance, which no pair j <= i can meet, and the pairs' rows and columns."""
    limits = np.where(np.triu(np.ones((n, n), bool), 1), squared_cutoff, -1.0)
    return limits, np.repeat(np.arange(n), n), np.tile(np.arange(n, dtype=np.uint16), n)


def _strips(positions: np.ndarray, squared_cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    # A squared distance is |a|^2 - 2 a b + |b|^2, a product of rows of five numbers. All are integers, and exact.
    n = len(positions)
    left, right = np.ones((n, 5)), np.ones((5, n))
    left[:, :3], right[:3] = positions, -2.0 * positions.T
    left[:, 3] = right[4] = np.einsum("ij,ij->i", positions, positions)
    counts, columns = [], []
    for start, upper, column, row_starts in _strip_tables(n):
        near = left[start : start + STRIP] @ right[:, start:] < squared_cutoff
        contacts = np.flatnonzero(near & upper)
        counts.append(np.diff(contacts.searchsorted(row_starts)))
        columns.append(column[contacts])
    return np.concatenate(counts).astype(np.uint16), np.concatenate(columns)


@lru_cache(maxsize=4)
def _strip_tables(n: int) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each strip: its first row and column, which pairs are i < j, their columns, and where its rows start."""
    tables = []
    for start in range(0, n, STRIP):
        height, width = min(STRIP, n - start), n - start
        columns = np.tile(np.arange(start, n, dtype=np.uint16), height)
        tables.append((start, np.triu(np.ones((height, width), bool), 1), columns, np.arange(height + 1) * width))
    return tables


def _near_pairs(positions: np.ndarray, squared_cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial import cKDTree

    # The squared distances are integers: half a unit below the next one keeps the comparison strict and exact.
    n = len(positions)
    radius = np.sqrt(np.ceil(squared_cutoff) - 0.5)
    tree = cKDTree(positions, leafsize=24, compact_nodes=False, balanced_tree=False)
    pairs = tree.query_pairs(radius, output_type="ndarray")
    keys = np.sort(pairs[:, 0] * n + pairs[:, 1])
    rows = keys // n
    return np.bincount(rows, minlength=n).astype(np.uint16), (keys - rows * n).astype(np.uint16)


def dense(
    counts: np.ndarray,
    columns: np.ndarray,
    size: int | None = None,
    out: np.ndarray | None = None,
    dtype: type = np.uint8,
) -> np.ndarray:
    """Symmetric maps with ones on the diagonal.

    Parameters
    ----------
    counts, columns
        Compressed rows of n_frames maps: shapes (n_frames, n) and (n_contacts,).
    size
        Residues of the maps, n by default; more than n are padded with zeros.
    out
        C-contiguous array of shape (n_frames, size, size) to fill in place of a new one of `dtype`.
    """
    n_frames, n = counts.shape
    size = n if size is None else size
    maps = np.empty((n_frames, size, size), dtype) if out is None else out
    maps.fill(0)
    diagonal = np.arange(n)
    maps[:, diagonal, diagonal] = 1
    flat, lengths = maps.reshape(-1), counts.ravel()
    frames = np.arange(n_frames)[:, None] * size**2
    upper = np.repeat((frames + diagonal * size).ravel(), lengths)
    lower = np.repeat((frames + diagonal).ravel(), lengths)
    flat[upper + columns] = 1
    flat[lower + columns.astype(np.intp) * size] = 1
    return maps
