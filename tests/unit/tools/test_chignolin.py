"""The verdict of tools/chignolin.py on a run."""

from pathlib import Path

import chignolin
import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
mdtraj = pytest.importorskip("mdtraj")


@pytest.fixture
def run(tmp_path):
    """Two frames: the unfolded start, and one in which the atoms of the native hydrogen bonds are 3 Å apart."""
    (tmp_path / "topology").mkdir()
    (tmp_path / "trajectories").mkdir()
    start = mdtraj.load(ROOT / "inputs" / "cln025-start.pdb")
    start.save(tmp_path / "topology" / "cln025.pdb")
    index = {(a.residue.index + 1, a.name): a.index for a in start.topology.atoms}
    xyz = np.repeat(start.xyz, 2, axis=0)
    for n, o in chignolin.BONDS:
        xyz[1, index[o, "O"]] = xyz[1, index[n, "N"]] + [0.3, 0, 0]
    mdtraj.Trajectory(xyz, start.topology).save(tmp_path / "trajectories" / "sim-0000.dcd")
    (tmp_path / "trajectories" / "sim-0000.frames.csv").write_text(
        "frame,rmsd_angstrom,native_contacts\n0,7.5,0.1\n1,1.2,0.9\n"
    )
    return tmp_path


def test_a_fold_is_rmsd_and_contacts_and_hydrogen_bonds(run, capsys):
    found = chignolin.frames(run)
    np.testing.assert_allclose(found, [[7.5, 0.1, 0], [1.2, 0.9, 3]])
    assert chignolin.main(str(run)) == 0
    assert "3 hydrogen bonds): 1 frames" in capsys.readouterr().out
    assert chignolin.verdict(found * [1, 1, 0.5])["folded_frames"] == 0


def test_a_directory_without_frames_is_refused(tmp_path):
    assert chignolin.main(str(tmp_path)) == 2
