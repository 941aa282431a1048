"""Many ligands in one run: the steering ranks them, and every record says which complex a frame is of."""

import csv
import json
import subprocess
import sys

import mdtraj
import numpy as np
import pytest
from scipy.stats import spearmanr
from toy_table import write_table

from ddmd_mpi.analysis import open_run
from ddmd_mpi.report.write import write_report

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(240)]

STRENGTHS = [0.3, 2.7, 1.1, 3.5, 0.7, 2.3, 1.5, 3.1]
WALKERS = 3 * len(STRENGTHS)


def steered(directory, seed):
    """A run in file mode, in one process."""
    config, run = write_table(directory, STRENGTHS), directory / "run"
    command = [
        sys.executable,
        "-m",
        "ddmd_mpi",
        "--usecase",
        "plc",
        "--config",
        str(config),
        "--mode",
        "file",
        "--iterations",
        "6",
        "--seed",
        str(seed),
        "--output",
        str(run),
        "--set",
        f"simulation.walkers_per_rank={WALKERS}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    return steered(tmp_path_factory.mktemp("toy"), 3)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def counts(run):
    """Walkers of each ligand after each round, shape (n_rounds, n_ligands)."""
    names = [f"ligand-{i}" for i in range(len(STRENGTHS))]
    return np.array([[r["walkers_per_ligand"][name] for name in names] for r in lines(run / "rounds.jsonl")])


def test_stronger_ligands_keep_more_walkers(pruned, tmp_path):
    """Over two runs: in one of them a weak ligand may be lucky."""
    walkers = [counts(run) for run in (pruned, steered(tmp_path, 4))]
    assert all((w.sum(axis=1) == WALKERS).all() for w in walkers)
    kept = sum(w[-3:].mean(axis=0) for w in walkers)
    assert spearmanr(STRENGTHS, kept).statistic > 0.7
    weak, strong = np.argsort(STRENGTHS)[:3], np.argsort(STRENGTHS)[-3:]
    assert kept[strong].sum() > 3 * kept[weak].sum()


def test_ligands_are_pruned(pruned):
    alive = (counts(pruned) > 0).sum(axis=1)
    assert alive[0] > alive[-1]
    assert alive[-1] <= len(STRENGTHS) - 2


def test_restarts_across_topologies_are_where_they_were_decided(pruned):
    """The restart point in the trajectory of the walker is the frame in that of its source, of the same ligand."""
    assert open_run(pruned).contradictions() == []
    moved = 0
    files = {
        path.name[: len("sim-0000")]: list(csv.DictReader(path.open()))
        for path in (pruned / "trajectories").glob("*.frames.csv")
    }

    def frame(simulation, index):
        row = files[f"sim-{simulation:04d}"][index]
        path = pruned / "trajectories" / f"sim-{simulation:04d}.{row['topology']}.dcd"
        read = mdtraj.load_frame(path, int(row["frame_in_file"]), top=pruned / "topology" / f"{row['topology']}.pdb")
        return row["topology"], read.xyz[0]

    before = {}
    for segment in open_run(pruned).segments:
        if segment.restarted:
            mine = frame(segment.walker, segment.first_frame)
            source = frame(segment.parent.walker, segment.parent.frame)
            assert mine[0] == source[0] == segment.topology
            np.testing.assert_allclose(mine[1], source[1], atol=1e-5)
            moved += before[segment.walker] != segment.topology
        before[segment.walker] = segment.topology
    assert moved > 5
    decisions = {d["decision"]: d for d in lines(pruned / "decisions.jsonl")}
    restarted = [s for s in open_run(pruned).segments if s.restarted]
    assert all(decisions[s.decision]["source"]["topology"] == s.topology for s in restarted)


def test_every_trajectory_is_read_with_its_topology(pruned):
    written = 0
    for path in (pruned / "trajectories").glob("*.dcd"):
        name = path.name.split(".")[1]
        read = mdtraj.load(str(path), top=str(pruned / "topology" / f"{name}.pdb"))
        assert read.n_atoms == 24 + 1 + int(name.removeprefix("ligand-"))
        written += len(read)
    rows = sum(len(path.read_text().splitlines()) - 1 for path in (pruned / "trajectories").glob("*.frames.csv"))
    assert written == rows


def test_the_report_shows_the_walkers_per_ligand(pruned):
    shown = {path.name for path in write_report(pruned)}
    assert {"ligands.png", "ligands.csv"} <= shown
    with (pruned / "tables" / "ligands.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [rows[0][f"ligand-{i}"] for i in range(len(STRENGTHS))] == ["3"] * len(STRENGTHS)
    np.testing.assert_array_equal(
        [[int(row[f"ligand-{i}"]) for i in range(len(STRENGTHS))] for row in rows[1:]], counts(pruned)
    )
    assert len(open_run(pruned).frames["frame"]) > 0


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            lambda d: (d / "ligand-1.xml").write_text((d / "ligand-2.xml").read_text()),
            ("ligand-1", "row 2", "27", "26", "written"),
        ),
        (lambda d: (d / "ligand-2.pdb").unlink(), ("ligand-2", "row 3", "does not exist")),
        (
            lambda d: (d / "ligand-1.pdb").write_text(
                (d / "ligand-1.pdb").read_text().replace("ALA A   5", "GLY A   5")
            ),
            ("ligand-1", "row 2", "GLY5", "ALA5", "same protein"),
        ),
        (
            lambda d: (d / "ligand-0.pdb").write_text((d / "ligand-0.pdb").read_text().replace("LIG", "HOH")),
            ("ligand-0", "row 1", "water and no box"),
        ),
    ],
)
def test_what_is_wrong_names_its_row_and_the_cure(tmp_path, edit, words):
    config = write_table(tmp_path, [1.0, 2.0, 3.0])
    edit(tmp_path)
    command = [sys.executable, "-m", "ddmd_mpi", "--usecase", "plc", "--config", str(config), "--mode", "file"]
    done = subprocess.run([*command, "--output", str(tmp_path / "run")], capture_output=True, text=True, timeout=100)
    said = [line for line in done.stderr.splitlines() if line.startswith("ddmd-mpi: ")]
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(said) == 1, done.stderr
    assert all(word in said[0] for word in words), said[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
