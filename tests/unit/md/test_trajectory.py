"""A walker's trajectory: MDTraj and MDAnalysis read it with its topology, also while it grows."""

import csv
import json
import struct
from dataclasses import replace

import MDAnalysis
import mdtraj
import numpy as np
import pytest

from ddmd_mpi.config import load
from ddmd_mpi.errors import DiskError, RunDirectoryError
from ddmd_mpi.md.coordinate_files import DCDFile
from ddmd_mpi.md.structures import load_structures, write_topology
from ddmd_mpi.md.trajectory import Trajectory
from ddmd_mpi.md.trajectory_repair import mend

CONFIG = load("cln025")
STRUCTURES = load_structures(CONFIG.system)
FRAMES = STRUCTURES.positions_nm + np.random.default_rng(0).normal(size=(5, 166, 3))


def trajectory(directory, file_format="dcd"):
    simulation = replace(CONFIG.simulation, trajectory_format=file_format)
    return Trajectory(directory, 7, STRUCTURES, simulation, ["radius_of_gyration"])


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
def test_frames_written_at_once_are_as_written_one_by_one(tmp_path, file_format, limited):
    interval = CONFIG.simulation.report_interval_ps
    frames = FRAMES.astype(np.float32)
    rmsd, energy, other = np.arange(5) + 0.25, np.arange(5) - 2.0, np.arange(5.0)[:, None] / 3
    written = {}
    for name in ("one", "all"):
        (tmp_path / name).mkdir()
        with trajectory(tmp_path / name, file_format) as growing:
            growing.append(frames[0], 0.0, 0, 0.25, -2.0, [0.0])
            if name == "one":
                for i in (1, 2, 3, 4):
                    assert growing.append(frames[i], i * interval, 1, rmsd[i], energy[i], other[i]) == i
            else:
                several = (frames[1:], np.arange(1, 5) * interval, np.ones(4, int), rmsd[1:], energy[1:], other[1:])
                with limited(growing.path.stat().st_size + 2500), pytest.raises(DiskError):
                    growing.append_all(*several)
                assert growing.n_frames == 1
                assert growing.append_all(*several) == 1
            assert growing.n_frames == 5
        written[name] = [(p.name, p.read_bytes()) for p in sorted((tmp_path / name).glob("*"))]
    assert written["one"] == written["all"]


def times(top, path):
    """Times of the frames in ps, as MDAnalysis reads them."""
    return [frame.time for frame in MDAnalysis.Universe(str(top), str(path)).trajectory]


