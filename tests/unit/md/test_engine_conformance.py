"""What every engine must do, whichever program moves the atoms: one suite for all of them."""

import re
import socket
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openmm
import pytest
from lammps_files import lammps
from openmm import app, unit
from programs import GMX, LMP, SANDER, alanine, alanine_in_water, force_fields, gmx, gromacs_alanine

from ddmd_mpi.config import validate
from ddmd_mpi.errors import EngineError
from ddmd_mpi.md.engines import engine_maker, keep_topology
from ddmd_mpi.md.imd.client import Receiver, free_port
from ddmd_mpi.md.molecule_files import MoleculeFiles
from ddmd_mpi.md.molecules import build_molecule, load_molecule
from ddmd_mpi.md.prepared import Particles
from ddmd_mpi.md.programs import lammps_run

#: The one of a user's own is that of the documentation.
OWN = "langevin:Langevin"
ENGINES = ("openmm", "amber", "gromacs", "lammps", OWN)
PROGRAMS = {"amber": SANDER, "gromacs": GMX, "lammps": LMP}
#: As OpenMM's reference is.
ACCURATE = {"gromacs": ("fourierspacing = 0.06", "pme-order = 6")}
PAGE = Path(__file__).parents[3] / "docs" / "engines.md"
#: Steps of a report, and reports of a run of a program.
STEPS, REPORTS = 10, 3
DT_FS = 1.0
#: AMBER's constant of Coulomb's law, 18.2223² kcal Å/mol, over that of CODATA, which OpenMM has.
AMBER_COULOMB = 18.2223**2 / (1389.35456 / 4.184)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Gives topology and coordinates of a system, in files for an engine."""
    makers = {
        (False, "implicit"): alanine,
        (False, "explicit"): alanine_in_water,
        (True, "implicit"): gromacs_alanine,
        (True, "explicit"): lambda directory: gromacs_alanine(directory, water=True),
        (True, "triclinic"): lambda directory: gromacs_alanine(directory, water=True, box="dodecahedron"),
    }
    return cache(lambda gromacs, system: makers[gromacs, system](tmp_path_factory.mktemp(system)))


@pytest.fixture(scope="module")
def of_lammps(files, tmp_path_factory):
    """Gives the PDB file, data file and input of a system."""
    return cache(lambda system: lammps(tmp_path_factory.mktemp(f"lammps-{system}"), *files(False, system)))


@pytest.fixture(scope="module", autouse=True)
def langevin(tmp_path_factory):
    """The page's module, on the path."""
    directory = tmp_path_factory.mktemp("langevin")
    source = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    (directory / "langevin.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        yield source


@pytest.fixture
def make(files, of_lammps, tmp_path):
    """Makes an engine of a kind for a system, of files `like` those for another kind; it is freed in the end."""
    made = []

    def make(kind, seed=1, system="implicit", like=None, extra=(), **simulation):
        gromacs, vacuum = (like or kind) == "gromacs", (like or kind) in ("gromacs", "lammps") and system == "implicit"
        topology, start = files(gromacs, system)
        engine = {"program": str(PROGRAMS[kind]), "extra_input": extra} if kind in PROGRAMS else {}
        if kind == "lammps":
            start, topology, given = of_lammps(system)
            engine["input"] = str(given)
        settings = {
            "engine": kind,
            "timestep_fs": DT_FS,
            "segment_ps": REPORTS * STEPS * simulation.get("timestep_fs", DT_FS) / 1000,
            "report_interval_ps": STEPS * simulation.get("timestep_fs", DT_FS) / 1000,
            "pressure_bar": 0.0,
            "minimize": False,
            **({"nonbonded_cutoff_nm": 0.8} if system != "implicit" and kind != "lammps" else {}),
            **simulation,
        }
        config = validate(
            {
                "run": {"usecase": "ala"},
                "system": {
                    "name": "ala",
                    "start": str(start),
                    "target": str(start),
                    "topology": str(topology),
                    **({"parameters": [str(force_fields())]} if gromacs else {}),
                    **({"solvent": "vacuum"} if vacuum else {}),
                },
                "simulation": settings,
                "engine": engine,
            }
        )
        topology = topology_of(config)
        (tmp_path / "topology").mkdir(exist_ok=True)
        keep_topology(config, topology, tmp_path / "topology")
        made.append(engine_maker(config, None, "CPU", tmp_path)(topology, seed))
        return made[-1]

    yield make
    for engine in made:
        engine.free()
    assert not list((tmp_path / "scratch").glob("*"))


class Structures(Particles):
    """With the atoms' names, as the rank has them that writes the files."""

    topology = None


def topology_of(config):
    molecule = load_molecule(MoleculeFiles.of(config.system))
    n_atoms, box = len(molecule.positions_nm), molecule.box_nm
    masses = np.array([a.element.mass.value_in_unit(unit.dalton) for a in molecule.topology.atoms()])
    structures = Structures(
        molecule.positions_nm,
        np.arange(3),
        molecule.positions_nm[:3],
        np.zeros(3, int),
        np.zeros((3, 3), np.float32) if box is None else box.astype(np.float32),
        box is not None,
        masses,
        np.zeros(n_atoms, int),
    )
    structures.topology = molecule.topology
    system = None if config.simulation.engine == "lammps" else build_molecule(molecule, config.simulation)
    return SimpleNamespace(index=0, name="ala", n_atoms=n_atoms, structures=structures, relaxed={}, system=system)


def reference_energy(kind, files, state, cutoff_nm=None):
    """OpenMM's energy of a state, kJ/mol, without the surface term that no other program has.

    In a box that is not rectangular OpenMM 8.6's Reference platform misses pairs near the cutoff: its CPU platform does
    not.
    """
    if files[0].suffix == ".top":
        box = None if cutoff_nm is None else [openmm.Vec3(*row) for row in state.box.tolist()] * unit.nanometer
        found, options = app.GromacsTopFile(str(files[0]), box, includeDir=str(force_fields())), {}
    elif kind == "lammps":
        found, options = app.AmberPrmtopFile(str(files[0])), {}
    else:
        found, options = app.AmberPrmtopFile(str(files[0])), {"implicitSolvent": app.OBC2, "gbsaModel": None}
        raw = found._prmtop._raw_data
        raw["CHARGE"] = [str(float(charge) * AMBER_COULOMB**0.5) for charge in raw["CHARGE"]]
    if cutoff_nm is not None:
        options = {"nonbondedMethod": app.PME, "nonbondedCutoff": cutoff_nm, "ewaldErrorTolerance": 1e-5}
    system = found.createSystem(**options)
    platform = openmm.Platform.getPlatformByName("CPU" if state.box[2, :2].any() else "Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    if cutoff_nm is not None:
        context.setPeriodicBoxVectors(*state.box.astype(float))
    context.setPositions(state.positions.astype(float))
    return context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def reports(engine, n):
    states = []
    for _ in range(n):
        engine.advance(STEPS)
        states.append(engine.state())
    return states


@pytest.fixture(params=ENGINES)
def kind(request):
    if request.param == "gromacs":
        gmx()
    return request.param


def test_states_have_their_shapes_and_go_on_over_the_end_of_a_run(make, kind):
    engine = make(kind)
    engine.start(seed=3)
    states = reports(engine, 2 * REPORTS + 1)
    for state in states:
        assert state.positions.shape == state.velocities.shape == (22, 3)
        assert state.positions.dtype == state.velocities.dtype == state.box.dtype == np.float32
        assert state.box.shape == (3, 3)
        assert not state.box.any()
        assert all(np.isfinite(a).all() for a in state)
    moved = [np.abs(a.positions - b.positions).max() for a, b in zip(states, states[1:], strict=False)]
    assert min(moved) > 1e-4
    assert max(moved) < 0.05


def test_the_temperature_is_that_of_the_settings(make, kind):
    engine = make(kind, temperature_kelvin=400.0, friction_per_ps=50.0, timestep_fs=2.0, segment_ps=1.0)
    engine.start(seed=3)
    reports(engine, 5)
    masses = openmm_masses(make, kind)
    kinetic = np.mean([0.5 * (masses[:, None] * s.velocities**2).sum() for s in reports(engine, 60)])
    degrees = 3 * 22 - 12  # a bond to each hydrogen is constrained
    assert 320 < 2 * kinetic / (degrees * 0.00831446) < 480


def openmm_masses(make, kind):
    system = make("openmm", like=kind)._context.getSystem()
    return np.array([system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(system.getNumParticles())])


@pytest.mark.parametrize(("system", "cutoff_nm"), [("implicit", None), ("explicit", 0.8)])
@pytest.mark.parametrize("kind", PROGRAMS, indirect=True)
def test_its_energy_is_openmms(make, files, kind, system, cutoff_nm):
    """Steps so short that it does not matter which of two steps a program's energy belongs to."""
    source = make("openmm", system=system, like=kind)
    source.start(seed=3)
    (state,) = reports(source, 1)
    engine = make(kind, system=system, extra=ACCURATE.get(kind, ()), timestep_fs=0.001, friction_per_ps=0.0)
    engine.set_state(state.positions, state.velocities, state.box)
    (found,) = reports(engine, 1)
    expected = reference_energy(kind, files(kind == "gromacs", system), found, cutoff_nm)
    assert found.potential_energy == pytest.approx(expected, rel=5e-5)


def test_gromacs_runs_a_box_that_is_not_rectangular(make, files):
    """A rhombic dodecahedron, over the end of a run: molecules stay whole and near where they were."""
    gmx()
    source = make("openmm", system="triclinic", like="gromacs")
    source.start(seed=3)
    (state,) = reports(source, 1)
    assert np.abs(state.box[2, :2]).min() > 0.5
    still = make("gromacs", system="triclinic", extra=ACCURATE["gromacs"], timestep_fs=0.001, friction_per_ps=0.0)
    still.set_state(state.positions, state.velocities, state.box)
    (found,) = reports(still, 1)
    np.testing.assert_allclose(found.box, state.box, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.positions, state.positions, atol=0.004)
    expected = reference_energy("gromacs", files(True, "triclinic"), found, 0.8)
    assert found.potential_energy == pytest.approx(expected, rel=5e-5)
    moving = make("gromacs", system="triclinic")
    moving.set_state(state.positions, state.velocities, state.box)
    for later in reports(moving, REPORTS + 1):
        assert np.abs(later.positions - state.positions).max() < 0.2


@pytest.mark.parametrize("system", ["implicit", "explicit"])
def test_a_state_that_is_set_is_where_it_goes_on(make, kind, system):
    """With its velocities and its box, in a step too short to change them."""
    source = make("openmm", system=system, like=kind)
    source.start(seed=3)
    (state,) = reports(source, 1)
    engine = make(kind, system=system, timestep_fs=0.05)
    engine.set_state(state.positions, state.velocities, state.box)
    (found,) = reports(engine, 1)
    np.testing.assert_allclose(found.positions, state.positions, atol=0.004)
    assert np.corrcoef(found.velocities.ravel(), state.velocities.ravel())[0, 1] > 0.95
    np.testing.assert_allclose(found.box, state.box, rtol=1e-6)


def test_velocities_are_drawn_by_seed(make, kind):
    engine = make(kind)
    engine.start(seed=3)
    (source,) = reports(engine, 1)

    def restarted(seed):
        engine.set_state(source.positions, None, source.box, seed)
        return reports(engine, 1)[0].velocities

    def likeness(a, b):
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]

    first, again, other = restarted(5), restarted(5), restarted(6)
    assert likeness(first, again) > likeness(first, other) + 0.2
    assert first.std() > 0.1


def test_equal_seeds_give_equal_trajectories(make, kind):
    def run(seed, start):
        engine = make(kind, seed)
        engine.start(start)
        return reports(engine, REPORTS + 1)[-1].positions

    np.testing.assert_allclose(run(1, 3), run(1, 3), atol=1e-5)
    assert np.abs(run(1, 3) - run(2, 3)).max() > 1e-3
    assert np.abs(run(1, 3) - run(1, 4)).max() > 1e-3


def test_a_snapshot_is_gone_on_from(make, kind):
    engine, other = make(kind, timestep_fs=0.05), make(kind, seed=2, timestep_fs=0.05)
    engine.start(seed=3)
    (state,) = reports(engine, 1)
    other.restore(engine.snapshot(), seed=9)
    np.testing.assert_allclose(other.state().positions, state.positions, atol=1e-6)
    (found,) = reports(other, 1)
    np.testing.assert_allclose(found.positions, state.positions, atol=0.004)
    assert np.corrcoef(found.velocities.ravel(), state.velocities.ravel())[0, 1] > 0.95


def test_a_restart_leaves_what_it_was_doing(make, kind):
    """One step to be sure that it moves, as a walker does, and then the rest of the report."""
    engine = make(kind)
    engine.start(seed=3)
    (source,) = reports(engine, 1)
    engine.advance(3)
    engine.set_state(source.positions, source.velocities, source.box, seed=None)
    engine.advance(1)
    engine.advance(STEPS - 1)
    state = engine.state()
    assert 1e-4 < np.abs(state.positions - source.positions).max() < 0.05


def test_the_start_is_minimised(make, kind):
    prepared, raw = make(kind, minimize=True, minimize_iterations=200), make(kind)
    prepared.start(seed=3)
    raw.start(seed=3)
    assert np.abs(prepared.state().positions - raw.state().positions).max() > 0.005


def test_a_start_that_is_to_stop_stops(make, kind):
    engine = make(kind, minimize=True)
    engine.start(seed=3, stop=lambda: True)
    assert np.isfinite(engine.state().positions).all()


@pytest.mark.parametrize("kind", [kind for kind in ENGINES if kind != "lammps"], indirect=True)
def test_hydrogens_have_the_mass_of_the_settings(make, kind):
    """4 fs are stable with them alone. LAMMPS has masses of types, so that it refuses the setting."""
    engine = make(kind, timestep_fs=4.0, hydrogen_mass_amu=4.0, friction_per_ps=10.0)
    engine.start(seed=3)
    assert np.isfinite(reports(engine, 20)[-1].potential_energy)


def test_a_simulation_that_explodes_is_a_failure_that_can_be_recovered_from(make, kind):
    engine = make(kind, timestep_fs=25.0)
    engine.start(seed=3)
    source = engine.state()
    with pytest.raises(EngineError):
        reports(engine, 100)
    engine.set_state(source.positions, None, source.box, seed=5)
    np.testing.assert_allclose(engine.state().positions, source.positions, atol=0.02)


@pytest.mark.parametrize("kind", ["openmm", *PROGRAMS], indirect=True)
def test_pressure_changes_the_box(make, kind):
    engine = make(kind, system="explicit", pressure_bar=1000.0, timestep_fs=2.0, segment_ps=0.2)
    engine.start(seed=3)
    before = engine.state().box
    after = reports(engine, 6)[-1].box
    assert np.diag(after).prod() != np.diag(before).prod()
    assert 0.8 < np.diag(after).prod() / np.diag(before).prod() < 1.1


@pytest.fixture
def taken(monkeypatch):
    """Has LAMMPS listen at a port that others know, once; gives that port."""
    monkeypatch.setattr(lammps_run, "free_port", iter([port := free_port(), free_port()]).__next__)
    return port


def test_a_port_in_use_is_a_failure_and_the_next_start_has_another(make, taken):
    engine = make("lammps")
    engine.start(seed=3)
    with socket.create_server(("", taken)), pytest.raises(EngineError, match="lammps ended with exit code .*IMD"):
        reports(engine, 1)
    engine.start(seed=3)
    assert np.isfinite(reports(engine, 1)[0].potential_energy)


def test_a_stranger_at_the_port_is_a_failure_and_the_next_start_has_another(make, taken, monkeypatch):
    """LAMMPS ends if the first client says what it does not understand."""
    engine = make("lammps")
    engine.start(seed=3)
    with monkeypatch.context() as patch, socket.socket() as stranger:
        patch.setattr(Receiver, "_connect", lambda self: None)
        while stranger.connect_ex(("127.0.0.1", taken)):
            engine.poll()
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(EngineError, match="lammps ended with exit code .*IMD"):
            reports(engine, 1)
    engine.start(seed=3)
    assert np.isfinite(reports(engine, 1)[0].potential_energy)


def test_the_documented_engine_is_short(langevin):
    assert len(langevin.splitlines()) <= 60
