"""Trained models outside the program: the latents of a trajectory file are those of the frames it was written from."""

import json
import re
import subprocess
import sys
from pathlib import Path

import mdtraj
import numpy as np
import pytest

from ddmd_mpi import config, model
from ddmd_mpi.analysis import open_model
from ddmd_mpi.config.dynamics import FeaturesSection
from ddmd_mpi.config.schema import TrainingSection
from ddmd_mpi.errors import InputError, ModelError
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.md.structures import load_structures, write_topology
from ddmd_mpi.md.trajectory import Trajectory
from ddmd_mpi.structure.features import FeatureCalculator

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
CUTOFF = 7.0
N_FRAMES = 60
SMALL = {
    "cvae": {"filters": 4, "dense_units": 16, "epochs": 2, "latent_dimensions": 3},
    "pca": {"latent_dimensions": 3},
}


class Written:
    """A walker of cln025 whose atoms shake, as a run writes it, and what the run computes of its frames."""

    def __init__(self, directory):
        self.structures = load_structures(config.load("cln025").system)
        self.topology = directory / "cln025.pdb"
        write_topology(self.structures, self.topology)
        start, random = self.structures.positions_nm, np.random.default_rng(0)
        shaken = random.normal(scale=0.15, size=(N_FRAMES, *start.shape))
        self.positions = (start + shaken).astype(np.float32)
        features = FeatureCalculator(self.structures.target_nm, FeaturesSection(cutoff_angstrom=CUTOFF))
        computed = [features.compute(x) for x in self.positions[:, self.structures.descriptor]]
        self.block = FrameBlock({
            "walker": np.zeros(N_FRAMES, np.int32), "frame": np.arange(N_FRAMES),
            **{name: np.array([c[name] for c in computed]) for name in ("ca_positions", "contact_counts")},
            "contact_columns": np.concatenate([c["contact_columns"] for c in computed]),
        })  # fmt: skip
        for kind in ("dcd", "xtc"):
            simulation = config.load("cln025", assignments=(f"simulation.trajectory_format={kind}",)).simulation
            trajectory = Trajectory(directory, 0, self.structures, simulation)
            for i, x in enumerate(self.positions):
                trajectory.append(x, float(i), 0, 0.0, 0.0)
            trajectory.free()
            (directory / "sim-0000.frames.csv").unlink()
            (directory / "sim-0000.segments.jsonl").unlink()
            setattr(self, kind, directory / f"sim-0000.{kind}")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return Written(tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="module")
def published(written, tmp_path_factory):
    """The directory of a version of each model, and its latents of the written frames."""
    found = {}
    for kind, settings in SMALL.items():
        section = TrainingSection(model=kind, **settings)
        trained = model.create(model.Setup(section, 10, seed=1))
        trained.train(written.block, model.Supervisor())
        weights = model.ModelWeights(
            12,
            trained.weights(),
            {
                "architecture": trained.architecture,
                "settings": section.plain(),
                "n_residues": 10,
                "descriptor": ["CA"],
                "cutoff_angstrom": CUTOFF,
            },
        )
        found[kind] = weights.save(tmp_path_factory.mktemp(kind)), trained.embed(written.block)
    return found


@pytest.mark.parametrize("kind", SMALL)
def test_a_trajectory_has_the_latents_of_its_frames(written, published, kind):
    path, expected = published[kind]
    opened = open_model(str(path))
    assert (opened.version, opened.n_latent, opened.metadata["n_residues"]) == (12, 3, 10)
    assert len(np.unique(expected, axis=0)) > N_FRAMES / 2
    np.testing.assert_array_equal(opened.embed(written.block), expected)
    positions = written.positions[:, written.structures.descriptor]
    np.testing.assert_array_equal(opened.embed_positions(positions), expected)
    latents = opened.embed_trajectory(str(written.dcd), str(written.topology))
    assert latents.dtype == np.float32
    np.testing.assert_allclose(latents, expected, atol=1e-6)
    # An XTC file keeps 0.01 angstrom, so that a pair at the cutoff may change sides.
    rounded = opened.embed_trajectory(written.xtc, written.topology)
    same = np.isclose(rounded, expected, atol=1e-6).all(axis=1)
    assert rounded.shape == expected.shape
    assert same.mean() > 0.9


def test_long_trajectories_are_read_piece_by_piece(written, published, monkeypatch):
    path, expected = published["pca"]
    monkeypatch.setattr("ddmd_mpi.analysis.models.ATOMS_AT_A_TIME", 7 * 166)
    np.testing.assert_allclose(open_model(path).embed_trajectory(written.dcd, written.topology), expected, atol=1e-6)


