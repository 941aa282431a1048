import numpy as np
import pytest
from synthetic_files import N_RESIDUES, write_trajectories

from ddmd_mpi.analysis import open_run
from ddmd_mpi.analysis.coverage import coverage, states, states_of_file
from ddmd_mpi.analysis.sample import Sample, sample
from ddmd_mpi.errors import InputError, RunDirectoryError


@pytest.fixture
def shapes():
    """40 frames of each of three shapes: chains of length 1, 2 and 3 nm."""
    random = np.random.default_rng(1)
    chains = np.linspace(0, 1, 8)[:, None] * [1.0, 0.0, 0.0] * np.array([1.0, 2.0, 3.0])[:, None, None]
    return np.repeat(chains, 40, axis=0) + 1e-3 * random.normal(size=(120, 8, 3))


def test_states_are_the_shapes_wherever_they_lie(shapes):
    found = states(shapes, "the shapes", most=3)
    assert len(found) == 3
    moved = shapes[:, :, ::-1] + 5.0
    assigned = found.assign(moved).reshape(3, 40)
    assert (assigned == assigned[:, :1]).all()
    assert len(np.unique(assigned)) == 3


def test_coverage_grows_with_each_first_visit(shapes):
    found = states(shapes, "the shapes", most=3)
    visited = Sample(np.arange(5), shapes[[0, 1, 80, 2, 81]], 5)
    times, shares = coverage(found, visited, np.array([1.0, 2.0, 4.0, 3.0, 5.0]))
    np.testing.assert_array_equal(times, [1, 4, 5])
    np.testing.assert_allclose(shares, [1 / 3, 2 / 3, 2 / 3])


def test_there_are_no_more_states_than_the_frames_bear(shapes):
    assert len(states(shapes, "the shapes")) <= 12
    with pytest.raises(InputError, match="the shapes has 19 frames: at least 20"):
        states(shapes[:19], "the shapes")


def test_equal_frames_are_one_state(shapes):
    found = states(np.repeat(shapes[:1], 40, axis=0), "one shape")
    assert len(found) == 1


def test_frames_of_another_system_are_refused(shapes):
    with pytest.raises(InputError, match="the shapes has 8 descriptor atoms and the run has 7"):
        states(shapes, "the shapes").assign(shapes[:, :7])


@pytest.fixture
def with_files(fresh):
    write_trajectories(fresh, np.random.default_rng(0))
    return open_run(fresh)


def test_a_sample_is_even_and_has_no_restart_points(with_files):
    simulated = np.flatnonzero(~with_files.frames["restart_point"])
    some = sample(with_files, most=50)
    assert 25 < len(some.rows) <= 50
    assert set(some.rows) < set(simulated)
    assert some.positions_nm.shape == (len(some.rows), N_RESIDUES, 3)
    assert len(np.unique(np.diff(np.searchsorted(simulated, some.rows)))) == 1
    assert some.words == f"{len(some.rows)} of {len(simulated)} frames"
    assert sample(with_files).words == "all frames"
    assert 5 < len(some.thinned(10).rows) <= 10


def test_a_run_without_trajectories_has_no_sample(steered):
    with pytest.raises(RunDirectoryError, match="no trajectory files"):
        sample(open_run(steered))


def test_a_trajectory_is_a_reference(with_files):
    file = with_files.trajectories[0]
    found = states_of_file(file.path, file.topology, ["CA"])
    assert found.name == str(file.path)
    assert len(np.unique(found.assign(with_files.positions(file.rows)))) == len(found)
