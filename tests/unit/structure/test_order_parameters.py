"""Order parameters at structures of known value."""

import numpy as np
import pytest

from ddmd_mpi.structure.order_parameters import FUNCTIONS, centre_distance, contacts, dihedral, end_to_end

ANGLE = np.arange(12) * np.radians(100.0)
HELIX = np.stack([0.23 * np.cos(ANGLE), 0.23 * np.sin(ANGLE), 0.15 * np.arange(12)], axis=1)
EXTENDED = np.stack([0.38 * np.arange(12), np.zeros(12), np.zeros(12)], axis=1)


def test_radius_of_gyration_of_two_points_is_half_their_distance():
    x = np.array([[0.0, 0, 0], [0.6, 0, 0], [9, 9, 9]])
    assert FUNCTIONS["radius_of_gyration"](x, x, (0, 1)) == pytest.approx(3.0)
    assert FUNCTIONS["radius_of_gyration"](x[:2], x[:2], ()) == pytest.approx(3.0)


def test_native_contacts_are_all_formed_in_the_reference_and_none_when_extended():
    q = FUNCTIONS["fraction_of_native_contacts"]
    assert q(HELIX, HELIX, ()) > 0.99
    assert q(EXTENDED, HELIX, ()) < 0.01
    assert q(HELIX * 1.2, HELIX, ()) == pytest.approx(0.5)
    assert q(HELIX, EXTENDED, ()) == 0.0


def test_native_contacts_follow_the_reference_they_are_given():
    q = FUNCTIONS["fraction_of_native_contacts"]
    assert q(HELIX, HELIX * 0.8, ()) < q(HELIX, HELIX, ())


def test_distance_in_angstrom():
    assert FUNCTIONS["distance"](EXTENDED, EXTENDED, (0, 10)) == pytest.approx(38.0)


def test_handedness_tells_mirror_images():
    handedness = FUNCTIONS["handedness"]
    assert handedness(HELIX, HELIX, ()) == pytest.approx(1.0)
    assert handedness(HELIX * [1, 1, -1], HELIX, ()) == pytest.approx(-1.0)
    assert handedness(EXTENDED, HELIX, ()) == pytest.approx(0.0)
    assert handedness(HELIX, EXTENDED, ()) == 0.0


def bent(angle: float) -> np.ndarray:
    """Four atoms with this dihedral angle, degrees, nm."""
    turn = np.radians(angle)
    return np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], [np.cos(turn), np.sin(turn), 1.0]])


@pytest.mark.parametrize("angle", [-120.0, -30.0, 0.0, 60.0, 179.0])
def test_a_dihedral_has_the_sign_of_a_right_handed_turn(angle):
    assert dihedral(bent(angle), bent(0), (0, 1, 2, 3)) == pytest.approx(angle, abs=1e-9)


def test_the_dihedral_of_an_ideal_alpha_helix_of_c_alpha_atoms_is_fifty_degrees():
    k = np.arange(4)
    helix = np.stack([0.23 * np.cos(np.radians(100 * k)), 0.23 * np.sin(np.radians(100 * k)), 0.15 * k], axis=1)
    assert dihedral(helix, helix, (0, 1, 2, 3)) == pytest.approx(50, abs=2)


def test_the_ends_of_a_chain_or_of_some_residues():
    x = np.array([[0.0, 0, 0], [0.3, 0, 0], [0.3, 0.4, 0], [0, 0.4, 0]])
    assert end_to_end(x, x) == pytest.approx(4.0)
    assert end_to_end(x, x, (0, 1, 2)) == pytest.approx(5.0)


def test_two_groups():
    x, y = np.array([[0.0, 0, 0], [0.2, 0, 0]]), np.array([[0.1, 0.5, 0], [0.1, 0.9, 0], [5.0, 0, 0]])
    assert contacts(x, y, 0.6) == 2
    assert centre_distance(x, y[:2]) == pytest.approx(7.0)
