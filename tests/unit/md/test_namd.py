"""NAMD's configuration and restart files, field by field, and a stand-in that plays the program: NAMD is not run."""

import struct
from pathlib import Path

import imdclient
import MDAnalysis
import numpy as np
import openmm
import pytest
from MDAnalysis.topology.PSFParser import PSFParser
from molecule_files import EDGES, nine_waters, write_charmm
from namd_stand_in import installed
from openmm import app, unit
from programs import ROOT, alanine

from ddmd_mpi.config import validate
from ddmd_mpi.config.dynamics import SimulationSection
from ddmd_mpi.errors import ConfigError, EngineError, InputError
from ddmd_mpi.md.coordinates import write_pdb
from ddmd_mpi.md.engines import check_molecule, engine_maker, keep_topology
from ddmd_mpi.md.programs.engine import Start
from ddmd_mpi.md.programs.namd import AMBER, CHARMM, check_settings, files, program_maker, version
from ddmd_mpi.md.programs.namd_files import (
    configuration,
    read_positions,
    write_box,
    write_positions,
    write_velocities,
)
from ddmd_mpi.md.programs.namd_run import EnergyTable, System, dynamics, interactions, minimisation
from ddmd_mpi.md.programs.streamed import LoggedEnergies
from ddmd_mpi.md.topologies import load_topology

#: A configuration that NAMD 3 runs, for a stream that its client reads.
REAL = Path(imdclient.__file__).parent / "data" / "namd" / "md" / "namd_v3_nst_8.namd"
SIMULATION = SimulationSection(
    timestep_fs=2.0, temperature_kelvin=310.0, friction_per_ps=2.0, report_interval_ps=1.0, segment_ps=5.0
)


def test_a_run_in_a_box_of_water_says_what_the_settings_say():
    found = dynamics(SIMULATION, System({}, periodic=True, implicit=True), 41, 23456, 2500)
    assert found == {
        "binCoordinates": "start.coor",
        "binVelocities": "start.vel",
        "extendedSystem": "start.xsc",
        "switching": "off",
        "cutoff": "10",
        "pairlistdist": "11.5",
        "nonbondedFreq": 1,
        "fullElectFrequency": 1,
        "stepspercycle": 20,
        "wrapAll": "off",
        "wrapWater": "off",
        "PME": "yes",
        "PMEGridSpacing": 1.0,
        "LJCorrection": "yes",
        "timestep": "2",
        "rigidBonds": "all",
        "rigidTolerance": 1e-6,
        "useSettle": "on",
        "seed": 42,
        "langevin": "on",
        "langevinTemp": "310",
        "langevinHydrogen": "on",
        "langevinDamping": "2",
        "useGroupPressure": "yes",
        "useFlexibleCell": "no",
        "langevinPiston": "on",
        "langevinPistonTarget": "1",
        "langevinPistonTemp": "310",
        "langevinPistonPeriod": 200,
        "langevinPistonDecay": 100,
        "IMDon": "yes",
        "IMDport": 23456,
        "IMDfreq": 500,
        "IMDwait": "yes",
        "IMDignore": "yes",
        "IMDversion": 3,
        "IMDsendTime": "yes",
        "IMDsendBoxDimensions": "yes",
        "IMDsendPositions": "yes",
        "IMDsendVelocities": "yes",
        "IMDsendEnergies": "no",
        "IMDsendForces": "no",
        "IMDwrapPositions": "no",
        "outputEnergies": 500,
        "outputName": "end",
        "binaryOutput": "yes",
        "firstTimestep": 0,
        "run": 2500,
    }


def test_its_keys_are_those_of_a_configuration_that_namd_has_run():
    """All of the stream's, with the same words for yes, and all but those that name other output."""
    lines = [line.split() for line in REAL.read_text().splitlines() if line.strip() and not line.startswith("#")]
    others = ("cellBasis", "DCD", "vel", "force", "XST", "xst", "numsteps", "switchdist", "margin")
    real = {key: values[0] for key, *values in lines if not key.startswith(others)}
    box = System({**AMBER, **CHARMM, "structure": 1, "coordinates": 1}, periodic=True, implicit=False)
    ours = dynamics(SIMULATION, box, 1, 2, 3)
    known = {key.lower() for key in (*ours, *minimisation(SIMULATION, box), "parameters")}
    assert {key.lower() for key in real} <= known
    stream = [key for key in real if key.startswith("IMDsend")]
    assert len(stream) == 6
    assert {real[key] for key in stream} == {"yes"}
    assert {ours[key] for key in stream} == {"yes", "no"}
    assert int(real["IMDversion"]) == ours["IMDversion"]