@pytest.mark.parametrize("file_format", ["dcd", "xtc"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_files_have_the_times_of_the_frames(tmp_path, file_format, limited):
    """The first frame is the start at time 0, and a write that the disk refused does not count."""
    write_topology(STRUCTURES, tmp_path / "top.pdb")
    interval = CONFIG.simulation.report_interval_ps
    with trajectory(tmp_path, file_format) as growing:
        for i in range(2):
            growing.append(FRAMES[i].astype(np.float32), i * interval, 0, 1.0, -2.0, [5.0])
        with limited(growing.path.stat().st_size), pytest.raises(DiskError):
            growing.append(FRAMES[2].astype(np.float32), 2 * interval, 0, 1.0, -2.0, [5.0])
        growing.append(FRAMES[2].astype(np.float32), 2 * interval, 0, 1.0, -2.0, [5.0])
    assert times(tmp_path / "top.pdb", growing.path) == pytest.approx([0, interval, 2 * interval], abs=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_every_frame_of_an_xtc_file_has_its_own_time(tmp_path):
    """A restart point adds no simulated time."""
    write_topology(STRUCTURES, tmp_path / "top.pdb")
    given = [0.0, 0.24, 0.48, 0.48, 0.72]
    with trajectory(tmp_path, "xtc") as growing:
        for x, time_ps in zip(FRAMES, given, strict=True):
            growing.append(x.astype(np.float32), time_ps, 0, 1.0, -2.0, [5.0])
    assert times(tmp_path / "top.pdb", growing.path) == pytest.approx(given, abs=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_dcd_file_grows_beyond_step_numbers_of_32_bits(tmp_path):
    """bba with 2 fs and 50 ps gets there with frame 85,900; the times stay right, and the file can be resumed."""
    top = MDAnalysis.Universe.empty(1, trajectory=True)
    path, steps, n_before = tmp_path / "long.dcd", 25_000, 85_898
    file = DCDFile(path, 1, steps, 0.002, periodic=False)
    file.close()
    frame = np.frombuffer(b"".join(struct.pack("<ifi", 4, x, 4) for x in (1.0, 2.0, 3.0)), np.uint8)
    with path.open("ab") as raw:
        raw.write(np.tile(frame, n_before).tobytes())
    for n in (n_before, n_before + 3):  # each a session
        file = DCDFile(path, 1, steps, 0.002, periodic=False, n_frames=n)
        for i in range(3):
            file.write(np.ones((1, 3)), None, (n + i) * 50.0)
        file.close()
        top.load_new(str(path))
        read = top.trajectory
        assert (len(read), read.dt) == (n + 3, pytest.approx(50.0))
        assert [read[i].time for i in (0, 1, n + 2)] == pytest.approx([0.0, 50.0, (n + 2) * 50.0], rel=1e-6)
        read.close()


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
    assert {line["walker"] for line in lines} == {7}


@pytest.mark.parametrize(("lost", "segments"), [(0, [0, 1, 2]), (1, [0, 1, 2]), (2, [0, 1]), (3, [0, 1]), (4, [0])])
def test_segments_that_start_behind_the_frames_are_cut(tmp_path, lost, segments):
    """Frames written at once, in which two segments start, and a kill that leaves out the last ones."""
    begun = [(1, 2, {"restart_point": False}), (2, 4, {"restart_point": False})]
    with trajectory(tmp_path) as written:
        written.begin_segment(0, {"restart_point": False})
        of_frame = np.array([0, 0, 1, 1, 2])
        values = np.ones(5)
        written.append_all(FRAMES, 0.4 * np.arange(5), of_frame, values, values, values[:, None], begun=begun)
    index = tmp_path / "sim-0007.frames.csv"
    index.write_text("".join(index.read_text().splitlines(keepends=True)[: 6 - lost]))
    history = mend(tmp_path / "sim-0007", {None: tmp_path / "sim-0007.dcd"})
    lines = [json.loads(line) for line in (tmp_path / "sim-0007.segments.jsonl").read_text().splitlines()]
    assert (history.n_frames, history.segment) == (5 - lost, segments[-1])
    assert [line["segment"] for line in lines] == segments
    assert [line["first_frame"] for line in lines] == [0, 2, 4][: len(segments)]


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
    with Trajectory(tmp_path, 7, STRUCTURES, CONFIG.simulation, ["x"], name="a") as written:
        for name, structures, n in (("a", STRUCTURES, 2), ("b", beads, 3), ("a", STRUCTURES, 1)):
            written.change(name, structures)
            for _ in range(n):
                written.append(structures.positions_nm.astype(np.float32), 0.0, 0, 1.0, -2.0, [5.0])
    assert len(mdtraj.load(str(tmp_path / "sim-0007.a.dcd"), top=str(tmp_path / "a.pdb"))) == 3
    assert len(mdtraj.load(str(tmp_path / "sim-0007.b.dcd"), top=str(tmp_path / "b.pdb"))) == 3
    with (tmp_path / "sim-0007.frames.csv").open() as file:
        rows = [r["frame"] + r["topology"] + r["frame_in_file"] for r in csv.DictReader(file)]
    assert rows == ["0a0", "1a1", "2b0", "3b1", "4b2", "5a2"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_file_of_a_later_topology_starts_at_its_time(tmp_path):
    beads = load_structures(load("bba-go").system)
    write_topology(beads, tmp_path / "b.pdb")
    interval = CONFIG.simulation.report_interval_ps
    for resume in (False, True):
        with Trajectory(tmp_path, 7, STRUCTURES, CONFIG.simulation, name="a", resume=resume) as written:
            for i in range(2):
                written.append(STRUCTURES.positions_nm.astype(np.float32), i * interval, 0, 1.0, -2.0)
            written.change("b", beads)
            written.append(beads.positions_nm.astype(np.float32), (6 + resume) * interval, 0, 1.0, -2.0)
    assert times(tmp_path / "b.pdb", tmp_path / "sim-0007.b.dcd") == pytest.approx([6 * interval, 7 * interval])


def test_a_topology_of_more_than_9999_residues_is_read_by_all(tmp_path):
    """One atom a residue, as MDTraj, MDAnalysis and OpenMM read it."""
    import MDAnalysis
    import mdtraj
    from openmm import app

    from ddmd_mpi.md.coordinates import write_pdb

    topology = app.Topology()
    chain, n = topology.addChain("W"), 10_003
    for i in range(n):
        topology.addAtom("O", app.element.oxygen, topology.addResidue("HOH", chain, str(i + 1)))
    write_pdb(topology, np.zeros((n, 3)), tmp_path / "w.pdb")
    assert [r.id for r in topology.residues()][-1] == str(n)
    assert app.PDBFile(str(tmp_path / "w.pdb")).topology.getNumResidues() == n
    assert mdtraj.load(str(tmp_path / "w.pdb")).n_residues == n
    residues = MDAnalysis.Universe(str(tmp_path / "w.pdb")).residues
    assert len(residues) == n
    assert residues.resids[-1] == n
