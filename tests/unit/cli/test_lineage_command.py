"""``ddmd-mpi lineage``: what it prints and writes, and what it says of bad input."""

import csv
import xml.etree.ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from synthetic_files import write_trajectories

from ddmd_mpi.analysis import open_run
from ddmd_mpi.cli.commands import cli
from ddmd_mpi.errors import InputError, RunDirectoryError


@pytest.fixture(scope="module")
def run(steered, tmp_path_factory):
    """A run with trajectories; tests write beside it."""
    if not (steered / "topology").exists():
        write_trajectories(steered, np.random.default_rng(0))
    return open_run(steered)


def lineage(*arguments):
    found = CliRunner().invoke(cli, ["lineage", *map(str, arguments)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def test_the_best_frame_is_traced(run, tmp_path):
    shown = lineage(run.directory, "--output", tmp_path).output
    best = run.frames[run.best]
    stem = f"walker-{best['walker']:04d}-frame-{best['frame']:06d}"
    assert f"Frame {best['frame']} of walker {best['walker']} ({best['rmsd_angstrom']:.2f} Å)" in shown
    assert "from the start structure" in shown
    assert "Joins: " in shown
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tree.svg", *(f"{stem}.{s}" for s in ("csv", "dcd", "pdb"))]
    assert xml.etree.ElementTree.parse(tmp_path / "tree.svg").getroot().tag.endswith("svg")
    with (tmp_path / f"{stem}.csv").open() as file:
        restarts = {row["decision"] for row in csv.DictReader(file)} - {""}
    assert restarts
    assert all(f"decision {restart} (ml_rmsd): restart walker" in shown for restart in restarts)


def test_a_frame_is_traced_by_its_name(run, tmp_path):
    frame = run.frames[run.row(1, 25)]
    assert (
        "Frame 25 of walker 1"
        in lineage(run.directory, "--frame", f"1:{frame['segment']}:25", "--output", tmp_path).output
    )


def test_independent_arrivals_are_written(run, tmp_path):
    shown = lineage(run.directory, "--reached", 4.5, "--output", tmp_path).output
    with (tmp_path / "arrivals.csv").open() as file:
        rows = list(csv.DictReader(file))
    independent = [r for r in rows if r["independent"] == "1"]
    assert f"{len(rows)} routes arrived within 4.5 Å of the target, {len(independent)} of them" in shown
    assert len(list(tmp_path.glob("*.dcd"))) == len(independent)


def test_what_was_not_reached_is_said(run, tmp_path):
    shown = lineage(run.directory, "--reached", 0.01, "--output", tmp_path).output
    assert "No frame is within 0.01 Å of the target: the lowest RMSD is" in shown
    assert (tmp_path / "tree.svg").exists()


def test_without_trajectories_the_ancestry_is_told(fresh, tmp_path):
    shown = lineage(fresh, "--output", tmp_path).output
    assert "There is no trajectory: " in shown
    assert len(list(tmp_path.glob("*.csv"))) == 1
    assert (tmp_path / "tree.svg").exists()


@pytest.mark.parametrize(("arguments", "said"), [
    (["--frame", "1-2-3"], "WALKER:SEGMENT:FRAME"),
    (["--frame", "0:99:5"], "is in segment"),
    (["--frame", "0:0:100000"], "no frame 100000 of walker 0"),
])  # fmt: skip
def test_a_frame_that_cannot_be_is_refused(steered, tmp_path, arguments, said):
    with pytest.raises(InputError, match=said):
        lineage(steered, *arguments, "--output", tmp_path)


def test_two_choices_are_refused(steered):
    assert "exclude each other" in lineage(steered, "--best", "--reached", "2").output


def test_a_run_without_rmsd_is_told_to_name_a_frame(fresh, tmp_path):
    for path in fresh.glob("trajectories/*.frames.csv"):
        head, *rows = path.read_text().splitlines()
        cells = [row.split(",") for row in rows]
        path.write_text("\n".join([head, *(",".join([*c[:3], "nan", *c[4:]]) for c in cells)]) + "\n")
    with pytest.raises(InputError, match="no frame with an RMSD: name one with --frame"):
        lineage(fresh, "--output", tmp_path)
    shown = lineage(fresh, "--frame", "0:0:3", "--output", tmp_path).output
    assert "Frame 3 of walker 0 (nan Å): 4 frames" in shown
    assert "There is no tree" in shown


def test_a_run_without_frames_is_refused(tmp_path):
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(InputError, match="no frames yet"):
        lineage(tmp_path)


def test_no_run_is_refused(tmp_path):
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        lineage(tmp_path)
