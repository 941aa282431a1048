"""Order parameters that a config may declare: `FUNCTIONS` names them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from . import ANGSTROM_PER_NM

NATIVE_CUTOFF = 0.8  # nm
NATIVE_SEPARATION = 3
SWITCHING_STEEPNESS = 50.0  # 1/nm
SWITCHING_TOLERANCE = 1.2


def radius_of_gyration(positions_nm: np.ndarray, _reference_nm: np.ndarray, residues: tuple[int, ...] = ()) -> float:
    """Radius of gyration of the descriptor atoms (of `residues` only, when given), angstrom."""
    x = positions_nm[list(residues)] if residues else positions_nm
    x = x - np.add.reduce(x) / len(x)
    return ANGSTROM_PER_NM * float(np.sqrt(np.vdot(x, x) / len(x)))


def fraction_of_native_contacts(
    positions_nm: np.ndarray, reference_nm: np.ndarray, _residues: tuple[int, ...] = ()
) -> float:
    """Fraction of the reference's contacts that are formed, 0 to 1.

    The soft count of R. B. Best, G. Hummer, W. A. Eaton, PNAS 110, 17874 (2013), doi:10.1073/pnas.1311599110, with a
    steepness of 5 per angstrom; tolerance 1.2 as is usual between C-alpha atoms. Contacts of the reference are pairs
    below 8 angstrom that are three or more apart along the chain. 0 if the reference has none.
    """
    first, second, longest = _native_pairs(reference_nm.tobytes(), reference_nm.dtype.str)
    if not len(first):
        return 0.0
    x = positions_nm[first] - positions_nm[second]
    excess = np.sqrt(np.einsum("ij,ij->i", x, x)) - longest
    formed = 1.0 / (1.0 + np.exp(np.minimum(SWITCHING_STEEPNESS * excess, 700.0)))
    return float(np.add.reduce(formed) / len(formed))


@lru_cache(maxsize=8)
def _native_pairs(reference: bytes, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contacts of a reference: both residues, and the distance, nm, at which each counts one half."""
    x = np.frombuffer(reference, dtype).reshape(-1, 3).astype(np.float64)
    found = [
        np.flatnonzero(np.linalg.norm(x[i + NATIVE_SEPARATION :] - x[i], axis=1) < NATIVE_CUTOFF) for i in range(len(x))
    ]
    first = np.repeat(np.arange(len(x)), [len(later) for later in found])
    second = first + NATIVE_SEPARATION + np.concatenate(found)
    return first, second, SWITCHING_TOLERANCE * np.linalg.norm(x[first] - x[second], axis=1)


def distance(positions_nm: np.ndarray, _reference_nm: np.ndarray, residues: tuple[int, ...]) -> float:
    """Distance between the descriptor atoms of two residues, angstrom."""
    first, second = residues
    return ANGSTROM_PER_NM * float(np.linalg.norm(positions_nm[first] - positions_nm[second]))


def handedness(positions_nm: np.ndarray, reference_nm: np.ndarray, _residues: tuple[int, ...] = ()) -> float:
    """Likeness of the chain's local twists to the reference's: 1 for the reference, -1 for its mirror image.

    The twist at each four consecutive descriptor atoms is the triple product of the three steps between them; the
    order parameter is the projection of all twists on those of the reference. Contact maps cannot tell mirror images.
    """
    native = _twists(reference_nm)
    norm = native @ native
    return float(_twists(positions_nm) @ native / norm) if norm > 0 else 0.0


def _twists(x: np.ndarray) -> np.ndarray:
    steps = np.diff(x, axis=0)
    return np.einsum("ij,ij->i", np.cross(steps[:-2], steps[1:-1]), steps[2:])


def dihedral(positions_nm: np.ndarray, _reference_nm: np.ndarray, residues: tuple[int, ...]) -> float:
    """Dihedral angle of the descriptor atoms of four residues, degrees, -180 to 180, by the IUPAC's sign."""
    first, axis, last = np.diff(positions_nm[list(residues)], axis=0)
    before, after = np.cross(first, axis), np.cross(axis, last)
    return float(np.degrees(np.arctan2(np.linalg.norm(axis) * (first @ after), before @ after)))


def end_to_end(positions_nm: np.ndarray, _reference_nm: np.ndarray, residues: tuple[int, ...] = ()) -> float:
    """Distance between the first and the last descriptor atom (of `residues` only, when given), angstrom."""
    ends = residues or (0, len(positions_nm) - 1)
    return distance(positions_nm, _reference_nm, (ends[0], ends[-1]))


def contacts(x_nm: np.ndarray, y_nm: np.ndarray, cutoff_nm: float) -> float:
    """Pairs of descriptor atoms, one of each group, shapes (n, 3) and (m, 3), that are closer than the cutoff."""
    return float(np.count_nonzero(np.square(x_nm[:, None] - y_nm).sum(axis=2) < cutoff_nm**2))


def centre_distance(x_nm: np.ndarray, y_nm: np.ndarray) -> float:
    """Distance between the centres of two groups of descriptor atoms, shapes (n, 3) and (m, 3), angstrom."""
    return ANGSTROM_PER_NM * float(np.linalg.norm(x_nm.mean(axis=0) - y_nm.mean(axis=0)))


#: kind -> function(positions_nm (n, 3), reference_nm (n, 3), residues) -> float
FUNCTIONS: dict[str, Callable[[np.ndarray, np.ndarray, tuple[int, ...]], float]] = {
    "radius_of_gyration": radius_of_gyration,
    "fraction_of_native_contacts": fraction_of_native_contacts,
    "distance": distance,
    "dihedral": dihedral,
    "end_to_end": end_to_end,
    "handedness": handedness,
}
