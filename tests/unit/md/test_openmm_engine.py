"""The engine on small systems: seeds, restarts, failures, platforms."""

from dataclasses import replace

import numpy as np
import pytest

from ddmd_mpi.config import load
from ddmd_mpi.errors import EngineError, InputError
from ddmd_mpi.md.engine_pool import engine_seed, segment_seed
from ddmd_mpi.md.openmm_engine import OpenMMEngine, check_platform
from ddmd_mpi.md.structures import build_system, load_structures

GO = load("bba-go")
GO_STRUCTURES = load_structures(GO.system)
CHIGNOLIN = load("cln025", None, ("simulation.minimize=false", "simulation.platform=Reference"))
CHIGNOLIN_STRUCTURES = load_structures(CHIGNOLIN.system)


@pytest.fixture
def engine():
    engine = OpenMMEngine(GO_STRUCTURES, GO.simulation, GO.system, seed=1)
    yield engine
    engine.free()


@pytest.fixture
def all_atom():
    engine = OpenMMEngine(CHIGNOLIN_STRUCTURES, CHIGNOLIN.simulation, CHIGNOLIN.system, seed=1)
    yield engine
    engine.free()


def run(seed, velocity_seed):
    engine = OpenMMEngine(GO_STRUCTURES, GO.simulation, GO.system, seed)
    engine.start(velocity_seed)
    engine.advance(100)
    return engine.state().positions


def test_a_report(engine):
    engine.start(1)
    state = engine.state()
    assert engine.n_atoms == 28
    assert state.positions.dtype == state.velocities.dtype == state.box.dtype == np.float32
    assert state.positions.shape == state.velocities.shape == (28, 3)
    assert not state.box.any()
    assert isinstance(state.potential_energy, float)


def test_the_same_seeds_give_the_same_trajectory_and_others_another():
    np.testing.assert_array_equal(run(1, 5), run(1, 5))
    assert np.abs(run(1, 5) - run(2, 5)).max() > 1e-3
    assert np.abs(run(1, 5) - run(1, 6)).max() > 1e-3


def test_the_engines_of_a_topology_minimise_once_unless_the_first_was_stopped():
    relaxed, asked = {}, []
    simulation = replace(CHIGNOLIN.simulation, minimize=True, minimize_iterations=5)

    def engine(seed):
        return OpenMMEngine(CHIGNOLIN_STRUCTURES, simulation, CHIGNOLIN.system, seed, relaxed=relaxed)

    first, second = engine(1), engine(2)
    first.start(1, stop=lambda: True)
    assert relaxed == {}
    first.start(1, stop=lambda: asked.append(1))
    assert asked
    n_asked = len(asked)
    second.start(1, stop=lambda: asked.append(1))
    assert len(asked) == n_asked
    np.testing.assert_array_equal(first.state().positions, second.state().positions)
    np.testing.assert_allclose(relaxed[first.platform], first.state().positions, atol=1e-6)


def test_a_restart_takes_the_positions_and_new_velocities_by_seed(engine):
    engine.start(1)
    engine.advance(50)
    source = engine.state()
    engine.advance(50)
    engine.set_state(source.positions, seed=7)
    first = engine.state()
    np.testing.assert_allclose(first.positions, source.positions, atol=1e-6)
    assert first.potential_energy == pytest.approx(source.potential_energy, abs=0.1)
    assert np.abs(first.velocities - source.velocities).max() > 0.01
    engine.set_state(source.positions, seed=7)
    np.testing.assert_array_equal(engine.state().velocities, first.velocities)


def test_a_restart_can_copy_the_velocities(engine):
    engine.start(1)
    engine.advance(50)
    source = engine.state()
    engine.advance(50)
    engine.set_state(source.positions, source.velocities, source.box)
    np.testing.assert_allclose(engine.state().velocities, source.velocities, atol=1e-6)


def test_a_restart_with_velocities_redraws_them_by_seed_and_moves_by_half_a_step(engine):
    engine.start(1)
    engine.advance(50)
    source = engine.state()
    found = []
    for seed in (7, 8, 7):
        engine.advance(50)
        engine.set_state(source.positions, source.velocities, source.box, seed)
        found.append(engine.state())
    np.testing.assert_array_equal(found[0].velocities, found[2].velocities)
    assert np.abs(found[0].velocities - found[1].velocities).max() > 0.01
    assert np.abs(found[0].velocities - source.velocities).max() > 0.01
    assert 0 < np.abs(found[0].positions - source.positions).max() < 0.01


