"""Drawn velocities leave a walker at its temperature: on molecules H-C=O that do not see each other."""

from types import SimpleNamespace

import numpy as np
import openmm
import pytest
from openmm import unit

from ddmd_mpi.config.dynamics import SimulationSection
from ddmd_mpi.md.openmm_engine import OpenMMEngine
from ddmd_mpi.md.velocities import draw_velocities, inverse_masses, redraw_velocities

#: nm and kJ/mol/nm^2 of C-H and C=O, kJ/mol/rad^2 of the angle: as Amber has them
CH, CO, ANGLE, WIDTH = (0.109, 284_512.0), (0.1229, 476_976.0), (2.1, 418.4), 8.0
RESTARTS, REPORTS, STEPS = 200, 10, 3
GAS_CONSTANT = unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole / unit.kelvin)


def molecules(constrained, periodic, heavy, n=200):
    """System and positions of `n` molecules; `heavy`: with hydrogens of 3 amu."""
    system, bonds, angles = openmm.System(), openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    one = np.array([[CH[0] * np.cos(ANGLE[0]), CH[0] * np.sin(ANGLE[0]), 0], [0, 0, 0], [CO[0], 0, 0]])
    for i in range(0, 3 * n, 3):
        for mass in (3.0, 10.0, 16.0) if heavy else (1.0, 12.0, 16.0):
            system.addParticle(mass)
        if constrained:
            system.addConstraint(i, i + 1, CH[0])
        else:
            bonds.addBond(i, i + 1, *CH)
        bonds.addBond(i + 1, i + 2, *CO)
        angles.addAngle(i, i + 1, i + 2, *ANGLE)
    for force in (bonds, angles):
        force.setUsesPeriodicBoundaryConditions(periodic)
        system.addForce(force)
    system.setDefaultPeriodicBoxVectors(*WIDTH * np.eye(3))
    places = np.random.default_rng(1).uniform(0.0, WIDTH, (n, 1, 3))
    return system, (places + one).reshape(-1, 3)


def engine_of(system, positions, timestep_fs):
    structures = SimpleNamespace(positions_nm=positions, box_nm=WIDTH * np.eye(3))
    settings = SimulationSection(timestep_fs=timestep_fs, minimize=False, friction_per_ps=10.0)
    return OpenMMEngine(structures, settings, None, 1, model=system, platform="Reference")


def masses_of(system):
    return np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])[:, None]


def kinetic_energies(engine, masses):
    """Of the next reports, by the velocities that they hold."""
    found = []
    for _ in range(REPORTS):
        engine.advance(STEPS)
        found.append(0.5 * float((masses * np.square(engine.state().velocities, dtype=float)).sum()))
    return found


@pytest.mark.parametrize("way", ["redrawn", "drawn"])
@pytest.mark.parametrize(
    ("timestep_fs", "constrained", "periodic"),
    [(2.0, True, False), (2.0, False, True), (4.0, True, True), (4.0, False, False)],
)
def test_reports_after_a_restart_are_at_the_integrators_own_temperature(timestep_fs, constrained, periodic, way):
    system, positions = molecules(constrained, periodic, heavy=timestep_fs > 2)
    engine, masses = engine_of(system, positions, timestep_fs), masses_of(system)
    engine.start(1)
    engine.advance(200)
    own, restarted = [], []
    for seed in range(RESTARTS):
        own += kinetic_energies(engine, masses)
        source = engine.state()
        engine.set_state(source.positions, source.velocities if way == "redrawn" else None, source.box, seed=seed)
        restarted += kinetic_energies(engine, masses)
        engine.set_state(source.positions, source.velocities, source.box)
    engine.free()
    assert np.mean(restarted) == pytest.approx(np.mean(own), rel=0.01)


