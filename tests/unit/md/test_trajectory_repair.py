"""What is half written is cut off; what is whole stays, and the files go on."""

from types import SimpleNamespace

import numpy as np
import pytest
from openmm import app

from ddmd_mpi import config
from ddmd_mpi.errors import RunDirectoryError
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.md.trajectory import Trajectory
from ddmd_mpi.md.trajectory_repair import coordinate_ends, shape

mdtraj = pytest.importorskip("mdtraj")
N_FRAMES = 5


@pytest.fixture(params=["dcd", "xtc"])
def make(request, tmp_path):
    """``make(resume)`` opens the files of a walker."""
    settings = config.load("bba-go", assignments=(f"simulation.trajectory_format={request.param}",))
    structures = load_structures(settings.system)

    def trajectory(resume=False):
        return Trajectory(tmp_path, 0, structures, settings.simulation, ("rg",), resume)

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
            file.write('{"walker": 0, "seg')
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
    whole, suffix = trajectory.path.read_bytes(), trajectory.path.suffix
    for harmed, words in (
        (b"\0" * 100, f"is not in the format {suffix[1:].upper()}"),
        (strange(whole, suffix), "of 27 atoms"),
    ):
        trajectory.path.write_bytes(harmed)
        with pytest.raises(RunDirectoryError, match=words):
            make(resume=True)


def strange(content, suffix):
    """The same with 27 atoms in every head, and frames of that size."""
    if suffix == ".xtc":
        return content.replace((28).to_bytes(4, "big"), (27).to_bytes(4, "big"))
    return content[:188] + (27).to_bytes(4, "little") + content[192:]


@pytest.fixture(params=["dcd", "xtc"])
def several(request, tmp_path):
    """``several(resume)`` opens the files of a walker of many complexes, which holds ``a``."""
    settings = config.load("bba-go", assignments=(f"simulation.trajectory_format={request.param}",))
    structures = load_structures(settings.system)
    small = app.Topology()
    for i, chain in enumerate([small.addChain()] * 12):
        small.addAtom("CA", app.element.carbon, small.addResidue("ALA", chain, str(i + 1)))

    def trajectory(resume=False):
        return Trajectory(tmp_path, 3, structures, settings.simulation, (), resume, "a")

    trajectory.topologies = {"a": structures, "b.2": SimpleNamespace(n_atoms=12, periodic=False, topology=small)}
    trajectory.path = lambda name: tmp_path / f"sim-0003.{name}.{request.param}"
    return trajectory


def hold(several, trajectory, names):
    """A frame of each of these topologies, at x = the number of frames before it / 100."""
    for name in names:
        topology = several.topologies[name]
        trajectory.change(name, topology)
        i = trajectory.n_frames
        spread = np.arange(topology.n_atoms * 3, dtype=np.float32).reshape(-1, 3) / 10
        trajectory.append(spread + np.float32(i / 100), float(i), 0, 1.0, 0.0)


def index(several):
    path = several.path("a").with_name("sim-0003.frames.csv")
    return [line.split(",")[-2:] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("harm", "whole"), [("nothing", 5), ("a", 3), ("b.2", 4)])
def test_files_of_several_topologies_go_on_after_a_kill(several, harm, whole):
    """The frame in which the first file tears is the end of all: what lies behind it in the other one goes, too."""
    with several() as trajectory:
        trajectory.begin_segment(0, {"restart_point": True})
        hold(several, trajectory, ["a", "b.2", "b.2", "a", "b.2"])
    if harm != "nothing":
        several.path(harm).write_bytes(several.path(harm).read_bytes()[:-3])
    with several(resume=True) as later:
        assert (later.n_frames, later.history.time_ps) == (whole, whole - 1)
        hold(several, later, ["b.2", "a", "b.2"])
    names = [*["a", "b.2", "b.2", "a", "b.2"][:whole], "b.2", "a", "b.2"]
    assert index(several)[1:] == [[name, str(names[:i].count(name))] for i, name in enumerate(names)]
    for name, n_atoms in (("a", 28), ("b.2", 12)):
        expected = [i for i, n in enumerate(names) if n == name]
        path = several.path(name)
        assert len(coordinate_ends(path, *shape(path), 100)) - 1 == len(expected)
        loaded = mdtraj.load(path, top=mdtraj.Topology.from_openmm(several.topologies[name].topology))
        assert loaded.n_atoms == n_atoms
        np.testing.assert_allclose(loaded.xyz[:, 0, 0], np.array(expected) / 100, atol=1e-3)


def test_a_file_that_is_gone_is_named_and_nothing_is_cut(several):
    with several() as trajectory:
        hold(several, trajectory, ["a", "b.2", "a"])
    several.path("b.2").unlink()
    before = index(several)
    with pytest.raises(RunDirectoryError, match=r"the file of b\.2 is missing"):
        several(resume=True)
    assert index(several) == before
