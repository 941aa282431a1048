"""Two chains in a periodic box: analysis sees them next to each other, in whichever images the frames have them."""

import mdtraj
import numpy as np
import pytest
from scipy.spatial.distance import pdist

from ddmd_mpi.analysis import open_run
from ddmd_mpi.analysis.best_structure import write_best_structure
from ddmd_mpi.analysis.models import read_trajectory

#: C-alpha atoms of a chain.
LENGTH = 5
BOX = np.array([[3.0, 0.0, 0.0], [0.9, 3.0, 0.0], [0.6, -0.6, 3.0]])
#: The images of the second chain: none is next to the first one.
IMAGES = np.array([[1, 0, 0], [-1, 1, 0], [0, -1, 2]]) @ BOX


def dimer():
    """A topology of two chains, and their positions next to each other, nm."""
    topology = mdtraj.Topology()
    for _ in range(2):
        chain = topology.add_chain()
        for _ in range(LENGTH):
            topology.add_atom("CA", mdtraj.element.carbon, topology.add_residue("GLY", chain))
    x = np.zeros((2, LENGTH, 3))
    x[..., 0] = 0.38 * np.arange(LENGTH)
    x[1, :, 1:] = [0.5, 0.2]
    return topology, x.reshape(-1, 3)


def cut(x, topology):
    """A trajectory of frames, each with the second chain in another image."""
    x = x.copy()
    x[:, LENGTH:] += IMAGES[np.arange(len(x)) % len(IMAGES), None]
    found = mdtraj.Trajectory(x, topology)
    found.unitcell_vectors = np.tile(BOX, (len(x), 1, 1))
    return found


@pytest.fixture(params=["dcd", "xtc"])
def written(fresh, request):
    """A run of the dimer, and where its chains were in each frame before they were cut."""
    topology, x = dimer()
    walkers, random = open_run(fresh).frames["walker"], np.random.default_rng(0)
    frames = x + random.normal(scale=0.02, size=(len(walkers), 2 * LENGTH, 3))
    for walker in np.unique(walkers):
        path = fresh / "trajectories" / f"sim-{walker:04d}.{request.param}"
        cut(frames[walkers == walker], topology).save(str(path))
    (fresh / "topology").mkdir()
    cut(x[None], topology).save_pdb(str(fresh / "topology" / "dimer.pdb"))
    return fresh, frames


def test_positions_have_the_chains_next_to_each_other(written):
    directory, frames = written
    run = open_run(directory)
    rows = np.arange(0, len(frames), 7)
    for found, given in zip(run.positions(rows), frames[rows], strict=True):
        np.testing.assert_allclose(pdist(found), pdist(given), atol=3e-3)


def test_a_trajectory_has_them_so_too(written):
    directory, frames = written
    file = open_run(directory).trajectories[0]
    found = np.concatenate(list(read_trajectory(file.path, file.topology, ["CA"])))
    np.testing.assert_allclose([pdist(x) for x in found], [pdist(x) for x in frames[file.rows]], atol=3e-3)


def test_so_have_the_best_structure_and_the_target(written):
    directory, frames = written
    topology, x = dimer()
    (directory / "inputs").mkdir()
    cut(x[None], topology).save_pdb(str(directory / "inputs" / "target.pdb"))
    settings = (directory / "config.toml").read_text()
    (directory / "config.toml").write_text(settings.replace("[system]\n", '[system]\ntarget = "inputs/target.pdb"\n'))
    run = open_run(directory)
    found = write_best_structure(run, directory / "structures")
    np.testing.assert_allclose(pdist(found.descriptor_nm), pdist(frames[run.best]), atol=3e-3)
    np.testing.assert_allclose(pdist(found.target_nm), pdist(x), atol=3e-3)
    assert found.rmsd_angstrom < 0.6
