"""AMBER's sander: its input, its files as they grow, its versions; the suite of all engines runs it."""

import os

import numpy as np
import pytest
from scipy.io import netcdf_file

from ddmd_mpi.config import validate
from ddmd_mpi.config.dynamics import EngineSection, SimulationSection
from ddmd_mpi.errors import ConfigError, EngineError, InputError
from ddmd_mpi.md.programs import amber, lammps, netcdf
from ddmd_mpi.md.programs.sander import FRAMES, MDOUT, Output, Settings, dynamics, namelist

STEPS = 10
#: What sander writes of a step.
SAID = """\
 NSTEP ={step:9d}   TIME(PS) =       0.010  TEMP(K) =   300.00  PRESS =     0.0
 Etot   =        -1.0000  EKtot   =         1.0000  EPtot      =  {energy}
 BOND   =         1.0000
"""
TRICLINIC = np.array([[3.0, 0.0, 0.0], [1.0, 3.0, 0.0], [1.0, 1.0, 2.0]])


def trajectory(path, n_frames, *, velocities=True):
    """A trajectory of four atoms, as sander writes it."""
    with netcdf_file(path, "w", version=2) as file:
        file.createDimension("frame", None)
        file.createDimension("atom", 4)
        file.createDimension("spatial", 3)
        moments = file.createVariable("time", "f", ("frame",))
        names = ["coordinates", *(["velocities"] if velocities else [])]
        of = {name: file.createVariable(name, "f", ("frame", "atom", "spatial")) for name in names}
        for index in range(n_frames):
            moments[index] = index
            for variable in of.values():
                variable[index] = np.full((4, 3), index + 1.0)
    return path.read_bytes()


@pytest.fixture
def output(tmp_path):
    """What a run has written: text of mdout, and bytes of the trajectory."""

    def output(said, frames):
        (tmp_path / MDOUT).write_text(said)
        (tmp_path / FRAMES).write_bytes(frames)
        return Output(tmp_path, STEPS)

    return output


def test_a_frame_counts_once_the_file_and_its_energy_are_whole(output, tmp_path):
    whole, said = trajectory(tmp_path / "whole", 2), SAID.format(step=STEPS, energy="-20.0000")
    # The number of frames stands at the beginning of the file, and may be written before the second frame is.
    found = output(said, whole[:-20])
    assert found.begun()
    assert found.frame(0) is None
    (tmp_path / FRAMES).write_bytes(whole)
    state = found.frame(0)
    np.testing.assert_allclose(state.positions, 0.1, rtol=1e-6)
    np.testing.assert_allclose(state.velocities, 2.0455, rtol=1e-4)
    assert state.potential_energy == pytest.approx(-20 * 4.184)
    assert found.frame(1) is None
    with (tmp_path / MDOUT).open("a") as file:
        file.write(SAID.format(step=2 * STEPS, energy="-10.0000"))
    assert found.frame(1).potential_energy == pytest.approx(-10 * 4.184)


def test_a_trajectory_that_stays_broken_is_a_failure(output, tmp_path):
    found = output(SAID.format(step=STEPS, energy="-20.0000"), trajectory(tmp_path / "whole", 2)[:-20])
    (tmp_path / FRAMES).write_bytes(b"CDF\x02 and then something else")
    assert found.frame(0) is None
    os.utime(tmp_path / FRAMES, (0, 0))
    with pytest.raises(EngineError, match="frames.nc cannot be read"):
        found.frame(0)


def test_a_trajectory_without_velocities_is_a_failure(output, tmp_path):
    frames = trajectory(tmp_path / "whole", 1, velocities=False)
    with pytest.raises(EngineError, match="has no velocities: leave ntwv out"):
        output(SAID.format(step=STEPS, energy="-20.0000"), frames).frame(0)


