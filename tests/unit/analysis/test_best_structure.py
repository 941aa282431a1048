import mdtraj
import numpy as np
import pytest
from synthetic_files import N_RESIDUES, write_target, write_trajectories

from ddmd_mpi.analysis import open_run
from ddmd_mpi.analysis.best_structure import write_best_structure
from ddmd_mpi.errors import InputError


@pytest.fixture
def directory(fresh):
    write_trajectories(fresh, np.random.default_rng(0))
    return fresh


def frame_of(run):
    file = next(f for f in run.trajectories if run.best in f.rows)
    trajectory = mdtraj.load(str(file.path), top=str(file.topology))
    return trajectory[run.frames["frame_in_file"][run.best]]


def test_it_lies_on_the_target_as_near_as_it_can(directory):
    write_target(directory, np.random.default_rng(1))
    run = open_run(directory)
    found = write_best_structure(run, directory / "structures")
    target = mdtraj.load(str(directory / "inputs" / "target.pdb"))
    expected = 10 * mdtraj.rmsd(frame_of(run), target)[0]
    assert found.rmsd_angstrom == pytest.approx(expected, abs=1e-3)
    written = mdtraj.load(str(found.frame)).xyz - mdtraj.load(str(found.target)).xyz
    assert 10 * np.sqrt((written**2).sum(axis=-1).mean()) == pytest.approx(expected, abs=2e-3)
    np.testing.assert_allclose(mdtraj.load(str(found.frame)).xyz[0], found.descriptor_nm, atol=1e-4)


def test_a_run_without_a_target_shows_the_frame_alone(directory):
    run = open_run(directory)
    found = write_best_structure(run, directory / "structures")
    assert (found.target, found.target_nm) == (None, None)
    np.testing.assert_allclose(mdtraj.load(str(found.frame)).xyz, frame_of(run).xyz, atol=1e-4)


def test_a_target_of_another_system_is_named(directory):
    write_target(directory, np.random.default_rng(1))
    path = directory / "inputs" / "target.pdb"
    mdtraj.load(str(path)).atom_slice(range(N_RESIDUES - 1)).save_pdb(str(path))
    with pytest.raises(InputError, match="9 descriptor atoms and the frames have 10"):
        write_best_structure(open_run(directory), directory / "structures")


def test_a_missing_trajectory_is_named(steered, tmp_path):
    with pytest.raises(InputError, match="no trajectory file with the frame of the lowest RMSD"):
        write_best_structure(open_run(steered), tmp_path)
