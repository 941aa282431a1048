"""NAMD's configuration and restart files, field by field, and a stand-in that plays the program: NAMD is not run."""

import struct
import sys
from pathlib import Path

import MDAnalysis
import numpy as np
import openmm
import pytest
from openmm import app, unit
from programs import ROOT, alanine

from ddmd_mpi.config import validate
from ddmd_mpi.config.dynamics import SimulationSection
from ddmd_mpi.errors import ConfigError, EngineError, InputError
from ddmd_mpi.md.engines import check_molecule, engine_maker, keep_topology
from ddmd_mpi.md.programs.namd import AMBER, check_settings, files, version
from ddmd_mpi.md.programs.namd_files import (
    configuration,
    read_positions,
    write_box,
    write_positions,
    write_velocities,
)
from ddmd_mpi.md.programs.namd_run import EnergyTable, System, dynamics, minimisation
from ddmd_mpi.md.programs.streamed import LoggedEnergies
from ddmd_mpi.md.topologies import load_topology

STAND_IN = Path(__file__).parents[2] / "namd_stand_in.py"
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
    program = directory / "namd3"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    program.chmod(0o755)
    return program, *alanine(directory)


def test_the_stand_in_moves_a_walker(namd, tmp_path):
    program, prmtop, inpcrd = namd
    config = validate(settings(inpcrd, prmtop, program, simulation={"hydrogen_mass_amu": 3.0}))
    topology = load_topology(config, 0)
    check_molecule(config, topology.structures)
    kept = tmp_path / "topology"
    kept.mkdir()
    keep_topology(config, topology, kept)
    masses = app.AmberPrmtopFile(str(kept / "ala.prmtop"))._prmtop._raw_data["MASS"]
    assert sorted({round(float(mass), 3) for mass in masses})[0] == 3.0
    engine = engine_maker(config, None, "CPU", tmp_path)(topology, 1)
    try:
        engine.start(3)
        # Over the end of a run, whose restart files the next one takes.
        states = []
        for _ in range(3):
            engine.advance(10)
            states.append(engine.state())
        engine.set_state(states[0].positions, states[0].velocities, states[0].box)
        engine.advance(10)
        again = engine.state()
        text = next((tmp_path / "scratch").glob("namd-*/run.namd")).read_text()
        engine._child.end()
        with pytest.raises(EngineError, match="namd ended with exit code -9 after"):
            engine.advance(20)
    finally:
        engine.free()
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
