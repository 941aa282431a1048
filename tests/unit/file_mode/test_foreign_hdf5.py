"""HDF5 files from elsewhere: no other file is read through them, and none takes memory for what is not there."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from blocks import RESIDUES, block

from ddmd_mpi.errors import StreamError
from ddmd_mpi.file_mode import hdf5
from ddmd_mpi.file_mode.restarts import Order, Restarts
from ddmd_mpi.file_mode.segments import Segments
from ddmd_mpi.frames.command import RestartCommand

NAMES = ("radius", "native")
SECRET = np.arange(1000, dtype="<f4")


@pytest.fixture
def segments(tmp_path):
    """The files of two walkers in iteration 1, and the file that shows both."""
    (tmp_path / "run" / "segments").mkdir(parents=True)
    segments = Segments(tmp_path / "run", "test", RESIDUES, NAMES)
    for walker in (0, 1):
        segments.write(1, walker, block(walker), {})
    segments.aggregate(1, {w: segments.shapes(1, w) for w in (0, 1)})
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["rmsd"] = SECRET[:3]
    (tmp_path / "secret").write_bytes(SECRET.tobytes())
    return segments


def external_link(file, secret):
    del file["rmsd"]
    file["rmsd"] = h5py.ExternalLink(str(secret) + ".h5", "rmsd")


def soft_link(file, secret):
    file["hidden"] = file["rmsd"][:]
    del file["rmsd"]
    file["rmsd"] = h5py.SoftLink("/hidden")


def raw_bytes(file, secret):
    del file["rmsd"]
    file.create_dataset("rmsd", (3,), "<f4", external=[(str(secret), 0, 12)])


def virtual(file, secret):
    del file["rmsd"]
    layout = h5py.VirtualLayout((3,), "<f4")
    layout[:] = h5py.VirtualSource(str(secret) + ".h5", "rmsd", (3,), "<f4")
    file.create_virtual_dataset("rmsd", layout)


def compressed(file, secret):
    values = file["rmsd"][:]
    del file["rmsd"]
    file.create_dataset("rmsd", data=values, compression="gzip")


def group(file, secret):
    del file["rmsd"]
    file.create_group("rmsd")


def text(file, secret):
    del file["rmsd"]
    file["rmsd"] = ["a", "b", "c"]


@pytest.mark.parametrize(
    "change", [external_link, soft_link, raw_bytes, virtual, compressed, group, text], ids=lambda f: f.__name__
)
def test_no_other_place_is_read_through_a_file(segments, tmp_path, change):
    path = segments.path(1, 0)
    segments.read(1, 0)
    with h5py.File(path, "r+") as file:
        change(file, tmp_path / "secret")
    for read in (lambda: segments.read(1, 0), lambda: segments.shapes(1, 0)):
        with pytest.raises(StreamError, match=r"sim-0000\.h5 cannot be read: its rmsd "):
            read()


@pytest.mark.parametrize("change", [external_link, raw_bytes, virtual], ids=lambda f: f.__name__)
def test_a_file_that_shows_all_walkers_shows_no_other(segments, tmp_path, change):
    assert len(segments.read_aggregated(1)) == 6
    with h5py.File(segments.aggregated(1), "r+") as file:
        change(file, tmp_path / "secret")
    with pytest.raises(StreamError, match=r"iteration-0001\.h5 cannot be read: its rmsd "):
        segments.read_aggregated(1)


@pytest.mark.parametrize("frames", [[3, 10**15], [-3, 9], [6]])
def test_frames_that_do_not_add_up(segments, frames):
    with h5py.File(segments.aggregated(1), "r+") as file:
        file.attrs["frames"] = frames
    if frames == [6]:
        assert len(segments.read_aggregated(1)) == 6
        return
    with pytest.raises(StreamError, match="frames does not add up to 6"):
        segments.read_aggregated(1)


def test_contacts_of_residues_that_there_are_not(segments):
    with h5py.File(segments.path(1, 0), "r+") as file:
        file["contact_columns"][0] = RESIDUES
    with pytest.raises(StreamError, match="contacts"):
        segments.read(1, 0)


READ = """
import resource, sys
from pathlib import Path
from ddmd_mpi.errors import StreamError
from ddmd_mpi.file_mode.segments import Segments
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
try:
    Segments(Path(sys.argv[1]), "test", 4, ("radius", "native")).read(1, 0)
except StreamError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["chunked", "never written"])
def test_an_absurd_shape_takes_no_memory(segments, how):
    path, n = segments.path(1, 0), 10**10
    with h5py.File(path, "r+") as file:
        for name, dataset in list(file.items()):
            shape, dtype = dataset.shape, dataset.dtype
            del file[name]
            shape = (n, *shape[1:]) if name != "contact_columns" else (0,)
            file.create_dataset(name, shape, dtype, chunks=(1, *shape[1:]) if how == "chunked" and shape[0] else None)
    assert path.stat().st_size < 1_000_000
    done = subprocess.run([sys.executable, "-c", READ, segments.directory], capture_output=True, text=True, check=True)
    assert "sim-0000.h5 cannot be read: its walker" in done.stdout, done.stdout


def test_a_pipe_in_place_of_a_file_is_not_waited_for(segments):
    path = segments.path(1, 0)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StreamError, match="cannot be read: it is a directory, a pipe or a device"):
        segments.read(1, 0)


def test_restarts_that_do_not_fit(tmp_path):
    restarts = Restarts(tmp_path, "test")
    order = Order(3, RestartCommand(1, 0, 0.0), (np.zeros((5, 3), "<f4"), np.ones((5, 3), "<f4"), np.zeros((3, 3))))
    restarts.write(2, [order])
    assert restarts.read(2, [3])[3].command.kind == 1
    for harm in (lambda f: f["atoms"].__setitem__(0, 7), lambda f: external_link_of(f, "velocities")):
        restarts.write(2, [order])
        with h5py.File(restarts.path(2), "r+") as file:
            harm(file)
        with pytest.raises(StreamError, match=r"iteration-0002\.h5 cannot be read"):
            restarts.read(2, [3])


def external_link_of(file, name):
    del file[name]
    file[name] = h5py.ExternalLink("elsewhere.h5", name)


def test_what_this_program_writes_is_plain(segments):
    with hdf5.reading(segments.path(1, 0), {}) as file:
        assert {hdf5.column(file, name).chunks for name in file} == {None}
