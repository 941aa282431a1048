"""Runs of which little can be said: what can is said, and what cannot is named."""

import html
import re
import shutil

import numpy as np
import pytest
from synthetic_files import write_model, write_target, write_trajectories
from synthetic_run import SyntheticRun, in_format_1

from ddmd_mpi.analysis import open_run
from ddmd_mpi.report.compare import write_comparison
from ddmd_mpi.report.write import write_report

RMSD_COLUMN = 3


def complete(directory, **options):
    run = SyntheticRun(**options).write(directory)
    write_trajectories(run, np.random.default_rng(0))
    write_target(run, np.random.default_rng(1))
    if options.get("strategy") != "none" and (run / "models").is_dir():
        write_model(run / "models", np.random.default_rng(2))
    return run


def with_rmsd(run, keep):
    """Replace the RMSD by NaN in the rows that `keep` does not want."""
    for path in run.glob("trajectories/*.frames.csv"):
        header, *rows = path.read_text().splitlines()
        cells = [row.split(",") for row in rows]
        for i, row in enumerate(cells):
            row[RMSD_COLUMN] = row[RMSD_COLUMN] if keep(i) else "nan"
        path.write_text("\n".join([header, *map(",".join, cells)]) + "\n")


def sections(run):
    """What stands below each heading of the page."""
    page = re.sub(r"base64,[^\"]*", "", (run / "report.html").read_text())
    parts = re.split(r"<h2>(.*?)</h2>", page)[1:]
    return {name: html.unescape(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}


@pytest.fixture
def run(tmp_path):
    return complete(tmp_path / "run", n_rounds=8)


def test_a_whole_run_lacks_nothing(run):
    write_report(run)
    lacking = [name for name, text in sections(run).items() if "no data" in text]
    assert lacking == ["Queues before the streams", "Streams"], "which this summary does not have"


def test_a_run_of_one_frame(tmp_path):
    run = complete(tmp_path / "run", n_walkers=1, n_rounds=0)
    assert len(open_run(run).frames) == 1
    write_report(run)
    said = sections(run)
    assert "no data" in said["RMSD to the target"]
    assert "no simulated frames" in said["Latent space"]
    assert "no trajectory file with the frame of the lowest RMSD" in said["Best structure on the target"]


def test_a_run_of_few_frames_has_no_states(tmp_path):
    run = complete(tmp_path / "run", n_walkers=1, n_rounds=1)
    write_report(run)
    assert "has 10 frames: at least 20 are needed to define states" in sections(run)["Coverage of states"]
    assert "<img" in sections(run)["RMSD to the target"]


def test_a_run_without_restarts(tmp_path):
    run = complete(tmp_path / "run", n_rounds=4, strategy="none")
    write_report(run)
    said = sections(run)
    assert "no data" in said["Restarts as flows of walkers"]
    assert "<img" in said["Lineage of the segments"]
    assert "<img" in said["Coverage of states"]


def test_frames_without_an_rmsd_are_left_out_of_the_figures_of_it(run):
    with_rmsd(run, keep=lambda i: i % 3 == 0)
    write_report(run)
    said = sections(run)
    assert all("<img" in said[name] for name in ("RMSD to the target", "RMSD by restart round", "Latent space"))


def test_a_run_without_any_rmsd(run):
    with_rmsd(run, keep=lambda _: False)
    write_report(run)
    said = sections(run)
    assert "no data" in said["RMSD to the target"]
    assert "no data" in said["Best structure on the target"]
    assert "<img" in said["Latent space"], "it needs none"


def test_a_run_without_models(run):
    shutil.rmtree(run / "models")
    write_report(run)
    assert "no published model yet" in sections(run)["Latent space"]
    assert "<img" in sections(run)["Coverage of states"]


def test_a_damaged_model_is_named(run):
    newest = max(run.glob("models/*/weights.npz"))
    newest.write_bytes(b"nothing")
    write_report(run)
    assert f"cannot read the model in {newest.parent}" in sections(run)["Latent space"]


def test_a_target_that_is_gone_is_named(run):
    (run / "inputs" / "target.pdb").unlink()
    write_report(run)
    assert "target.pdb" in sections(run)["Best structure on the target"]


def test_trajectories_that_are_cut_off_show_what_they_have(run):
    for path in run.glob("trajectories/*.dcd"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    write_report(run)
    said = sections(run)
    assert "<img" in said["RMSD to the target"], "the records have it"
    n_simulated = (~open_run(run).frames["restart_point"]).sum()
    assert f" of {n_simulated} frames" in said["Coverage of states"]


def test_a_run_of_an_older_format(run):
    in_format_1(run)
    write_report(run)
    lacking = [name for name, text in sections(run).items() if "no data" in text]
    assert lacking == ["Queues before the streams", "Streams"]


def test_runs_of_which_little_is_left_are_compared(run, tmp_path):
    other = complete(tmp_path / "other", n_rounds=3, seed=3)
    with_rmsd(other, keep=lambda i: i > 5)
    damaged = min(other.glob("trajectories/*.dcd"))
    damaged.write_bytes(b"nothing")
    write_comparison([run, other], tmp_path / "both")
    said = sections(tmp_path / "both")
    assert "<img" in said["Best RMSD"]
    assert f"left out: {damaged} cannot be read" in said["Coverage of states"]