def test_a_psf_in_a_box_has_charmms_cutoff():
    def found(nm, **given):
        return interactions(SimulationSection(nonbonded_cutoff_nm=nm), System(given, periodic=True, implicit=False))

    psf = found(None, **CHARMM)
    assert (psf["cutoff"], psf["switching"], psf["switchdist"]) == ("12", "on", "10")
    for other in (found(1.1, **CHARMM), found(None, **AMBER)):
        assert other["switching"] == "off"
        assert "switchdist" not in other
    assert found(1.1, **CHARMM)["cutoff"] == "11"


def test_without_a_box_there_is_implicit_solvent_or_a_vacuum():
    implicit = dynamics(SIMULATION, System({}, periodic=False, implicit=True), 1, 2, 3)
    vacuum = dynamics(SIMULATION, System({}, periodic=False, implicit=False), 1, 2, 3)
    assert (implicit["GBIS"], implicit["sasa"], implicit["cutoff"]) == ("on", "off", "1000")
    for of_a_box in ("extendedSystem", "PME", "langevinPiston"):
        assert of_a_box not in implicit
    assert vacuum.keys() == implicit.keys() - {"GBIS", "solventDielectric", "ionConcentration", "sasa", "alphaCutoff"}
    still = SimulationSection(friction_per_ps=0.0, nonbonded_cutoff_nm=0.9, minimize_iterations=7)
    assert not any(key.startswith("langevin") for key in dynamics(still, System({}, False, False), 1, 2, 3))
    minimised = minimisation(still, System({}, False, False))
    assert (minimised["cutoff"], minimised["temperature"], minimised["minimize"]) == ("9", 0, 7)


def test_restart_files_are_those_that_others_read(tmp_path):
    rng = np.random.default_rng(1)
    positions, velocities = rng.normal(size=(2, 5, 3))
    write_positions(tmp_path / "a.coor", positions)
    universe = MDAnalysis.Universe.empty(5, trajectory=False)
    universe.load_new(str(tmp_path / "a.coor"), format="NAMDBIN")
    np.testing.assert_allclose(universe.atoms.positions, 10 * positions, rtol=1e-6)
    np.testing.assert_allclose(read_positions(tmp_path / "a.coor"), positions)
    write_velocities(tmp_path / "a.vel", velocities)
    data = (tmp_path / "a.vel").read_bytes()
    assert struct.unpack("=i", data[:4]) == (5,)
    np.testing.assert_allclose(np.frombuffer(data[4:]).reshape(5, 3) * 20.45482706, 10 * velocities)
    write_box(tmp_path / "a.xsc", np.array([[3, 0, 0], [1, 2, 0], [0, 0, 1.5]]), np.array([0.1, 0.2, 0.3]))
    *_, labels, numbers = (tmp_path / "a.xsc").read_text().splitlines()
    assert labels == "#$LABELS step a_x a_y a_z b_x b_y b_z c_x c_y c_z o_x o_y o_z"
    assert [float(x) for x in numbers.split()] == [0, 30, 0, 0, 10, 20, 0, 0, 0, 15, 1, 2, 3]
    (tmp_path / "a.coor").write_bytes(data[:-1])
    with pytest.raises(ValueError, match="is not complete"):
        read_positions(tmp_path / "a.coor")


def test_energies_are_found_by_the_names_of_their_columns(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "Info: x\nETITLE:   TS  BOND  POTENTIAL  TOTAL3\n\nENERGY:   0  1.0  2.0  3.0\nENERGY:   10  1.0  4."
    )
    energies = LoggedEnergies(log, EnergyTable())
    assert energies.of(0, {}) == pytest.approx(8.368)
    assert energies.of(10, {}) is None
    with log.open("a") as file:
        file.write("0  3.0\n")
    assert energies.of(10, {}) == pytest.approx(16.736)


def settings(start, topology, program=None, **given):
    return {
        "run": {"usecase": "ala"},
        "system": {
            "name": "ala",
            "start": str(start),
            "target": str(ROOT / "inputs" / "engines" / "alanine-target.pdb"),
            "topology": str(topology),
            "descriptor": [4, 6, 8, 14, 16],
            **given.pop("system", {}),
        },
        "simulation": {
            "engine": "namd",
            "timestep_fs": 1.0,
            "report_interval_ps": 0.01,
            "segment_ps": 0.02,
            "minimize_iterations": 20,
            **given.pop("simulation", {}),
        },
        "engine": {**({"program": str(program)} if program else {}), **given.pop("engine", {})},
    }


