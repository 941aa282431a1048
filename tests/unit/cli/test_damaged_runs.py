"""Runs that lack something: ``lineage``, ``populations`` and ``report`` say what they can, and name the rest."""

import shutil

import mdtraj
import numpy as np
import pytest
from click.testing import CliRunner
from synthetic_files import write_trajectories
from synthetic_run import SyntheticRun, in_format_1

from ddmd_mpi.cli.commands import cli
from ddmd_mpi.errors import DDMDError

REGIONS = ("--from", "rmsd_angstrom>5", "--to", "rmsd_angstrom<4", "--samples", 50)


def said(command, run, *arguments):
    """What a command prints, or the sentence that it refuses with."""
    found = CliRunner().invoke(cli, [command, str(run), *map(str, arguments)])
    if isinstance(found.exception, DDMDError):
        return f"{found.exception}"
    assert found.exception is None, found.exception
    return found.output


def keep(run, n_frames, walkers=None):
    """Leave the first frames of a run; of some walkers only."""
    for path in run.glob("trajectories/*.frames.csv"):
        rows = path.read_text().splitlines(keepends=True)
        kept = n_frames if walkers is None or int(path.name[4:8]) in walkers else 0
        path.write_text("".join(rows[: 1 + kept]))


def test_a_run_without_restarts(tmp_path):
    run = SyntheticRun(n_rounds=8, strategy="none").write(tmp_path / "run")
    assert "0 restarts from the start structure" in said("lineage", run)
    shown = said("populations", run, *REGIONS)
    assert "in 4 stretches" in shown
    assert shown.startswith("Not enough data")
    assert "report.html" in said("report", run)


def test_a_run_of_one_frame(fresh):
    keep(fresh, 1, walkers=[0])
    assert "1 frames, 0 ps and 0 restarts" in said("lineage", fresh, "--frame", "0:0:0")
    assert "continue the run" in said("populations", fresh, *REGIONS)
    assert "report.html" in said("report", fresh)


def test_a_run_that_was_cut_off(fresh):
    for path in [p for p in fresh.rglob("*") if p.is_file() and p.name != "config.toml"]:
        content = path.read_bytes()
        path.write_bytes(content[: 2 * len(content) // 3])
    assert "restarts from" in said("lineage", fresh)
    assert "Population of rmsd_angstrom < 4: " in said("populations", fresh, *REGIONS)
    assert "report.html" in said("report", fresh)


def test_a_run_of_an_older_format(fresh):
    new = said("lineage", fresh)
    in_format_1(fresh)
    assert said("lineage", fresh) == new
    assert "Population of rmsd_angstrom < 4: " in said("populations", fresh, *REGIONS)
    assert "report.html" in said("report", fresh)


def test_frames_without_rmsd_are_left_out(fresh):
    for path in fresh.glob("trajectories/*.frames.csv"):
        head, *rows = path.read_text().splitlines()
        cells = [row.split(",") for row in rows]
        for cell in cells[5::7]:
            cell[3] = "nan"
        path.write_text("\n".join([head, *map(",".join, cells)]) + "\n")
    assert "nan" not in said("lineage", fresh).splitlines()[0]
    shown = said("populations", fresh, *REGIONS)
    assert "Population of rmsd_angstrom < 4: " in shown
    assert "report.html" in said("report", fresh)


def test_a_run_without_its_models(fresh):
    shutil.rmtree(fresh / "models")
    assert "restarts from" in said("lineage", fresh)
    assert "Population of rmsd_angstrom < 4: " in said("populations", fresh, *REGIONS)
    assert "has no published model yet" in said("populations", fresh, *REGIONS, "--coordinate", "latent")
    assert "report.html" in said("report", fresh)


def test_a_topology_of_other_atoms(fresh):
    write_trajectories(fresh, np.random.default_rng(0))
    path = next(fresh.glob("topology/*.pdb"))
    mdtraj.load(str(path)).atom_slice(range(7)).save_pdb(str(path))
    shown = said("lineage", fresh)
    assert "restarts from" in shown
    assert "There is no trajectory: " in shown
    assert "Written" in shown


@pytest.mark.parametrize(("region", "name"), [("rmsd_angstrom<0.01", "target"), ("rmsd_angstrom>99", "source")])
def test_a_region_that_no_frame_reached(steered, tmp_path, region, name):
    other = {"target": "--from=rmsd_angstrom>5", "source": "--to=rmsd_angstrom<4"}[name]
    own = {"target": "--to", "source": "--from"}[name]
    shown = said("populations", steered, own, region, other, "--samples", 50, "--output", tmp_path)
    assert shown.startswith("Not enough data")
    assert f"no frame is in the {name} region" in shown
    assert "cannot be said" in shown
