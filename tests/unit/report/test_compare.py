import csv

import numpy as np
import pytest
from synthetic_files import write_trajectories
from synthetic_run import SyntheticRun

from ddmd_mpi.analysis import open_run
from ddmd_mpi.errors import InputError
from ddmd_mpi.report.arms import arms, best_so_far
from ddmd_mpi.report.compare import write_comparison


def write_run(directory, seed, strategy="ml_rmsd", n_rounds=6, files=False):
    run = SyntheticRun(n_rounds=n_rounds, seed=seed, strategy=strategy).write(directory)
    settings = (run / "config.toml").read_text()
    (run / "config.toml").write_text(settings.replace("seed = 7", f"seed = {seed}"))
    if files:
        write_trajectories(run, np.random.default_rng(seed))
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three steered runs, of which one is shorter, and two plain ones."""
    directory = tmp_path_factory.mktemp("runs")
    steered = [write_run(directory / f"s{i}", i, n_rounds=6 - i, files=True) for i in range(3)]
    return [*steered, *(write_run(directory / f"p{i}", i, strategy="none", files=True) for i in range(2))]


@pytest.fixture(scope="module")
def compared(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("compared")
    return output, write_comparison(runs, output)


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_runs_that_differ_in_the_seed_alone_are_one_arm(runs):
    found = arms([open_run(run) for run in runs])
    assert [arm.name for arm in found] == ["strategy ml_rmsd", "strategy none"]
    assert [[run.directory for run in arm.runs] for arm in found] == [runs[:3], runs[3:]]


def test_everything_is_written_and_named(compared):
    output, paths = compared
    assert paths[0] == output / "report.html"
    assert {path.stem for path in paths[1:]} == {"best_rmsd", "coverage", "arms", "runs"}
    page = paths[0].read_text()
    assert "5 runs in 2 arms (strategy ml_rmsd: 3; strategy none: 2)" in page
    assert "all runs together" in page
    assert "not an equilibrium sample" in page


def test_arms_are_compared_at_a_time_that_all_runs_have_reached(runs, compared):
    curves = [best_so_far(open_run(run)) for run in runs]
    common = min(times[-1] for times, _ in curves)
    of_steered = [values[np.searchsorted(times, common, side="right") - 1] for times, values in curves[:3]]
    row = rows_of(compared[0] / "tables" / "arms.csv")[0]
    assert float(row["simulated_ps"]) == pytest.approx(common)
    said = [float(row[f"best_rmsd_angstrom{end}"]) for end in ("", "_low", "_high")]
    np.testing.assert_allclose(said, np.percentile(of_steered, [50, 25, 75]), rtol=1e-5)
    assert 0 < float(row["coverage"]) <= 1


def test_each_run_has_a_row(runs, compared):
    rows = rows_of(compared[0] / "tables" / "runs.csv")
    assert [row["run"] for row in rows] == list(map(str, runs))
    assert [row["seed"] for row in rows] == ["0", "1", "2", "0", "1"]
    assert float(rows[0]["best_rmsd_angstrom"]) == pytest.approx(best_so_far(open_run(runs[0]))[1][-1], abs=1e-4)


def test_what_has_no_frames_or_no_trajectories_is_named(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.toml").write_text('[run]\nusecase = "cln025"\n')
    without = write_run(tmp_path / "without", 9)
    page = write_comparison([runs[0], without, tmp_path / "empty"], tmp_path / "out")[0].read_text()
    assert f"{tmp_path / 'empty'} has no frame with an RMSD and is left out" in page
    assert f"left out: {without} has no trajectory files" in page


def test_runs_of_different_systems_are_not_the_same_thing(runs, tmp_path):
    other = write_run(tmp_path / "other", 9)
    settings = (other / "config.toml").read_text()
    (other / "config.toml").write_text(settings.replace('name = "cln025"', 'name = "bba"'))
    assert "different systems" in write_comparison([runs[0], other], tmp_path / "out")[0].read_text()


def test_runs_with_one_seed_are_doubted(runs, tmp_path):
    again = write_run(tmp_path / "again", 0)
    assert "the same seed" in write_comparison([runs[0], again], tmp_path / "out")[0].read_text()


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    with pytest.raises(InputError, match="named twice"):
        write_comparison([runs[0], runs[0]], tmp_path / "out")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").write_text("")
    with pytest.raises(InputError, match="nothing to compare"):
        write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
