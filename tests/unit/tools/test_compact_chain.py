"""The made-up chain: bonds of C-alpha atoms, no clashes, as compact as a protein, the same for the same seed."""

import numpy as np
import pytest
from compact_chain import BOND, CLEARANCE, compact_chain, placed
from scipy.spatial import cKDTree

from ddmd_mpi.config import inputs, load
from ddmd_mpi.md.coordinates import read_pdb
from ddmd_mpi.md.go_model import dihedral
from ddmd_mpi.md.structures import load_structures


def nearest_strangers(x):
    """The shortest distance of beads three or more apart along the chain."""
    near = cKDTree(x).query_pairs(2 * CLEARANCE, output_type="ndarray")
    near = near[near[:, 1] - near[:, 0] >= 3]
    return np.linalg.norm(x[near[:, 1]] - x[near[:, 0]], axis=1).min()


@pytest.mark.parametrize("n", [10, 300])
def test_bonds_have_one_length_and_nothing_clashes(n):
    x = compact_chain(n, seed=3)
    assert x.shape == (n, 3)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(np.diff(x, axis=0), axis=1), BOND)
    assert nearest_strangers(x) >= CLEARANCE
    assert np.linalg.norm(x[2:] - x[:-2], axis=1).min() > 5.0  # no bond angle below 82 degrees


def test_the_same_seed_gives_the_same_chain_and_another_seed_another():
    first, again, other = (compact_chain(120, seed) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_bead_is_placed_at_the_angle_and_dihedral_that_were_asked_for():
    last = np.array([[[1.0, 0.5, 0.2], [0.0, 0.0, 0.0], [0.3, 0.0, 2.0]]])
    bead = placed(last, np.radians([100.0]), np.radians([-65.0]))[0]
    back, forward = last[0, 1] - last[0, 2], bead - last[0, 2]
    angle = np.arccos(back @ forward / np.linalg.norm(back) / np.linalg.norm(forward))
    assert np.degrees(angle) == pytest.approx(100.0)
    assert np.degrees(dihedral(np.vstack([last[0], bead]))) == pytest.approx(-65.0)


def test_the_target_of_spike_is_a_compact_chain_of_its_size():
    x = 10 * read_pdb(inputs() / "spike-target.pdb")[1]
    assert x.shape == (3375, 3)
    np.testing.assert_allclose(np.linalg.norm(np.diff(x, axis=0), axis=1), BOND, atol=2e-3)  # rounded in the file
    assert nearest_strangers(x) >= CLEARANCE - 2e-3
    contacts = len(cKDTree(x).query_pairs(8.0)) / len(x)
    assert 5.5 < contacts < 6.2, "contacts a residue of large proteins"
    assert np.sqrt(np.square(x).sum(axis=1).mean()) < 48.0, "2.2 angstrom N^0.38, the radius of gyration of proteins"


def test_spike_starts_away_from_its_target_and_says_what_it_is_not():
    config = load("spike")
    structures = load_structures(config.system)
    assert structures.positions_nm.shape == structures.target_nm.shape == (3375, 3)
    assert "not for spike's biophysics" in config.system.note
    for kind in ("start", "target"):
        assert "MADE-UP" in (inputs() / f"spike-{kind}.pdb").read_text()[:200]