def test_velocities_have_the_temperature_of_the_config(engine):
    engine.start(1)
    squares = []
    for seed in range(1, 300):
        engine.advance(50)
        source = engine.state()
        engine.set_state(source.positions, seed=seed)
        squares.append(np.square(engine.state().velocities).mean())
    gas_constant, mass = 8.314462618e-3, 100.0
    assert np.mean(squares) * mass / gas_constant == pytest.approx(300.0, rel=0.03)


def test_bonds_to_hydrogen_are_constrained_after_a_restart(all_atom):
    bonds = [b for b in CHIGNOLIN_STRUCTURES.topology.bonds() if "H" in (b[0].element.symbol, b[1].element.symbol)]
    pairs = np.array([(a.index, b.index) for a, b in bonds])

    def lengths(x):
        return np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)

    all_atom.start(1)
    all_atom.advance(5)
    expected = lengths(all_atom.state().positions)
    noise = np.random.default_rng(0).normal(scale=1e-3, size=(166, 3))
    all_atom.set_state(CHIGNOLIN_STRUCTURES.positions_nm + noise, seed=3)
    np.testing.assert_allclose(lengths(all_atom.state().positions), expected, rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_an_engine_error_and_the_engine_lives_on(engine, bad):
    positions = GO_STRUCTURES.positions_nm.copy()
    positions[3] = bad
    with pytest.raises(EngineError):  # noqa: PT012
        engine.set_state(positions, seed=1)
        engine.advance(10)
        engine.state()
    engine.set_state(GO_STRUCTURES.positions_nm, seed=1)
    engine.advance(10)
    assert np.isfinite(engine.state().potential_energy)


def test_a_timestep_that_is_too_long_is_an_engine_error():
    simulation = replace(GO.simulation, timestep_fs=500.0)
    engine = OpenMMEngine(GO_STRUCTURES, simulation, GO.system, seed=1)
    with pytest.raises(EngineError):  # noqa: PT012
        engine.start(1)
        engine.advance(1000)
        engine.state()


def test_wrong_shapes_are_an_engine_error(engine):
    with pytest.raises(EngineError):
        engine.set_state(np.zeros((5, 3)), seed=1)


def test_small_systems_run_on_the_reference_platform_by_themselves(engine):
    assert engine.platform == "Reference"
    assert check_platform(GO.simulation, None, n_particles=30) == "Reference"
    assert check_platform(GO.simulation, None, n_particles=31) != "Reference"


def test_a_platform_that_does_not_work_is_refused_with_the_cure():
    simulation = replace(GO.simulation, platform="HIP")
    with pytest.raises(EngineError, match=r"HIP does not work here .*set simulation.platform"):
        check_platform(simulation, 0)


def test_a_force_field_that_lacks_the_molecule_is_refused():
    section = replace(CHIGNOLIN.system, force_field=["tip3p.xml"])
    with pytest.raises(InputError, match=r"tip3p\.xml cannot be applied to .*cln025-start\.pdb"):
        build_system(CHIGNOLIN_STRUCTURES, CHIGNOLIN.simulation, section)


def test_a_force_field_that_does_not_exist_is_refused():
    section = replace(CHIGNOLIN.system, force_field=["nowhere.xml"])
    with pytest.raises(InputError, match=r"nowhere\.xml"):
        build_system(CHIGNOLIN_STRUCTURES, CHIGNOLIN.simulation, section)


def test_heavy_hydrogens_keep_the_total_mass():
    def masses(**changes):
        simulation = replace(CHIGNOLIN.simulation, **changes)
        system = build_system(CHIGNOLIN_STRUCTURES, simulation, CHIGNOLIN.system)
        return np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])

    heavy, plain = masses(hydrogen_mass_amu=3.0), masses(hydrogen_mass_amu=None)
    assert heavy.sum() == pytest.approx(plain.sum())
    assert plain.min() == pytest.approx(1.008, abs=1e-3)
    assert heavy.min() == pytest.approx(3.0)


def test_seeds_are_reproducible_and_all_different():
    seeds = [segment_seed(2023, w, s) for w in range(20) for s in range(20)] + [engine_seed(2023, w) for w in range(20)]
    assert segment_seed(2023, 3, 4) == segment_seed(2023, 3, 4)
    assert len(set(seeds)) == len(seeds)
    assert all(1 <= s < 2**31 for s in seeds)