def test_the_lines_of_the_page_on_models_run(written, published, tmp_path, monkeypatch, capsys):
    path, expected = published["pca"]
    run = tmp_path / "runs" / "demo"
    for source, target in (
        (path, "models/v000012"),
        (written.dcd, "trajectories/sim-0000.dcd"),
        (written.topology, "topology/cln025.pdb"),
    ):
        (run / target).parent.mkdir(parents=True)
        (run / target).symlink_to(source)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[-1], names)
    np.testing.assert_allclose(names["latents"], expected, atol=1e-6)
    assert "(60, 3)" in capsys.readouterr().out


def test_no_frames_have_no_latents(published):
    assert open_model(published["pca"][0]).embed_positions(np.zeros((0, 10, 3))).shape == (0, 3)


def test_importing_it_loads_no_library_of_a_model():
    code = (
        "import sys, ddmd_mpi.analysis; "
        "print([m for m in ('tensorflow', 'torch', 'sklearn', 'mdtraj', 'openmm', 'mpi4py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_that_cannot_be_used(written, published, tmp_path, monkeypatch):
    opened = open_model(published["pca"][0])
    broken = tmp_path / "broken.dcd"
    broken.write_bytes(written.dcd.read_bytes()[:200])
    beads = config.load("bba-go").system.start
    alpha = tmp_path / "alpha.dcd"
    calphas = mdtraj.load(written.dcd, top=written.topology).atom_slice(written.structures.descriptor)
    calphas.save_dcd(str(alpha))
    for trajectory, topology, words in (
        (tmp_path / "nowhere.dcd", written.topology, "nowhere.dcd does not exist"),
        (written.dcd, tmp_path / "nowhere.pdb", "nowhere.pdb does not exist"),
        (broken, written.topology, "broken.dcd cannot be read"),
        (alpha, written.topology, "alpha.dcd cannot be read with the atoms of"),
        (written.dcd, written.dcd, "cannot be read as a PDB file"),
    ):
        with pytest.raises(InputError) as caught:
            opened.embed_trajectory(trajectory, topology)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    chain = mdtraj.load(beads)
    chain.save_dcd(str(tmp_path / "beads.dcd"))
    with pytest.raises(InputError, match="28 descriptor atoms, and the model was made for 10"):
        opened.embed_trajectory(tmp_path / "beads.dcd", beads)
    monkeypatch.setitem(sys.modules, "mdtraj", None)
    with pytest.raises(InputError, match=r"pip install 'ddmd-mpi\[analysis\]'"):
        opened.embed_trajectory(written.dcd, written.topology)


def test_positions_that_cannot_be_embedded(published):
    opened, positions = open_model(published["pca"][0]), np.zeros((4, 10, 3))
    with pytest.raises(InputError, match=r"\(n_frames, 10, 3\) were expected \(got \(10, 3\)\)"):
        opened.embed_positions(positions[0])
    positions[2, 0, 0] = np.nan
    with pytest.raises(InputError, match="frame 2 cannot be embedded"):
        opened.embed_positions(positions)


def change(path, **changes):
    metadata = json.loads((path / "metadata.json").read_text())
    metadata.update(changes)
    (path / "metadata.json").write_text(json.dumps({k: v for k, v in metadata.items() if v is not None}))


def save_one_array(path):
    with path.open("wb") as file:
        np.save(file, np.ones(3))


@pytest.mark.parametrize("damage", [
    lambda p: (p / "weights.npz").unlink(),
    lambda p: (p / "weights.npz").write_bytes(b""),
    lambda p: (p / "weights.npz").write_bytes((p / "weights.npz").read_bytes()[:300]),
    lambda p: save_one_array(p / "weights.npz"),
    lambda p: np.savez(p / "weights.npz", np.ones(3)),
    lambda p: (p / "metadata.json").write_text("{"),
    lambda p: (p / "metadata.json").write_text("[1, 2]"),
    lambda p: (p / "metadata.json").write_bytes(b"\xff\xfe"),
    lambda p: change(p, version=None),
    lambda p: change(p, settings=None),
    lambda p: change(p, settings=3),
    lambda p: change(p, settings={"model": "pca", "color": "red"}),
    lambda p: change(p, settings={"model": "nowhere:Nothing"}),
    lambda p: change(p, n_residues="many"),
    lambda p: change(p, n_residues=11),
    lambda p: change(p, architecture={"model": "pca"}),
    lambda p: change(p, descriptor=None),
    lambda p: change(p, cutoff_angstrom="far"),
])  # fmt: skip
def test_a_directory_that_is_damaged_or_another_ones(written, published, tmp_path, damage):
    good = published["pca"][0]
    path = tmp_path / "v000012"
    path.mkdir()
    for file in good.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    open_model(path)
    damage(path)
    with pytest.raises(ModelError) as caught:
        open_model(path)
    assert "\n" not in str(caught.value)


def test_a_run_is_no_version(tmp_path):
    with pytest.raises(ModelError, match="is it the directory of one version"):
        open_model(tmp_path)
