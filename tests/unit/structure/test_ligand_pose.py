"""Ligand and receptor: contacts, pose, image and start, against arithmetic that is done pair by pair."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ddmd_mpi.structure.ligand_pose import ligand_contacts, ligand_rmsd, nearest_image, place, superposition

RNG = np.random.default_rng(3)
RECEPTOR = RNG.uniform(-1.0, 1.0, (40, 3))
LIGAND = RNG.uniform(-0.3, 0.3, (9, 3)) + [0.0, 0.0, 0.8]
BENT = np.array([[4.0, 0.0, 0.0], [1.5, 3.5, 0.0], [-1.9, 1.6, 3.0]])


def pairwise(a, b):
    return np.linalg.norm(a[:, None] - b[None], axis=-1)


def test_contacts_are_the_pairs_below_the_cutoff():
    for cutoff in (0.45, 0.8):
        expected = sum(np.linalg.norm(a - b) < cutoff for a in RECEPTOR for b in LIGAND)
        assert ligand_contacts(RECEPTOR, LIGAND, cutoff) == expected > 0
    assert ligand_contacts(RECEPTOR, LIGAND) == (pairwise(RECEPTOR, LIGAND) < 0.45).sum()


def test_a_pair_at_the_cutoff_is_no_contact():
    assert ligand_contacts(np.zeros((1, 3)), np.array([[0.5, 0.0, 0.0]]), 0.5) == 0


def test_a_pose_that_moves_with_its_receptor_has_not_changed():
    turn = Rotation.from_rotvec([0.3, -1.0, 2.0]).as_matrix()
    moved = [x @ turn + [3.0, -1.0, 0.5] for x in (RECEPTOR, LIGAND)]
    assert ligand_rmsd(*moved, RECEPTOR, LIGAND) == pytest.approx(0.0, abs=1e-6)


def test_the_rmsd_of_a_shifted_ligand_is_its_shift_in_angstrom():
    turn = Rotation.from_rotvec([0.1, 0.2, -0.4]).as_matrix()
    assert ligand_rmsd(RECEPTOR @ turn, (LIGAND + [0.0, 0.3, 0.4]) @ turn, RECEPTOR, LIGAND) == pytest.approx(5.0)


def test_the_ligand_takes_no_part_in_the_superposition():
    turned = (LIGAND - LIGAND.mean(axis=0)) @ Rotation.from_rotvec([0, 0, np.pi]).as_matrix() + LIGAND.mean(axis=0)
    expected = 10.0 * np.sqrt(np.square(turned - LIGAND).sum(axis=1).mean())
    assert ligand_rmsd(RECEPTOR, turned, RECEPTOR, LIGAND) == pytest.approx(expected)


def test_superposition_is_the_best_of_all_proper_rotations():
    reference = RECEPTOR * [1.0, 1.0, -1.0] + RNG.normal(scale=0.05, size=RECEPTOR.shape)
    rotation, shift = superposition(RECEPTOR, reference)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    best = np.square(RECEPTOR @ rotation + shift - reference).sum()
    expected = Rotation.align_vectors(reference - reference.mean(axis=0), RECEPTOR - RECEPTOR.mean(axis=0))[1] ** 2
    assert best == pytest.approx(expected)


@pytest.mark.parametrize("box", [np.diag([4.0, 3.5, 3.0]), BENT], ids=["rectangular", "triclinic"])
def test_the_nearest_image_is_found_from_any_cell(box):
    cells = np.array(list(np.ndindex(5, 5, 5))) - 2
    for where in RNG.uniform(-0.5, 0.5, (50, 3)):
        ligand = LIGAND + where @ box
        offsets = (ligand.mean(axis=0) - RECEPTOR.mean(axis=0)) + cells @ box
        expected = ligand + cells[np.linalg.norm(offsets, axis=1).argmin()] @ box
        assert nearest_image(ligand + RNG.integers(-3, 4, 3) @ box, RECEPTOR, box) == pytest.approx(expected)


def test_no_box_moves_nothing():
    assert nearest_image(LIGAND, RECEPTOR, np.zeros((3, 3))) is LIGAND


def test_a_placed_ligand_touches_the_receptor_from_outside():
    site = np.array([0.2, 0.9, 0.5])
    placed = place(LIGAND, RECEPTOR, site, clearance_nm=0.25)
    assert pairwise(placed, RECEPTOR).min() == pytest.approx(0.25)
    outward = (site - RECEPTOR.mean(axis=0)) / np.linalg.norm(site - RECEPTOR.mean(axis=0))
    for further in (0.01, 0.1, 1.0):
        assert pairwise(placed + further * outward, RECEPTOR).min() > 0.25


def test_a_placed_ligand_keeps_its_shape_and_lies_across_the_ray():
    flat = LIGAND * [1.0, 1.0, 0.0]
    site = np.array([-0.7, 0.1, 0.3])
    placed = place(flat, RECEPTOR, site, 0.3)
    assert pairwise(placed, placed) == pytest.approx(pairwise(flat, flat))
    centre = RECEPTOR.mean(axis=0)
    assert np.ptp(placed @ (site - centre)) == pytest.approx(0.0, abs=1e-12)
    assert np.linalg.norm(np.cross(placed.mean(axis=0) - centre, site - centre)) == pytest.approx(0.0, abs=1e-12)


def test_a_placed_ligand_keeps_its_hand():
    placed = place(LIGAND, RECEPTOR, np.array([0.4, -0.2, -0.9]), 0.3)
    assert np.linalg.det(np.diff(placed[:4], axis=0)) == pytest.approx(np.linalg.det(np.diff(LIGAND[:4], axis=0)))


def test_a_ray_that_misses_the_receptor_is_refused():
    ring = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])
    with pytest.raises(ValueError, match="misses the receptor"):
        place(np.zeros((1, 3)), ring, np.array([0.0, 0.0, 0.5]), 0.3)