def test_an_energy_that_does_not_fit_into_its_column_is_none(output, tmp_path):
    found = output(SAID.format(step=STEPS, energy="**************"), trajectory(tmp_path / "whole", 1))
    assert np.isnan(found.frame(0).potential_energy)


def test_restart_files_have_what_a_state_has(tmp_path):
    rng = np.random.default_rng(1)
    positions, velocities = rng.normal(size=(2, 5, 3))
    netcdf.write_restart(tmp_path / "a.nc", positions, velocities, np.diag([3.0, 4.0, 5.0]))
    np.testing.assert_allclose(netcdf.read_restart(tmp_path / "a.nc"), positions)
    with netcdf_file(tmp_path / "a.nc", "r", mmap=False) as file:
        stored = file.variables["velocities"]
        np.testing.assert_allclose(stored[:] * stored.scale_factor, 10 * velocities)
        np.testing.assert_allclose(file.variables["cell_lengths"][:], [30, 40, 50])
        np.testing.assert_allclose(file.variables["cell_angles"][:], 90)


def test_a_run_says_what_the_settings_say():
    simulation = SimulationSection(
        timestep_fs=4.0, temperature_kelvin=310.0, friction_per_ps=2.0, report_interval_ps=1.0, segment_ps=5.0
    )
    text = namelist(
        dynamics(simulation, Settings(False, False, ("saltcon=0.1",)), False, 41), ("igb=8,", "saltcon=0.1")
    )
    for entry in (
        "dt=0.004000000,",
        "temp0=310.0,",
        "gamma_ln=2.0,",
        "nstlim=1250,",
        "ntwx=250,",
        "ntwv=-1,",
        "ig=42,",
    ):
        assert f"  {entry}\n" in text
    assert "igb=5" not in text
    assert text.endswith("  igb=8,\n  saltcon=0.1,\n /\n")


def settings(tmp_path, kind="amber", **given):
    topology = tmp_path / ("m.prmtop" if kind == "amber" else "m.data")
    topology.write_text("%VERSION\n" if kind == "amber" else "made by hand\n\n3 atoms\n2 atom types\n")
    return validate(
        {
            "run": {"usecase": "x"},
            "system": {"name": "x", "start": str(tmp_path / "m.pdb"), "target": "y.pdb", "topology": str(topology)},
            "simulation": {"engine": kind, **given.get("simulation", {})},
            "engine": given.get("engine", {}),
        }
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"simulation": {"platform": "CUDA"}}, "cannot honour simulation.platform = CUDA"),
        ({"simulation": {"threads": 2}}, "cannot honour simulation.threads = 2"),
        ({"simulation": {"precision": "double"}}, "cannot honour simulation.precision = double"),
        ({"engine": {"extra_input": ["ntwv=0"]}}, "engine.extra_input sets ntwv, which other settings decide"),
        ({"engine": {"extra_input": ["saltcon=0.1 / &wt"]}}, "give entries of &cntrl alone"),
    ],
)
def test_what_sander_cannot_honour_is_refused(tmp_path, given, said):
    with pytest.raises(ConfigError, match=said):
        amber.check_settings(settings(tmp_path, **given))


@pytest.mark.parametrize("program", [amber, lammps])
def test_a_box_that_is_not_rectangular_is_refused(tmp_path, program):
    with pytest.raises(InputError, match=r"runs rectangular boxes, and the box of .*m.pdb is not rectangular"):
        program.check_molecule(settings(tmp_path, program.NAME), TRICLINIC)


def test_a_program_that_is_missing_or_another_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="the program sander of the engine amber is not found here: install"):
        amber.find(EngineSection())
    program = tmp_path / "sander"
    for said, known in (("hello", False), ("sander: Version 26.0", True)):
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
        if known:
            assert amber.find(EngineSection(arguments=["-y", "x"])).command == (str(program), "-y", "x")
        else:
            with pytest.raises(ConfigError, match="does not say a version of sander"):
                amber.find(EngineSection())
