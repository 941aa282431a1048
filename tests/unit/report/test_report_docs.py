"""Every snippet of docs/analysis.md and docs/tutorial.md runs."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import mdtraj
import numpy as np
import pytest
from synthetic_files import write_archive, write_model, write_trajectories
from synthetic_run import REPORT_PS, SyntheticRun

from ddmd_mpi.analysis import open_run
from ddmd_mpi.cli.commands import cli

DOCS = Path(__file__).parents[3] / "docs"


def test_every_snippet_of_the_analysis_page_runs(tmp_path, monkeypatch, capsys):
    run = SyntheticRun(n_rounds=6).write(tmp_path / "runs" / "demo")
    random = np.random.default_rng(0)
    write_trajectories(run, random)
    write_archive(run / "frames" / "agg-00.bp", random)
    write_model(run / "models", random)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    snippets = re.findall(r"```python\n(.*?)```", (DOCS / "analysis.md").read_text(), re.DOTALL)
    for snippet in snippets:
        exec(snippet, names)
    printed = capsys.readouterr().out
    assert "3 frames, lowest RMSD 1.0" in printed
    assert f"best: {names['best']['rmsd_angstrom']:.6g}" in printed
    assert mdtraj.load(tmp_path / "best.pdb").n_frames == 1
    assert names["latents"].shape == (names["trajectory"].n_frames, 10)
    assert names["of_the_block"].shape == (3, 10)
    assert [len(p) for p in names["pieces"]] == [len(a) for a in names["rmsd"]]
    assert names["lag_ps"] == pytest.approx(REPORT_PS)


def test_a_model_is_opened_as_its_page_does(tmp_path, monkeypatch, capsys):
    run = SyntheticRun(n_rounds=6).write(tmp_path / "runs" / "demo")
    write_trajectories(run, np.random.default_rng(0))
    write_model(run / "models", np.random.default_rng(0))
    max((run / "models").glob("v*")).rename(run / "models" / "v000012")
    next((run / "topology").glob("*.pdb")).rename(run / "topology" / "cln025.pdb")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", (DOCS / "models.md").read_text(), re.DOTALL)
    exec(next(text for text in snippets if "open_model" in text), {})
    n_frames = len(open_run(run).frames[open_run(run).frames["walker"] == 0])
    assert capsys.readouterr().out == f"({n_frames}, 10)\n"


def test_every_snippet_of_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    run = SyntheticRun().write(tmp_path / "runs" / "tutorial")
    write_trajectories(run, np.random.default_rng(0))
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    regions = ("--from", "rmsd_angstrom>5", "--to", "rmsd_angstrom<4")
    cli.main(["populations", "runs/tutorial", *regions, "--samples", "50"], standalone_mode=False)
    names: dict = {}
    for snippet in re.findall(r"```python\n(.*?)```", (DOCS / "tutorial.md").read_text(), re.DOTALL):
        exec(snippet, names)
    best = open_run(run).frames[open_run(run).best]
    assert f"{best['rmsd_angstrom']:.2f} Å with" in capsys.readouterr().out
    assert mdtraj.load(tmp_path / "folded.pdb").n_frames == 1
    assert len(names["energy"]) > 0
    assert (names["energy_low"] <= names["energy"]).all()
    assert (tmp_path / "free_energy.svg").stat().st_size > 1000
    plt.close("all")


def test_every_table_of_the_report_is_explained():
    page = (DOCS / "outputs.md").read_text()
    for name in ("progress", "histograms", "lineage", "timeline", "learning", "latency", "rounds"):
        assert f"`{name}.png`" in page
