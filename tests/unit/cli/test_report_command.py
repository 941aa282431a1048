import pytest
from click.testing import CliRunner
from synthetic_run import SyntheticRun

from ddmd_mpi.cli.commands import cli
from ddmd_mpi.errors import InputError, RunDirectoryError


def run(*arguments):
    return CliRunner().invoke(cli, ["report", *map(str, arguments)], catch_exceptions=False)


def test_one_run_has_its_page_and_several_have_one(tmp_path):
    runs = [SyntheticRun(n_rounds=3, seed=seed).write(tmp_path / str(seed)) for seed in (1, 2)]
    assert run(runs[0]).output.splitlines()[0] == str(runs[0] / "report.html")
    done = run(*runs, "--output", tmp_path / "both", "--band", "95")
    assert done.output.splitlines()[0] == str(tmp_path / "both" / "report.html")
    assert "bands the 95 % of the runs" in (tmp_path / "both" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(["--output", "x"], "--output is for several runs"), (["--model-version", "7"], "no version 7 of the model")],
)
def test_options_that_say_nothing_of_one_run_are_refused(tmp_path, options, sentence):
    with pytest.raises(InputError, match=sentence):
        run(SyntheticRun(n_rounds=3).write(tmp_path / "run"), *options)


@pytest.mark.parametrize("option", [("--model-version", 1), ("--projection", "tsne"), ("--projection", "pca")])
def test_options_that_say_nothing_of_several_runs_are_refused(tmp_path, option):
    runs = [SyntheticRun(n_rounds=3, seed=seed).write(tmp_path / str(seed)) for seed in (1, 2)]
    with pytest.raises(InputError, match=f"{option[0]} is for one run"):
        run(*runs, *option, "--output", tmp_path / "both")


def test_a_reference_of_a_run_with_too_few_frames_is_refused(tmp_path):
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "config.toml").write_text("")
    with pytest.raises(RunDirectoryError, match="no simulated frames"):
        run(SyntheticRun(n_rounds=3).write(tmp_path / "run"), "--reference", tmp_path / "reference")
