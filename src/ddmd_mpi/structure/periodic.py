"""Molecules in a periodic box: made whole if the box cuts them, and moved to the same place."""

from __future__ import annotations

import numpy as np

from .ligand_pose import nearest_image


def molecules_of(n_atoms: int, bonds: np.ndarray) -> np.ndarray:
    """Index of the molecule of every atom, shape (n_atoms,).

    Parameters
    ----------
    n_atoms
        Number of atoms.
    bonds
        Pairs of atoms, shape (n_bonds, 2).
    """
    first, second = np.asarray(bonds, int).reshape(-1, 2).T
    found = np.arange(n_atoms)  # of each atom one of its molecule with a lower or the same number
    while (found[first] != found[second]).any():
        low, high = np.minimum(found[first], found[second]), np.maximum(found[first], found[second])
        np.minimum.at(found, high, low)
        found = found[found]
    while (found[found] != found).any():
        found = found[found]
    return np.unique(found, return_inverse=True)[1]


def make_whole(positions_nm: np.ndarray, bonds: np.ndarray, box_nm: np.ndarray) -> np.ndarray:
    """The positions with bonded atoms next to each other; the first atom of each molecule stays where it is.

    Parameters
    ----------
    positions_nm
        nm, shape (n_atoms, 3).
    bonds
        Pairs of atoms, shape (n_bonds, 2); each is shorter than half the box.
    box_nm
        Box vectors in OpenMM's reduced form, one a row, nm, shape (3, 3).
    """
    cells = np.linalg.inv(box_nm)
    if not np.rint((positions_nm[bonds[:, 1]] - positions_nm[bonds[:, 0]]) @ cells).any():
        return positions_nm
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import breadth_first_order

    # A further node, bound to the first atom of each molecule, makes one tree of all of them.
    root = len(positions_nm)
    firsts = np.unique(molecules_of(root, bonds), return_index=True)[1]
    first, second = np.concatenate([bonds, np.stack([np.full(len(firsts), root), firsts], axis=1)]).T
    graph = coo_matrix((np.ones(len(first), np.int8), (first, second)), (root + 1, root + 1)).tocsr()
    order, before = breadth_first_order(graph, root, directed=False)
    shift, atoms = np.zeros((root + 1, 3)), order[1:]
    bonded = atoms[before[atoms] != root]
    shift[bonded] = -np.rint((positions_nm[bonded] - positions_nm[before[bonded]]) @ cells)
    for atom in bonded:
        shift[atom] += shift[before[atom]]
    return positions_nm + shift[:root] @ box_nm


def bring_together(positions_nm: np.ndarray, molecules: np.ndarray, box_nm: np.ndarray) -> np.ndarray:
    """The positions with each molecule in the periodic image that is nearest to those before it.

    Parameters
    ----------
    positions_nm
        nm, shape (n, 3); no molecule is broken by the box.
    molecules
        Index of the molecule of each, shape (n,); which comes first stays where it is.
    box_nm
        Box vectors in OpenMM's reduced form, nm, shape (3, 3); zeros mean no box.
    """
    if not box_nm.any():
        return positions_nm
    names, first = np.unique(molecules, return_index=True)
    if len(names) == 1:
        return positions_nm
    together = positions_nm.copy()
    placed = np.zeros(len(positions_nm), bool)
    for name in names[np.argsort(first)]:
        mine = molecules == name
        if placed.any():
            together[mine] = nearest_image(together[mine], together[placed], box_nm)
        placed |= mine
    return together