def test_what_namd_cannot_honour_is_refused():
    check_settings(validate(settings("x.pdb", "x.prmtop")))
    for section, key, value, named in (
        ("simulation", "platform", "OpenCL", "simulation.platform = OpenCL"),
        ("simulation", "precision", "double", "simulation.precision"),
        ("engine", "input", "x.in", "engine.input"),
        ("engine", "extra_input", ["IMDport 3000"], "extra_input sets IMDport"),
        ("engine", "extra_input", ["langevintemp 3000"], "extra_input sets langevintemp"),
    ):
        with pytest.raises(ConfigError, match=named):
            check_settings(validate(settings("x.pdb", "x.prmtop", **{section: {key: value}})))


def test_another_program_or_an_old_one_is_refused(tmp_path):
    path = tmp_path / "namd"
    for said, message in (
        ("Info: NAMD 2.14 for Linux-x86_64-multicore", "is NAMD 2.14: 3 or newer is needed"),
        ("hello", "does not say a version of NAMD"),
    ):
        path.write_text(f"#!/bin/sh\necho '{said}'\n")
        path.chmod(0o755)
        with pytest.raises(ConfigError, match=message):
            version(str(path))
    path.write_text("#!/bin/sh\necho 'Charm++> x'; echo 'Info: NAMD 3.0.2 for Linux'\n")
    assert version(str(path)) == "3.0.2"


@pytest.mark.parametrize(
    ("gpu", "given", "expected"),
    [
        (None, {}, ["+setcpuaffinity", "+p2", "run.namd"]),
        (3, {}, ["+setcpuaffinity", "+p2", "+devices", "3", "run.namd"]),
        (3, {"platform": "CPU"}, ["+setcpuaffinity", "+p2", "run.namd"]),
    ],
)
def test_a_build_for_gpus_is_given_that_of_its_rank(namd, tmp_path, gpu, given, expected):
    program, prmtop, inpcrd = namd
    simulation = {"threads": 2, **given}
    engine = {"arguments": ["+setcpuaffinity"]}
    config = validate(settings(inpcrd, prmtop, program, simulation=simulation, engine=engine))
    topology = load_topology(config, 0)
    keep_topology(config, topology, tmp_path)
    program_ = program_maker(config, gpu, tmp_path)(topology)
    start = Start(topology.structures.positions_nm, None, np.zeros((3, 3)))
    assert program_.run(tmp_path, start, 1) == [str(program), *expected]


def test_a_psf_has_its_parameters_one_a_line(tmp_path):
    system = {"parameters": [str(tmp_path / name) for name in ("a.rtf", "b.prm", "c.str")]}
    entries = files(validate(settings("x.pdb", "x.psf", system=system)), "CHARMM", tmp_path)
    text = configuration(entries, ("run 10",))
    assert text.splitlines() == [
        "# ddmd-mpi",
        "paraTypeCharmm on",
        "exclude scaled1-4",
        "1-4scaling 1.0",
        f"structure {tmp_path / 'ala.psf'}",
        f"coordinates {tmp_path / 'ala.pdb'}",
        f"parameters {tmp_path / 'b.prm'}",
        f"parameters {tmp_path / 'c.str'}",
        "run 10",
    ]


@pytest.fixture(scope="module")
def namd(tmp_path_factory):
    """The stand-in as a program, and files of AMBER."""
    directory = tmp_path_factory.mktemp("namd")
    return installed(directory), *alanine(directory)


def test_the_stand_in_moves_a_walker(namd, engine, tmp_path):
    program, prmtop, inpcrd = namd
    moving = engine(settings(inpcrd, prmtop, program, simulation={"hydrogen_mass_amu": 3.0}))
    kept = tmp_path / "topology"
    check_kept(prmtop, kept / "ala.prmtop")
    moving.start(3)
    # Over the end of a run, whose restart files the next one takes.
    states = []
    for _ in range(3):
        moving.advance(10)
        states.append(moving.state())
    moving.set_state(states[0].positions, states[0].velocities, states[0].box)
    moving.advance(10)
    again = moving.state()
    text = next((tmp_path / "scratch").glob("namd-*/run.namd")).read_text()
    moving._child.end()
    with pytest.raises(EngineError, match="namd ended with exit code -9 after"):
        moving.advance(20)
    moved = [np.abs(a.positions - b.positions).max() for a, b in zip(states, states[1:], strict=False)]
    assert 1e-4 < min(moved) < max(moved) < 0.05
    assert np.abs(again.positions - states[1].positions).max() < 0.01
    assert all(f"{key} {value}\n" in text for key, value in AMBER.items())
    assert f"parmfile {kept / 'ala.prmtop'}\n" in text
    assert f"coordinates {kept / 'ala.pdb'}\n" in text
    assert MDAnalysis.Universe(kept / "ala.pdb").atoms.n_atoms == 22
    assert text.endswith("run 20\n")
    for state in states:
        assert state.potential_energy == pytest.approx(energy(prmtop, state.positions), abs=0.02)


