"""A walker's trajectory: MDTraj and MDAnalysis read it with its topology, also while it grows."""

import csv
import json

import MDAnalysis
import mdtraj
import numpy as np
import pytest

from ddmd_mpi.config import load
from ddmd_mpi.errors import DiskError, RunDirectoryError
from ddmd_mpi.md.history import mend
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.md.trajectory import DCDFile, Trajectory, write_topology

CONFIG = load("cln025")
STRUCTURES = load_structures(CONFIG.system)
FRAMES = STRUCTURES.positions_nm + np.random.default_rng(0).normal(size=(5, 166, 3))


def trajectory(directory, file_format="dcd"):
    simulation = CONFIG.simulation.model_copy(update={"trajectory_format": file_format})
    return Trajectory(directory, 7, STRUCTURES.topology, simulation, ["radius_of_gyration"])


@pytest.mark.parametrize(("file_format", "tolerance"), [("dcd", 1e-5), ("xtc", 6e-4)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_readable_after_every_frame(tmp_path, file_format, tolerance):
    write_topology(STRUCTURES, tmp_path / "top.pdb")
    interval = CONFIG.simulation.report_interval_ps
    with trajectory(tmp_path, file_format) as growing:
        for i, x in enumerate(FRAMES):
            assert growing.append(x.astype(np.float32), i * interval, 0, 1.0, -2.0, [5.0]) == i
            read = mdtraj.load(str(growing.path), top=str(tmp_path / "top.pdb"))
            np.testing.assert_allclose(read.xyz, FRAMES[: i + 1], atol=tolerance)
            assert read.unitcell_lengths is None
        universe = MDAnalysis.Universe(str(tmp_path / "top.pdb"), str(growing.path))
        found = [frame.positions / 10 for frame in universe.trajectory]
        np.testing.assert_allclose(found, FRAMES, atol=tolerance)
        assert universe.trajectory.dt == pytest.approx(interval)


@pytest.mark.parametrize("file_format", ["dcd", "xtc"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_disk_that_gets_full_keeps_the_frames_before(tmp_path, limited, file_format):
    write_topology(STRUCTURES, tmp_path / "top.pdb")
    with trajectory(tmp_path, file_format) as growing:
        growing.append(FRAMES[0].astype(np.float32), 0.0, 0, 1.0, -2.0, [5.0])
        size = growing.path.stat().st_size
        for n_bytes in (0, 1, 100, 500):  # a part of the next frame
            with limited(size + n_bytes), pytest.raises(DiskError, match=rf"sim-0007\.{file_format} cannot be written"):
                growing.append(FRAMES[1].astype(np.float32), 1.0, 0, 1.0, -2.0, [5.0])
            assert growing.path.stat().st_size == size
        growing.append(FRAMES[2].astype(np.float32), 2.0, 0, 1.0, -2.0, [5.0])
        assert growing.n_frames == 2
        read = mdtraj.load(str(growing.path), top=str(tmp_path / "top.pdb"))
    np.testing.assert_allclose(read.xyz, FRAMES[[0, 2]], atol=6e-4)


@pytest.mark.parametrize("file_format", ["dcd", "xtc"])
def test_a_frame_without_its_row_is_taken_back_and_so_is_a_segment_without_its_first(tmp_path, limited, file_format):
    with trajectory(tmp_path, file_format) as growing:
        growing.begin_segment(0, {"restart_point": True})
        growing.append(FRAMES[0], 0.0, 0, 1.0, -2.0, [5.0])
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        growing.begin_segment(1, {"restart_point": True})
        frames = growing._frames._file
        growing._frames._file = (tmp_path / "sim-0007.frames.csv").open("rb", buffering=0)  # takes nothing
        with pytest.raises(DiskError, match=r"frames\.csv cannot be written"):
            growing.append(FRAMES[1], 1.0, 1, 1.0, -2.0, [5.0])
        growing._frames._file.close()
        growing._frames._file = frames
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        growing.begin_segment(1, {"restart_point": False})
        assert growing.append(FRAMES[1], 1.0, 1, 1.0, -2.0, [5.0]) == 1
    history = mend(growing.path.with_suffix(""), {None: growing.path})
    assert (history.n_frames, history.segment, history.restart_points) == (2, 1, 1)


@pytest.mark.parametrize("file_format", ["dcd", "xtc"])
def test_files_that_were_deleted_are_noticed(tmp_path, file_format):
    with trajectory(tmp_path, file_format) as growing:
        growing.append(FRAMES[0], 0.0, 0, 1.0, -2.0, [5.0])
        growing.sync()
        growing.path.unlink()
        with pytest.raises(DiskError, match="cannot be written"):
            growing.sync()


def test_the_index_holds_a_row_a_frame(tmp_path):
    with trajectory(tmp_path) as written:
        written.append(FRAMES[0], 0.4, 0, 3.25, -100.5, [5.5])
        written.append(FRAMES[1], 0.8, 1, float("nan"), -101.5, [6.5])
        with (tmp_path / "sim-0007.frames.csv").open() as file:
            rows = list(csv.DictReader(file))
    assert rows[0] == {
        "frame": "0", "segment": "0", "time_ps": "0.400000", "rmsd_angstrom": "3.2500",
        "potential_energy_kj_mol": "-100.5000", "radius_of_gyration": "5.5",
    }  # fmt: skip
    assert (rows[1]["frame"], rows[1]["segment"]) == ("1", "1")
    assert np.isnan(float(rows[1]["rmsd_angstrom"]))


def test_segments_say_where_they_begin_and_come_from(tmp_path):
    with trajectory(tmp_path) as written:
        written.begin_segment(0, {"decision": -1, "restart_point": False})
        written.append(FRAMES[0], 0.4, 0, 3.0, -1.0, [5.0])
        written.begin_segment(1, {"decision": 4, "restart_point": True})
        lines = [json.loads(line) for line in (tmp_path / "sim-0007.segments.jsonl").read_text().splitlines()]
    assert [line["first_frame"] for line in lines] == [0, 1]
    assert [line["decision"] for line in lines] == [-1, 4]
    assert {line["simulation"] for line in lines} == {7}


def test_nothing_is_overwritten(tmp_path):
    trajectory(tmp_path).free()
    with pytest.raises(RunDirectoryError, match=r"sim-0007\.dcd cannot be made"):
        trajectory(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_boxes_of_periodic_frames(tmp_path):
    box = np.array([[4.0, 0, 0], [0, 5.0, 0], [3.0, 0, 3.0]])
    write_topology(STRUCTURES, tmp_path / "top.pdb")
    file = DCDFile(tmp_path / "box.dcd", 166, 100, 0.004, periodic=True)
    file.write(FRAMES[0], box)
    file.close()
    read = mdtraj.load(str(tmp_path / "box.dcd"), top=str(tmp_path / "top.pdb"))
    np.testing.assert_allclose(read.unitcell_lengths[0], [4.0, 5.0, 3 * np.sqrt(2)], rtol=1e-6)
    np.testing.assert_allclose(read.unitcell_angles[0], [90.0, 45.0, 90.0], rtol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_walker_that_changes_its_topology_has_a_file_for_each(tmp_path):
    beads = load_structures(load("bba-go").system)
    write_topology(STRUCTURES, tmp_path / "a.pdb")
    write_topology(beads, tmp_path / "b.pdb")
    with Trajectory(tmp_path, 7, STRUCTURES.topology, CONFIG.simulation, ["x"], name="a") as written:
        for name, structures, n in (("a", STRUCTURES, 2), ("b", beads, 3), ("a", STRUCTURES, 1)):
            written.change(name, structures.topology)
            for _ in range(n):
                written.append(structures.positions_nm.astype(np.float32), 0.0, 0, 1.0, -2.0, [5.0])
    assert len(mdtraj.load(str(tmp_path / "sim-0007.a.dcd"), top=str(tmp_path / "a.pdb"))) == 3
    assert len(mdtraj.load(str(tmp_path / "sim-0007.b.dcd"), top=str(tmp_path / "b.pdb"))) == 3
    with (tmp_path / "sim-0007.frames.csv").open() as file:
        rows = [r["frame"] + r["topology"] + r["frame_in_file"] for r in csv.DictReader(file)]
    assert rows == ["0a0", "1a1", "2b0", "3b1", "4b2", "5a2"]
