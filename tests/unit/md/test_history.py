"""What is half written is cut off; what is whole stays, and the files go on."""

import numpy as np
import pytest

from ddmd_mpi import config
from ddmd_mpi.errors import RunDirectoryError
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.md.trajectory import Trajectory

mdtraj = pytest.importorskip("mdtraj")
N_FRAMES = 5


@pytest.fixture(params=["dcd", "xtc"])
def make(request, tmp_path):
    """``make(resume)`` opens the files of a walker."""
    settings = config.load("bba-go", assignments=(f"simulation.trajectory_format={request.param}",))
    structures = load_structures(settings.system)

    def trajectory(resume=False):
        return Trajectory(tmp_path, 0, structures.topology, settings.simulation, ("rg",), resume)

    trajectory.structures, trajectory.top = structures, str(settings.system.start)
    return trajectory


def fill(make, trajectory, first, last):
    for i in range(first, last):
        trajectory.append(make.structures.positions_nm + np.float32(0.01 * i), float(i), 0, 9.0 - i, 0.0, (2.0,))


@pytest.mark.parametrize("harm", ["nothing", "coordinates", "index", "segment", "line"])
def test_files_go_on_after_a_kill(make, harm):
    trajectory = make()
    trajectory.begin_segment(0, {"restart_point": True})
    fill(make, trajectory, 0, N_FRAMES)
    if harm == "segment":
        trajectory.begin_segment(1, {"restart_point": True})
    trajectory.sync()
    trajectory.free()
    path, whole = trajectory.path, N_FRAMES
    if harm == "coordinates":
        path.write_bytes(path.read_bytes()[:-3])
        whole -= 1
    elif harm == "index":
        index = path.with_suffix(".frames.csv")
        index.write_text(index.read_text()[:-4])
        whole -= 1
    elif harm == "line":
        with path.with_suffix(".segments.jsonl").open("a") as file:
            file.write('{"simulation": 0, "seg')
    with make(resume=True) as later:
        assert (later.n_frames, later.history.segment, later.history.restart_points) == (whole, 0, 1)
        assert (later.history.time_ps, later.history.best) == (whole - 1, (10.0 - whole, whole - 1))
        fill(make, later, whole, whole + 2)
    loaded = mdtraj.load(path, top=make.top)
    start = make.structures.positions_nm[0, 0]
    np.testing.assert_allclose(loaded.xyz[:, 0, 0], start + 0.01 * np.arange(whole + 2), atol=1e-3)
    assert len(path.with_suffix(".frames.csv").read_text().splitlines()) == whole + 3
    assert len(path.with_suffix(".segments.jsonl").read_text().splitlines()) == 1


def test_files_without_a_whole_frame_begin_anew(make):
    make().free()
    with make(resume=True) as later:
        assert (later.n_frames, later.history.segment) == (0, -1)
        fill(make, later, 0, 2)
    assert mdtraj.load(later.path, top=make.top).n_frames == 2


def test_a_file_of_another_system_is_refused(make):
    with make() as trajectory:
        fill(make, trajectory, 0, 2)
    if trajectory.path.suffix == ".dcd":
        pytest.skip("a DCD frame does not say how many atoms it has")
    trajectory.path.write_bytes(b"\0" * 100)
    with pytest.raises(RunDirectoryError, match="28 atoms"):
        make(resume=True)