def check_kept(prmtop, kept):
    """Hydrogens have the mass of the settings, and what they are bonded to is lighter; nothing else has changed."""
    given, found = (app.AmberPrmtopFile(str(path))._prmtop._raw_data for path in (prmtop, kept))
    before, after = (np.array(raw.pop("MASS"), float) for raw in (given, found))
    assert given == found
    hydrogens = np.isclose(before, 1.008, atol=0.01)
    np.testing.assert_allclose(after[hydrogens], 3.0, rtol=1e-6)
    assert (after[~hydrogens] <= before[~hydrogens]).all()
    assert after.sum() == pytest.approx(before.sum(), abs=0.02)


@pytest.fixture
def engine(namd, tmp_path):
    """Makes an engine of a config and its kept files; it is freed in the end."""
    made = []

    def make(given):
        config = validate(given)
        topology = load_topology(config, 0)
        check_molecule(config, topology.structures)
        (tmp_path / "topology").mkdir()
        keep_topology(config, topology, tmp_path / "topology")
        made.append(engine_maker(config, None, "CPU", tmp_path)(topology, 1))
        return made[-1]

    yield make
    for one in made:
        one.free()


def test_the_stand_in_moves_a_box_of_a_psf(namd, engine, tmp_path):
    """Over the end of a run: what NAMD leaves is what it begins with again."""
    psf, prm, crd = (tmp_path / name for name in ("water.psf", "water.prm", "water.crd"))
    topology, positions, system = nine_waters()
    write_charmm(topology, system, positions, psf, prm, crd)
    given = settings(crd, psf, namd[0], simulation={"nonbonded_cutoff_nm": 0.9, "friction_per_ps": 0.0})
    write_pdb(topology, 1.1 * positions, tmp_path / "target.pdb")
    given["system"] |= {"parameters": [str(prm)], "box_nm": list(EDGES), "descriptor": [0, 3, 6, 9]}
    given["system"]["target"] = str(tmp_path / "target.pdb")
    moved = engine(given)
    kept = tmp_path / "topology"
    assert (kept / "ala.psf").read_text() == psf.read_text()
    with PSFParser(kept / "ala.psf") as parser:
        np.testing.assert_allclose(parser.parse().masses.values, 9 * [15.9994, 1.008, 1.008], atol=0.01)
    moved.start(3)
    (place,) = (tmp_path / "scratch").glob("namd-*")
    states = []
    for _ in range(3):
        moved.advance(10)
        states.append(moved.state())
    text = (place / "run.namd").read_text()
    assert f"structure {kept / 'ala.psf'}\n" in text
    assert f"parameters {prm}\n" in text
    assert "extendedSystem start.xsc\n" in text
    # The second run begins with what the first has left.
    np.testing.assert_allclose(read_positions(place / "start.coor"), states[1].positions, atol=1e-5)
    box = [float(x) for x in (place / "start.xsc").read_text().splitlines()[-1].split()[1:10]]
    np.testing.assert_allclose(box, 10 * np.diag(EDGES).ravel(), atol=1e-5)
    for state in states:
        np.testing.assert_allclose(state.box, np.diag(EDGES), atol=1e-5)
    assert 1e-5 < np.abs(states[2].positions - states[1].positions).max() < 0.05


def energy(prmtop, positions):
    system = app.AmberPrmtopFile(str(prmtop)).createSystem(implicitSolvent=app.OBC2, gbsaModel=None)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions.astype(float))
    return context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def test_only_files_of_amber_and_charmm_are_taken(tmp_path):
    (tmp_path / "x.top").write_text("[ system ]\n")
    config = validate(settings("x.gro", tmp_path / "x.top"))
    with pytest.raises(InputError, match="needs a prmtop or a PSF"):
        check_molecule(config, type("Structures", (), {"box_nm": np.zeros((3, 3))}))
