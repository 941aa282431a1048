"""The toy complexes: their energy is what the formula says, and stronger ligands bind more."""

import numpy as np
import openmm
import pytest
import toy_ligands as toy
from openmm import app
from scipy.stats import spearmanr
from toy_ligands import DISH_BEADS, RECEPTOR_BEADS, receptor_positions, toy_complex

from ddmd_mpi.structure.ligand_pose import ligand_contacts

REFERENCE = openmm.Platform.getPlatformByName("Reference")


def bonded_energy(x, rest, pairs, k):
    return sum(0.5 * k * (np.linalg.norm(x[j] - x[i]) - rest(i, j)) ** 2 for i, j in pairs)


def energy(x, strength):
    """The sum of all terms, kJ/mol, pair by pair."""
    rest = receptor_positions()
    native = [(i, j, np.linalg.norm(rest[j] - rest[i])) for j in range(DISH_BEADS) for i in range(j)]
    network = sum(2500.0 * (np.linalg.norm(x[j] - x[i]) - r) ** 2 for i, j, r in native if r < 0.75)
    chains = [(i, i + 1) for i in range(DISH_BEADS - 1, len(x) - 1) if i != RECEPTOR_BEADS - 1]
    bends = [(i, i + 2) for i in range(DISH_BEADS - 1, RECEPTOR_BEADS - 2)]
    bonded = bonded_energy(x, lambda i, j: 0.38, chains, 10_000.0) + bonded_energy(x, lambda i, j: 0.6, bends, 500.0)
    to_head = np.linalg.norm(x[:DISH_BEADS] - x[RECEPTOR_BEADS], axis=1)
    attraction = strength * (5.0 * (0.5 / to_head) ** 12 - 6.0 * (0.5 / to_head) ** 10).sum()
    return network + bonded + attraction + 50.0 * max(0.0, to_head[0] - 1.2) ** 2


def context_of(complex_, seed=1):
    integrator = openmm.LangevinMiddleIntegrator(300.0, 0.5, 0.02)
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(complex_.system, integrator, REFERENCE)
    context.setPositions(complex_.positions_nm)
    return context, integrator


@pytest.mark.parametrize(("strength", "n_beads", "shift"), [(1.3, 1, 0.0), (3.0, 3, -0.3), (2.0, 2, 0.7)])
def test_the_energy_is_the_sum_of_its_terms(strength, n_beads, shift):
    complex_ = toy_complex(strength, n_beads)
    x = complex_.positions_nm + 0.03 * np.random.default_rng(5).normal(size=complex_.positions_nm.shape)
    x[RECEPTOR_BEADS:, 2] += shift
    context, _ = context_of(complex_)
    context.setPositions(x)
    state = context.getState(getEnergy=True, getForces=True)
    assert state.getPotentialEnergy()._value == pytest.approx(energy(x, strength), rel=1e-6)
    assert np.isfinite(state.getForces(asNumpy=True)._value).all()


def test_the_receptor_rests_and_the_ligand_starts_unbound():
    complex_ = toy_complex(0.0, 2)
    context, _ = context_of(complex_)
    assert context.getState(getEnergy=True).getPotentialEnergy()._value == pytest.approx(0.0, abs=1e-9)
    heads = complex_.positions_nm[[RECEPTOR_BEADS]]
    assert ligand_contacts(complex_.positions_nm[:RECEPTOR_BEADS], heads, toy.CONTACT_CUTOFF) == 0


@pytest.mark.parametrize("n_beads", [1, 4])
def test_the_topology_names_receptor_and_ligand(n_beads, tmp_path):
    complex_ = toy_complex(1.0, n_beads)
    with (tmp_path / "toy.pdb").open("w") as file:
        app.PDBFile.writeFile(complex_.topology, 10.0 * complex_.positions_nm, file)
    topology = app.PDBFile(str(tmp_path / "toy.pdb")).topology
    receptor, ligand = topology.chains()
    assert [a.name for a in receptor.atoms()] == ["CA"] * RECEPTOR_BEADS
    assert [a.element.symbol for a in ligand.atoms()] == ["C"] + ["H"] * (n_beads - 1)
    assert complex_.system.getNumParticles() == len(complex_.positions_nm) == RECEPTOR_BEADS + n_beads


def mean_contacts(strength, n_beads, seed, n_reports=1000, interval=60):
    context, integrator = context_of(toy_complex(strength, n_beads), seed)
    context.setVelocitiesToTemperature(300.0, seed)
    contacts = 0
    for _ in range(n_reports):
        integrator.step(interval)
        x = context.getState(getPositions=True).getPositions(asNumpy=True)._value
        contacts += ligand_contacts(x[:DISH_BEADS], x[[RECEPTOR_BEADS]], toy.CONTACT_CUTOFF)
    return contacts / n_reports


@pytest.mark.timeout(120)
def test_stronger_ligands_are_bound_more():
    strengths = [0.5, 1.2, 1.9, 2.6, 3.3, 4.0]
    contacts = [mean_contacts(s, n_beads=1 + i % 3, seed=i + 1) for i, s in enumerate(strengths)]
    assert contacts[0] < 2.0
    assert contacts[-1] > 9.0
    assert spearmanr(strengths, contacts).statistic > 0.9
