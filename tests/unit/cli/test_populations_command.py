"""``ddmd-mpi populations``: the verdict comes first, and every number has an interval."""

import csv
import math

import pytest
from click.testing import CliRunner

from ddmd_mpi.cli.commands import cli
from ddmd_mpi.errors import InputError


def populations(*arguments):
    found = CliRunner().invoke(cli, ["populations", *map(str, arguments)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.output


def test_the_verdict_comes_first_and_tables_have_intervals(steered, tmp_path):
    shown = populations(
        steered, "--from", "rmsd_angstrom>5", "--to", "rmsd_angstrom<4", "--samples", 50, "--output", tmp_path
    )
    assert shown.startswith(("Converged", "Not enough data"))
    assert "Population of rmsd_angstrom < 4: " in shown
    assert (tmp_path / "summary.txt").read_text() in shown
    for name in ("free_energies.png", "timescales.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    with (tmp_path / "populations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} >= {"msm", "riteweight", "msm_twice"}
    for row in rows:
        value, low, high = (float(row[name]) for name in ("value", "low", "high"))
        assert low < high or not math.isfinite(value)
    with (tmp_path / "free_energies.csv").open() as file:
        assert {row["coordinate"] for row in csv.DictReader(file)} == {"rmsd_angstrom", "native_contacts"}


@pytest.mark.parametrize(("arguments", "said"), [
    (["--coordinate", "nothing"], "no coordinate nothing: name some of rmsd_angstrom"),
    (["--to", "nothing<3"], "no coordinate nothing"),
    (["--from", "rmsd_angstrom>2", "--to", "rmsd_angstrom<3"], "overlap"),
    (["--topology", "other"], "name one with --topology"),
    (["--to", "3"], "a region is COLUMN<VALUE"),
])  # fmt: skip
def test_bad_input_is_refused_in_one_sentence(steered, tmp_path, arguments, said):
    with pytest.raises(InputError, match=said):
        populations(steered, *arguments, "--output", tmp_path)


def test_a_run_without_rmsd_is_refused(fresh, tmp_path):
    for path in fresh.glob("trajectories/*.frames.csv"):
        head, *rows = path.read_text().splitlines()
        cells = [row.split(",") for row in rows]
        path.write_text("\n".join([head, *(",".join([*c[:3], "nan", *c[4:]]) for c in cells)]) + "\n")
    with pytest.raises(InputError, match="name other coordinates"):
        populations(fresh, "--output", tmp_path)


def test_a_run_without_frames_is_refused(tmp_path):
    (tmp_path / "config.toml").write_text("")
    with pytest.raises(InputError, match="no frames yet"):
        populations(tmp_path)
