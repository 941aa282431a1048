"""Every snippet of docs/analysis.md runs."""

import re
import shutil
from pathlib import Path

import mdtraj
import numpy as np
from synthetic_run import SyntheticRun

from ddmd_mpi import model
from ddmd_mpi.analysis import features
from ddmd_mpi.frames import FIELDS, FrameBlock, Hop
from ddmd_mpi.model import ModelWeights
from ddmd_mpi.report.lineage import rebuild
from ddmd_mpi.sections import TrainingSection
from ddmd_mpi.streams.archive import Archive
from ddmd_mpi.structure.contacts import contact_csr, round_positions

DOCS = Path(__file__).parents[3] / "docs"
N_RESIDUES = 10


def write_trajectories(run: Path, random: np.random.Generator) -> None:
    """A chain of C-alpha atoms per walker; restart points repeat their source."""
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(N_RESIDUES):
        topology.add_atom("CA", mdtraj.element.carbon, topology.add_residue("GLY", chain))
    positions: dict[int, dict[int, np.ndarray]] = {}
    for segment in sorted(rebuild(run), key=lambda s: s.start):
        own = positions.setdefault(segment.simulation, {})
        for frame in range(segment.first_frame, segment.first_frame + segment.n_frames):
            own[frame] = random.normal(size=(N_RESIDUES, 3)).astype("f4")
        if segment.restart_point and segment.parent:
            own[segment.first_frame] = positions[segment.parent.simulation][segment.parent.frame]
    for walker, frames in positions.items():
        trajectory = mdtraj.Trajectory(np.stack([frames[i] for i in range(len(frames))]), topology)
        trajectory.save_dcd(str(run / "trajectories" / f"sim-{walker:04d}.dcd"))
    (run / "topology").mkdir()
    trajectory[0].save_pdb(str(run / "topology" / "chain.pdb"))


def write_archive(path: Path, random: np.random.Generator) -> None:
    """One block of three frames."""
    rows = []
    for i in range(3):
        rounded = round_positions(random.normal(size=(N_RESIDUES, 3)))
        counts, columns = contact_csr(rounded, 8.0)
        row = {f.name: np.zeros([n for n in f.shape if isinstance(n, int)], f.dtype) for f in FIELDS}
        rows.append({**row, "frame": i, "rmsd": 1.0 + i, "order_parameters": np.zeros(2, "f4"), "ca_positions": rounded,
                     "contact_counts": counts, "contact_columns": columns})  # fmt: skip
    with Archive(path, "features") as archive:
        archive.append(FrameBlock.from_rows(rows, Hop.FEATURES))


def write_model(models: Path, random: np.random.Generator) -> None:
    """A model of random chains, in place of the newest version."""
    section = TrainingSection(model="pca")
    pca = model.create(model.Setup(section, N_RESIDUES))
    pca.train(features(random.normal(size=(40, N_RESIDUES, 3)), 8.0), model.Supervisor())
    metadata = {"architecture": pca.architecture, "settings": section.model_dump(mode="json"), "window": 40,
                "n_residues": N_RESIDUES, "descriptor": ["CA"], "cutoff_angstrom": 8.0}  # fmt: skip
    newest = max(models.glob("v*"))
    shutil.rmtree(newest)
    ModelWeights(int(newest.name[1:]), pca.weights(), metadata).save(models)


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
    assert "agg-00.bp 3 frames, lowest RMSD 1.0" in printed
    assert f"best: {float(names['best']['rmsd_angstrom']):.6g}" in printed
    assert names["latents"].shape == (names["trajectory"].n_frames, 10)
    assert names["of_the_block"].shape == (3, 10)
    assert (run / "way-to-the-best.dcd").exists()


def test_every_table_of_the_report_is_explained():
    page = (DOCS / "outputs.md").read_text()
    for name in ("progress", "histograms", "lineage", "timeline", "learning", "latency", "rounds"):
        assert f"`{name}.png`" in page
