"""A compact, self-avoiding, protein-like C-alpha chain of any length: a stand-in for the size of a large protein.

The chain grows by helices, strands and loops from its middle outwards: of many continuations that touch nothing, the
one that stays nearest to the centre is taken, and a dead end is left by going back.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

BOND = 3.8  # angstrom, between consecutive beads
CLEARANCE = 4.0  # angstrom, between beads three or more apart along the chain
N_TRIES = 96  # continuations; with these there are 5.8 contacts below 8 angstrom a residue, as in large proteins
MAX_BACK = 60  # beads that are taken back at a time, at most


class Element(NamedTuple):
    """A secondary structure as seen by C-alpha atoms: means and spreads of its angles, degree, and its lengths."""

    angle: float
    angle_spread: float
    dihedral: float
    dihedral_spread: float
    shortest: int
    longest: int


# Means of folded proteins: M. Levitt, J. Mol. Biol. 104, 59 (1976), doi:10.1016/0022-2836(76)90004-8.
HELIX = Element(91.0, 2.0, 50.0, 4.0, 8, 18)
STRAND = Element(123.0, 6.0, -170.0, 12.0, 4, 9)
LOOP = Element(110.0, 13.0, 0.0, 120.0, 2, 7)
ELEMENTS = (HELIX, LOOP, STRAND, LOOP)


def compact_chain(n: int, seed: int) -> np.ndarray:
    """Bead positions, angstrom, centred, shape (n, 3); the same for the same seed.

    Consecutive beads are 3.8 angstrom apart, beads three or more apart along the chain at least 4.0.
    """
    rng = np.random.default_rng(seed)
    chain = np.array([[0.0, 0.0, 0.0], [BOND, 0.0, 0.0], [BOND * 1.3, BOND * np.sqrt(0.91), 0.0]])
    failures, k = 0, 0
    while len(chain) < n:
        added = extension(chain, ELEMENTS[k % len(ELEMENTS)], rng)
        if added is None:
            failures += 1
            chain = chain[: max(3, len(chain) - int(rng.integers(1, min(MAX_BACK, 4 * failures) + 1)))]
        else:
            failures, chain = max(0, failures - 1), np.concatenate([chain, added])
        k += 1
    return chain[:n] - chain[:n].mean(axis=0)


def extension(chain: np.ndarray, element: Element, rng: np.random.Generator) -> np.ndarray | None:
    """The beads of one more element, shape (m, 3): the clear way nearest to the origin; None if all are barred."""
    m = int(rng.integers(element.shortest, element.longest + 1))
    angles = np.radians(rng.normal(element.angle, element.angle_spread, (N_TRIES, m)).clip(85, 150))
    dihedrals = np.radians(rng.normal(element.dihedral, element.dihedral_spread, (N_TRIES, m)))
    dihedrals[:, :2] = rng.uniform(-np.pi, np.pi, (N_TRIES, min(2, m)))  # the turn into the element
    tries = np.repeat(chain[None, -3:], N_TRIES, axis=0)
    for k in range(m):
        tries = np.concatenate([tries, placed(tries[:, -3:], angles[:, k], dihedrals[:, k])[:, None]], axis=1)
    clear = np.flatnonzero(self_avoiding(tries))
    if len(chain) > 3 and len(clear):
        distance, _ = cKDTree(chain[:-3]).query(tries[clear][:, 3:], distance_upper_bound=CLEARANCE)
        clear = clear[np.isinf(distance).all(axis=1)]
    if not len(clear):
        return None
    remoteness = np.linalg.norm(tries[clear][:, 3:], axis=2).mean(axis=1)
    return tries[clear[np.argmin(remoteness)], 3:]


def placed(last: np.ndarray, angles: np.ndarray, dihedrals: np.ndarray) -> np.ndarray:
    """The next bead of each of n chains whose last three are given, shape (n, 3, 3) -> (n, 3); angles in radian."""
    forward = unit(last[:, 2] - last[:, 1])
    normal = unit(np.cross(last[:, 1] - last[:, 0], forward))
    side = np.cross(normal, forward)
    along, across = -np.cos(angles), np.sin(angles)
    step = along[:, None] * forward + across[:, None] * (
        np.cos(dihedrals)[:, None] * side + np.sin(dihedrals)[:, None] * normal
    )
    return last[:, 2] + BOND * step


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors with the length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def self_avoiding(tries: np.ndarray) -> np.ndarray:
    """Whether each short chain keeps its own beads apart, shape (n, m, 3) -> (n,)."""
    first, second = np.triu_indices(tries.shape[1], 3)
    distance = np.linalg.norm(tries[:, first] - tries[:, second], axis=2)
    return (distance >= CLEARANCE).all(axis=1)