def test_the_variance_of_oscillators_is_that_of_the_integrator_whatever_their_frequency():
    # Positions at their stationary distribution; the velocities half a step back then have the variance kT/m exactly.
    n, mass, timestep = 4000, 12.0, 0.004
    share = np.tile([0.01, 0.2, 0.5, 0.75], n // 4)[:, None]  # (w dt / 2)^2
    stiffness = mass * share * (2 / timestep) ** 2
    rng = np.random.default_rng(2)
    positions = np.sqrt(GAS_CONSTANT * 300 / stiffness) * rng.standard_normal((n, 3))
    context = context_of(stiffness[:, 0], mass, timestep)
    context.setPositions(positions)
    draw_velocities(context, 300.0, 5, inverse_masses(context.getSystem()))
    state = context.getState(getPositions=True, getVelocities=True)
    np.testing.assert_array_equal(state.getPositions(asNumpy=True)._value, positions)
    velocities = state.getVelocities(asNumpy=True)._value
    now = velocities - 0.5 * timestep / mass * stiffness * positions
    for a in np.unique(share):
        some = share[:, 0] == a
        assert mass * np.square(now[some]).mean() == pytest.approx(GAS_CONSTANT * 300 * (1 - a), rel=0.08), a
        assert mass * np.square(velocities[some]).mean() == pytest.approx(GAS_CONSTANT * 300, rel=0.08), a


def test_redrawn_velocities_of_oscillators_have_the_integrators_joint_distribution():
    n, mass, timestep = 4000, 12.0, 0.004
    share = np.tile([0.01, 0.2, 0.5, 0.75], n // 4)[:, None]
    stiffness = mass * share * (2 / timestep) ** 2
    rng = np.random.default_rng(3)
    # Where the thermostat acts, positions and velocities are independent, and those have the variance kT/k (1 - a).
    old = np.sqrt(GAS_CONSTANT * 300 / mass) * rng.standard_normal((n, 3))
    middle = np.sqrt(GAS_CONSTANT * 300 / stiffness * (1 - share)) * rng.standard_normal((n, 3))
    context = context_of(stiffness[:, 0], mass, timestep)
    context.setPositions(middle + 0.5 * timestep * old)
    context.setVelocities(old)
    redraw_velocities(context, 300.0, 5, inverse_masses(context.getSystem()))
    state = context.getState(getPositions=True, getVelocities=True)
    positions, new = state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value
    np.testing.assert_allclose(positions - 0.5 * timestep * new, middle, atol=1e-12)
    assert abs(np.corrcoef(old.ravel(), new.ravel())[0, 1]) < 0.04
    for a in np.unique(share):
        some = share[:, 0] == a
        k = stiffness[some]
        assert (k * np.square(positions[some])).mean() == pytest.approx(GAS_CONSTANT * 300, rel=0.08), a
        assert mass * np.square(new[some]).mean() == pytest.approx(GAS_CONSTANT * 300, rel=0.08), a
        now = new[some] - 0.5 * timestep / mass * k * positions[some]
        assert mass * np.square(now).mean() == pytest.approx(GAS_CONSTANT * 300 * (1 - a), rel=0.08), a


def context_of(stiffness, mass, timestep):
    system, force = openmm.System(), openmm.CustomExternalForce("0.5*k*(x^2+y^2+z^2)")
    force.addPerParticleParameter("k")
    for k in stiffness:
        force.addParticle(system.addParticle(mass), [k])
    system.addForce(force)
    return openmm.Context(
        system, openmm.LangevinMiddleIntegrator(300.0, 1.0, timestep), openmm.Platform.getPlatformByName("Reference")
    )


@pytest.mark.parametrize("way", ["redrawn", "drawn"])
def test_the_seed_decides_the_velocities_and_constraints_hold_them(way):
    system, positions = molecules(constrained=True, periodic=False, heavy=True, n=3)
    engine = engine_of(system, positions, 4.0)
    drawn = {}
    engine.start(1)
    old = engine.state().velocities if way == "redrawn" else None
    for turn in range(2):
        for seed in (7, 8):
            engine.set_state(positions, old, seed=seed)
            state = engine.state()
            np.testing.assert_array_equal(drawn.setdefault(seed, state.velocities), state.velocities, err_msg=turn)
    assert np.abs(drawn[7] - drawn[8]).max() > 0.1
    engine.set_state(positions, old, seed=7)
    positions = engine.state().positions
    bond, stretch = (positions[1::3] - positions[::3], drawn[7][1::3] - drawn[7][::3])
    np.testing.assert_allclose(np.linalg.norm(bond, axis=1), CH[0], rtol=1e-4)
    assert np.abs((bond * stretch).sum(axis=1)).max() < 1e-5
    engine.free()


@pytest.mark.parametrize("way", ["redrawn", "drawn"])
def test_what_has_no_mass_is_not_given_a_velocity(way):
    system, positions = molecules(constrained=False, periodic=False, heavy=False, n=2)
    system.setParticleMass(0, 0.0)
    site = system.addParticle(0.0)
    system.setVirtualSite(site, openmm.TwoParticleAverageSite(1, 2, 0.5, 0.5))
    engine = engine_of(system, np.vstack([positions, positions[1:3].mean(axis=0)]), 2.0)
    every = np.vstack([positions, positions[1:3].mean(axis=0)])
    engine.set_state(every, np.ones_like(every) if way == "redrawn" else None, seed=3)
    state = engine.state()
    velocities = state.velocities
    np.testing.assert_allclose(state.positions[-1], state.positions[1:3].mean(axis=0), atol=1e-6)
    assert not velocities[0].any()
    assert velocities[1:-1].all()
    engine.advance(5)
    assert np.isfinite(engine.state().potential_energy)
    engine.free()
