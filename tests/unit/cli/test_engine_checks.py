"""``ddmd-mpi check --engine``: what it says of programs that work, and of others."""

import re

import pytest
from programs import GMX, LMP, SANDER, gmx, install

from ddmd_mpi.cli import engine_checks


@pytest.mark.parametrize(
    ("name", "program", "version"),
    [
        ("amber", SANDER, "sander 26"),
        ("gromacs", GMX, "GROMACS 20"),
        ("lammps", LMP, "LAMMPS 22 Jul"),
        ("openmm", None, ""),
    ],
)
def test_a_program_that_works_moves_a_molecule_with_the_energy_of_openmm(capsys, monkeypatch, name, program, version):
    install()
    if name == "gromacs":
        gmx()
    assert engine_checks.check_engine(name, program and str(program)) == 0
    first, run, energy = capsys.readouterr().out.splitlines()
    assert first.startswith(f"ok    {name} ")
    assert version in first
    assert run.startswith("ok    run and restart")
    assert energy.startswith("ok    energy")
    monkeypatch.setattr(engine_checks, "TOLERANCE", 0.0)
    assert engine_checks.check_engine(name, program and str(program)) == 1
    assert "FAIL  energy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "program", "said"),
    [
        ("amber", "/no/sander", "FAIL  amber .* the program /no/sander of the engine amber is not found here"),
        ("gromacs", "/bin/true", "FAIL  gromacs .* /bin/true does not say a version of GROMACS"),
        ("lammps", "/bin/true", "FAIL  lammps .* /bin/true does not say a version of LAMMPS"),
        ("emulated", None, "FAIL  emulated .* computes nothing that could be checked"),
        ("nosuch", None, "FAIL  nosuch .* unknown simulation.engine nosuch: choose one of openmm, "),
    ],
)
def test_one_that_does_not_work_says_why(capsys, name, program, said):
    assert engine_checks.check_engine(name, program) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert re.match(said, line)
