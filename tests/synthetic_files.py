"""Trajectories, an archive and a model for a run directory without a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import mdtraj
import numpy as np

from ddmd_mpi import model
from ddmd_mpi.analysis import features, open_run
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.frames.block import FIELDS, FrameBlock, Hop
from ddmd_mpi.model import ModelWeights
from ddmd_mpi.streams.archive import Archive
from ddmd_mpi.structure.contacts import contact_csr, round_positions

N_RESIDUES = 10


def write_trajectories(run: Path, random: np.random.Generator) -> None:
    """A chain of C-alpha atoms per walker; restart points repeat their source."""
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(N_RESIDUES):
        topology.add_atom("CA", mdtraj.element.carbon, topology.add_residue("GLY", chain))
    positions: dict[int, dict[int, np.ndarray]] = {}
    for segment in sorted(open_run(run).segments, key=lambda s: s.start):
        own = positions.setdefault(segment.walker, {})
        for frame in range(segment.first_frame, segment.first_frame + segment.n_frames):
            own[frame] = random.normal(size=(N_RESIDUES, 3)).astype("f4")
        if segment.restart_point and segment.parent:
            own[segment.first_frame] = positions[segment.parent.walker][segment.parent.frame]
    for walker, frames in positions.items():
        trajectory = mdtraj.Trajectory(np.stack([frames[i] for i in range(len(frames))]), topology)
        trajectory.save_dcd(str(run / "trajectories" / f"sim-{walker:04d}.dcd"))
    (run / "topology").mkdir()
    trajectory[0].save_pdb(str(run / "topology" / "chain.pdb"))


def write_target(run: Path, random: np.random.Generator) -> np.ndarray:
    """A target of the same atoms, named in the settings: its positions, nm."""
    target = mdtraj.load(str(run / "topology" / "chain.pdb"))
    target.xyz = random.normal(size=(1, N_RESIDUES, 3))
    (run / "inputs").mkdir()
    target.save_pdb(str(run / "inputs" / "target.pdb"))
    settings = (run / "config.toml").read_text()
    (run / "config.toml").write_text(settings.replace("[system]\n", '[system]\ntarget = "inputs/target.pdb"\n'))
    return target.xyz[0]


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
    metadata = {"architecture": pca.architecture, "settings": section.plain(), "window": 40,
                "n_residues": N_RESIDUES, "descriptor": ["CA"], "cutoff_angstrom": 8.0}  # fmt: skip
    newest = max(models.glob("v*"))
    shutil.rmtree(newest)
    ModelWeights(int(newest.name[1:]), pca.weights(), metadata).save(models)
