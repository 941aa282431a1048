"""A ligand and its receptor: contacts, the ligand's RMSD in the pocket, the periodic image, and where to start it."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from . import ANGSTROM_PER_NM
from .rmsd import best_rotation

CONTACT_CUTOFF = 0.45  # nm, between heavy atoms
IMAGES = np.array(list(product((-1, 0, 1), repeat=3)), float)


class LigandPose(NamedTuple):
    """A ligand and its receptor: which atoms they are, and where they are in the reference."""

    descriptor: np.ndarray  # (n,) indices of the atoms that are superposed
    receptor: np.ndarray  # (r,) indices of its heavy atoms
    ligand: np.ndarray  # (m,) indices of its heavy atoms
    descriptor_nm: np.ndarray  # (n, 3)
    ligand_nm: np.ndarray  # (m, 3)

    @classmethod
    def at(
        cls,
        positions_nm: np.ndarray,
        descriptor: np.ndarray,
        receptor: np.ndarray,
        ligand: np.ndarray,
        box_nm: np.ndarray,
    ) -> LigandPose:
        """The pose in these positions of all atoms, nm, shape (n_atoms, 3); zeros mean no box."""
        near = nearest_image(positions_nm[ligand], positions_nm[receptor], box_nm)
        return cls(descriptor, receptor, ligand, positions_nm[descriptor], near)

    def contacts(self, positions_nm: np.ndarray, box_nm: np.ndarray, cutoff_nm: float) -> int:
        """Contacts in a frame; see :func:`ligand_contacts`."""
        receptor = positions_nm[self.receptor]
        return ligand_contacts(receptor, nearest_image(positions_nm[self.ligand], receptor, box_nm), cutoff_nm)

    def rmsd(self, positions_nm: np.ndarray, box_nm: np.ndarray) -> float:
        """RMSD of the ligand in a frame to the pose, angstrom; see :func:`ligand_rmsd`."""
        near = nearest_image(positions_nm[self.ligand], positions_nm[self.receptor], box_nm)
        return ligand_rmsd(positions_nm[self.descriptor], near, self.descriptor_nm, self.ligand_nm)


def ligand_contacts(receptor_nm: np.ndarray, ligand_nm: np.ndarray, cutoff_nm: float = CONTACT_CUTOFF) -> int:
    """Number of pairs, one atom of each, that are nearer than the cutoff.

    Parameters
    ----------
    receptor_nm, ligand_nm
        Heavy atoms (or beads) of each, nm, shapes (n, 3) and (m, 3).
    cutoff_nm
        Pairs at exactly this distance are not contacts.
    """
    from scipy.spatial.distance import cdist

    return int(np.count_nonzero(cdist(receptor_nm, ligand_nm, "sqeuclidean") < cutoff_nm**2))


def ligand_rmsd(
    receptor_nm: np.ndarray, ligand_nm: np.ndarray, receptor_reference_nm: np.ndarray, ligand_reference_nm: np.ndarray
) -> float:
    """RMSD of the ligand to its pose in the reference, angstrom, after the receptor alone is superposed.

    Atoms count by their index: a symmetric ligand that turns onto itself has moved.

    Parameters
    ----------
    receptor_nm, receptor_reference_nm
        Atoms of the receptor to superpose, nm, shape (n, 3), n >= 3.
    ligand_nm, ligand_reference_nm
        Heavy atoms of the ligand, nm, shape (m, 3).
    """
    rotation, shift = superposition(receptor_nm, receptor_reference_nm)
    moved = ligand_nm @ rotation + shift - ligand_reference_nm
    return ANGSTROM_PER_NM * float(np.sqrt(np.vdot(moved, moved) / len(moved)))


def superposition(positions: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Proper rotation R and shift t for which positions @ R + t lies nearest to the reference.

    Parameters
    ----------
    positions, reference
        Shape (n, 3), the same unit of length.

    Returns
    -------
    rotation : ndarray, shape (3, 3)
    shift : ndarray, shape (3,)
    """
    centre, centre_reference = positions.mean(axis=0), reference.mean(axis=0)
    rotation = best_rotation(positions - centre, reference - centre_reference)
    return rotation, centre_reference - centre @ rotation


def nearest_image(ligand_nm: np.ndarray, receptor_nm: np.ndarray, box_nm: np.ndarray) -> np.ndarray:
    """The ligand in the periodic image whose centre is nearest to the receptor's centre.

    Parameters
    ----------
    ligand_nm, receptor_nm
        nm, shapes (m, 3) and (n, 3); neither is broken by the box.
    box_nm
        Box vectors in OpenMM's reduced form, one a row, nm, shape (3, 3); zeros mean no box.
    """
    if not box_nm.any():
        return ligand_nm
    offset = ligand_nm.mean(axis=0) - receptor_nm.mean(axis=0)
    near = offset - np.rint(offset @ np.linalg.inv(box_nm)) @ box_nm
    images = near + IMAGES @ box_nm
    return ligand_nm + images[np.argmin(np.einsum("ij,ij->i", images, images))] - offset


def place(ligand_nm: np.ndarray, receptor_nm: np.ndarray, site_nm: np.ndarray, clearance_nm: float) -> np.ndarray:
    """The ligand set down on the receptor's surface.

    It comes from outside along the ray from the receptor's centre through the site, its z axis on the ray, and stops
    where the first of its atoms is within the clearance of the receptor.

    Parameters
    ----------
    ligand_nm
        All atoms, nm, shape (m, 3); a flat ligand lies in its xy plane.
    receptor_nm
        All atoms, nm, shape (n, 3).
    site_nm
        A point of the surface, nm, shape (3,).
    clearance_nm
        The smallest distance between the two, nm.

    Returns
    -------
    ndarray, shape (m, 3)

    Raises
    ------
    ValueError
        If the ray misses the receptor.
    """
    outward = site_nm - receptor_nm.mean(axis=0)
    axes = _frame(outward)
    start = (ligand_nm - ligand_nm.mean(axis=0)) @ axes + site_nm
    # Atom i meets atom j where its distance along the ray is b + sqrt(c^2 - h^2); h is the distance of their paths.
    between = (receptor_nm[None] - start[:, None]).reshape(-1, 3)
    along = between @ axes[2]
    room = clearance_nm**2 - (np.einsum("ij,ij->i", between, between) - along**2)
    meet = room >= 0.0
    if not meet.any():
        raise ValueError("the ray through the site misses the receptor")
    return start + np.max(along[meet] + np.sqrt(room[meet])) * axes[2]


def _frame(z: np.ndarray) -> np.ndarray:
    """Right-handed axes, one a row, the third along z."""
    z = z / np.linalg.norm(z)
    x = np.cross(np.eye(3)[np.argmin(np.abs(z))], z)
    x /= np.linalg.norm(x)
    return np.array([x, np.cross(z, x), z])
