"""Potentials of known answer: their formulas, and the models of the use cases that are named after them."""

import numpy as np
import pytest

from ddmd_mpi import config
from ddmd_mpi.analysis.markov_model import read_model
from ddmd_mpi.analysis.potentials import POTENTIALS
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.structure.rmsd import superposed_rmsd

#: Borders of regions, half-way between points of the grid: along which coordinate, and where.
BORDERS = {"mueller-brown": (1, (0.375, 0.925)), "prinz": (0, (-0.51, -0.01, 0.51))}


@pytest.mark.parametrize(("point", "energy"), [
    ((-0.558, 1.442), -146.70), ((0.623, 0.028), -108.17), ((-0.050, 0.467), -80.77), ((-0.822, 0.624), -40.66),
])  # fmt: skip
def test_minima_and_the_saddle_of_mueller_and_brown(point, energy):
    near = np.array(point) + 1e-4 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    found = 15.0 * POTENTIALS["mueller-brown"].energy_kt(near)
    assert found[0] == pytest.approx(energy, abs=0.01)
    assert np.abs(found[[1, 3]] - found[[2, 4]]).max() / 2e-4 < 5, "the gradient vanishes"


def test_the_wells_of_prinz():
    """8 for the walls at 1, and the barriers of 3.2, 0.8 and 2 kT."""
    x = np.array([0.0, 0.5, -0.5, 1.0, -1.0])
    expected = 4.0 * np.array([0.8, 0.2 + 0.5**8, 0.5 + 0.5**8, 1.0, 1.0])
    np.testing.assert_allclose(POTENTIALS["prinz"].energy_kt(np.stack([x, 0 * x], axis=1)), expected, atol=1e-3)


@pytest.mark.parametrize("name", POTENTIALS)
def test_the_model_of_a_use_case_has_the_populations_of_its_potential(name):
    potential, model = POTENTIALS[name], read_model(config.inputs() / f"{name}.npz")
    points = potential.points(model.positions)
    weight = np.exp(-potential.energy_kt(points))
    np.testing.assert_allclose(model.stationary, weight / weight.sum(), rtol=1e-4)
    axis, borders = BORDERS[name]
    region = np.digitize(points[:, axis], borders)
    for k in range(len(borders) + 1):
        exact = potential.population(lambda x, k=k: np.digitize(x[:, axis], borders) == k)
        assert model.stationary[region == k].sum() == pytest.approx(exact, abs=0.003)


@pytest.mark.parametrize("name", POTENTIALS)
def test_walkers_start_at_the_start_and_look_for_the_target(name):
    structures = load_structures(config.load(name).system)
    potential = POTENTIALS[name]
    ends = potential.points(np.array([structures.positions_nm, structures.target_nm]))
    np.testing.assert_allclose(ends, [potential.start, potential.target], atol=0.03)
    model = read_model(config.inputs() / f"{name}.npz")
    nearest = superposed_rmsd(model.positions.astype(float), structures.target_nm).argmin()
    np.testing.assert_allclose(potential.points(model.positions[[nearest]])[0], ends[1], atol=0.01)
