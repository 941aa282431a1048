"""What a finished trial leaves, of a run directory that is whole or damaged."""

import shutil

import mdtraj
import numpy as np
import pytest
from synthetic_files import write_trajectories

from ddmd_mpi.errors import RunDirectoryError
from ddmd_mpi.study.outcome import distil, read_outcome

TIMESTEP = "timestep_fs = 2.0"


@pytest.fixture
def trial(make, fresh):
    """A finished trial whose run directory has trajectories."""
    _, (trial, *_) = make()
    trial.directory.mkdir(parents=True)
    write_trajectories(fresh, np.random.default_rng(0))
    config = fresh / "config.toml"
    config.write_text(config.read_text().replace("[simulation]", f"[simulation]\n{TIMESTEP}"))
    fresh.rename(trial.run)
    return trial


def test_the_outcome_has_the_frames_of_the_run(trial):
    distil(trial)
    found = read_outcome(trial)
    assert len(found.positions) == len(found.rmsd_angstrom) > 0


def test_a_trajectory_shorter_than_its_index_is_a_damaged_run(trial):
    path = trial.run / "trajectories" / "sim-0002.dcd"
    frames = mdtraj.load(str(path), top=str(trial.run / "topology" / "chain.pdb"))
    frames[:-3].save_dcd(str(path))  # one of them is a restart point
    with pytest.raises(RunDirectoryError, match=rf"{trial.run} is damaged: 2 of \d+ frames"):
        distil(trial)
    assert not (trial.directory / "result.npz").exists()


def test_a_run_without_trajectories_is_damaged(trial):
    shutil.rmtree(trial.run / "topology")
    with pytest.raises(RunDirectoryError, match=f"{trial.run} is damaged: "):
        distil(trial)


@pytest.mark.parametrize("timestep", ["", 'timestep_fs = "2"', "timestep_fs = 0.0"])
def test_settings_of_no_use_are_a_damaged_run(trial, timestep):
    path = trial.run / "config.toml"
    path.write_text(path.read_text().replace(TIMESTEP, timestep))
    with pytest.raises(RunDirectoryError, match=rf"{trial.run} is damaged \(.*delete it"):
        distil(trial)
