"""The structure-based model: the target is its minimum, and it tells mirror images."""

from dataclasses import replace

import numpy as np
import openmm
import pytest

from ddmd_mpi.config import load
from ddmd_mpi.errors import InputError
from ddmd_mpi.md import go_model
from ddmd_mpi.md.go_model import dihedral, go_system
from ddmd_mpi.md.structures import build_system, load_structures

GO = load("bba-go")
STRUCTURES = load_structures(GO.system)


def energy_and_forces(x):
    reference = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(go_system(STRUCTURES.target_nm), openmm.VerletIntegrator(0.001), reference)
    context.setPositions(x)
    state = context.getState(getEnergy=True, getForces=True)
    return state.getPotentialEnergy()._value, np.asarray(state.getForces(asNumpy=True)._value)


def test_local_terms_and_contacts_rest_at_the_target():
    # Only the repulsion of pairs that are no contacts pulls at the target, and weakly.
    _, forces = energy_and_forces(STRUCTURES.target_nm)
    assert np.abs(forces).max() < 30.0


def test_the_target_lies_far_below_the_start_and_its_own_mirror_image():
    native, _ = energy_and_forces(STRUCTURES.target_nm)
    assert native < energy_and_forces(STRUCTURES.positions_nm)[0] - 100.0
    assert native < energy_and_forces(STRUCTURES.target_nm * [1, 1, -1])[0] - 100.0


@pytest.mark.parametrize("angle", [-2.5, -1.0, 0.3, 3.0])
def test_dihedral_of_known_angle(angle):
    x = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1], [np.cos(angle), np.sin(angle), 1.0]])
    assert dihedral(x) == pytest.approx(angle)


def test_an_all_atom_start_is_refused():
    start = load("cln025").system
    structures = load_structures(start)
    with pytest.raises(InputError, match="descriptor atoms only"):
        build_system(structures, GO.simulation, replace(start, model="go"))


def test_a_neighbour_list_gives_the_energy_and_forces_of_all_pairs(monkeypatch):
    near = 0.8 * STRUCTURES.positions_nm + 0.2 * STRUCTURES.target_nm
    every_pair, forces = energy_and_forces(near)
    monkeypatch.setattr(go_model, "NEIGHBOUR_LIST_FROM", 10)
    energy, listed = energy_and_forces(near)
    n_pairs = 25 * 24 / 2
    assert energy == pytest.approx(every_pair, abs=n_pairs * go_model.EPSILON / 4096)
    assert energy != every_pair, "the cutoff leaves a little out"
    np.testing.assert_allclose(listed, forces, atol=0.2)


def test_native_pairs_are_contacts_four_or_more_apart():
    pairs = go_model.native_pairs(STRUCTURES.target_nm)
    assert len(pairs) == 28  # of 1FME, at 8 angstrom
    assert (pairs[:, 1] - pairs[:, 0]).min() == 4
    assert pairs.tolist() == sorted(pairs.tolist())
