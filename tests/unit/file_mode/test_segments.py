"""Segment files: bit-identical, self-describing, whole or not there; what cannot be read is refused by name."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from blocks import ORDER_PARAMETERS, RESIDUES, block, same

from ddmd_mpi import __version__
from ddmd_mpi.errors import DiskError, StreamError
from ddmd_mpi.file_mode.segments import COLUMNS, FEATURES, Segments, choose_iterations
from ddmd_mpi.frames.block import FIELD, FIELDS, FrameBlock, Hop

NAMES = ("radius", "native")
BOTH_HOPS = [f.name for f in FEATURES]
ABOUT = {"segments": [4], "decisions": [17], "source_frames": [55]}


@pytest.fixture
def segments(tmp_path):
    return Segments(tmp_path, "test", RESIDUES, NAMES)


def aggregate(segments, iteration, walkers):
    segments.aggregate(iteration, {w: segments.shapes(iteration, w) for w in walkers})


def test_what_is_written_is_read_bit_by_bit(segments):
    written = block(7)
    nbytes = segments.write(3, 7, written, ABOUT)
    assert segments.path(3, 7).relative_to(segments.directory) == Path("segments/iteration-0003/sim-0007.h5")
    assert segments.path(3, 7).stat().st_size == nbytes
    read = segments.read(3, 7)
    assert set(read.columns) == {f.name for f in FIELDS if Hop.FEATURES in f.hops}
    same(read, written, BOTH_HOPS)
    assert read["ring_slot"].tolist() == [0, 1, 2]
    assert read["slot_generation"].tolist() == [3, 3, 3]
    for row in range(3):
        for found, name in zip(segments.coordinates(3, 7, row), ("positions", "velocities", "box"), strict=True):
            assert found.tobytes() == written[name][row].tobytes()


def test_a_file_of_before_walkers_had_their_name_is_read(segments):
    written = [block(7), block(8)]
    for walker, one in ((7, written[0]), (8, written[1])):
        segments.write(3, walker, one, ABOUT)
    with h5py.File(segments.path(3, 7), "r+") as file:
        file.move("walker", "simulation")
    same(segments.read(3, 7), written[0], BOTH_HOPS)
    aggregate(segments, 3, (7, 8))
    same(segments.read_aggregated(3), FrameBlock.concatenate(written), BOTH_HOPS)


def test_a_file_says_what_it_holds(segments):
    segments.write(3, 7, block(7), ABOUT)
    with h5py.File(segments.path(3, 7)) as file:
        assert set(file) == {f.name for f in COLUMNS}
        for name, dataset in file.items():
            assert dataset.attrs["unit"] == (FIELD[name].unit or "1")
            assert dataset.attrs["meaning"] == FIELD[name].meaning
        assert list(file["order_parameters"].attrs["names"]) == list(NAMES)
        assert file.attrs["program_version"] == __version__
        assert (file.attrs["program"], file.attrs["system"]) == (b"ddmd-mpi", b"test")
        assert (file.attrs["walker"], file.attrs["iteration"]) == (7, 3)
        assert {name: file.attrs[name].tolist() for name in ABOUT} == ABOUT


def test_an_aggregated_file_shows_all_walkers_wherever_the_run_lies(segments, tmp_path, monkeypatch):
    blocks = [block(w, n) for w, n in ((0, 3), (1, 1), (5, 4))]
    for b in blocks:
        segments.write(2, int(b["walker"][0]), b, {})
    aggregate(segments, 2, (0, 1, 5))
    moved = Segments(tmp_path / "moved", "test", RESIDUES, NAMES)
    moved.directory.mkdir()
    for name in ("segments", "aggregated"):
        (tmp_path / name).rename(moved.directory / name)
    monkeypatch.chdir("/")
    read, written = moved.read_aggregated(2), FrameBlock.concatenate(blocks)
    same(read, written, BOTH_HOPS)
    assert read["ring_slot"].tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    with h5py.File(moved.aggregated(2)) as file:
        assert file["positions"].is_virtual
        np.testing.assert_array_equal(file["positions"], written["positions"])


@pytest.mark.parametrize("n_shares", [1, 2, 3, 8, 11])
def test_shares_are_disjoint_and_complete(segments, n_shares):
    blocks = [block(w, 4) for w in (0, 1)]
    for w, b in enumerate(blocks):
        segments.write(1, w, b, {})
    aggregate(segments, 1, (0, 1))
    shares = [segments.read_aggregated(1, share, n_shares) for share in range(n_shares)]
    sizes = [len(s) for s in shares]
    assert max(sizes) - min(sizes) <= 1
    same(FrameBlock.concatenate(shares), FrameBlock.concatenate(blocks), BOTH_HOPS)


def foreign(path, segments):
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(5)


def text(path, segments):
    path.write_text("no HDF5 file")


def truncated(path, segments):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path, segments):
    path.write_bytes(b"")


def gone(path, segments):
    path.unlink()


def of_another_walker(path, segments):
    path.write_bytes(segments.path(1, 1).read_bytes())


def of_another_system(path, segments):
    Segments(segments.directory, "other", RESIDUES, NAMES).write(1, 0, block(0), {})


def with_other_columns(path, segments):
    Segments(segments.directory, "test", RESIDUES, NAMES[:1]).write(
        1, 0, FrameBlock({**block(0).columns, "order_parameters": np.zeros((3, 1), "<f4")}), {}
    )


def with_too_few_contacts(path, segments):
    b = block(0)
    segments.write(1, 0, FrameBlock({**b.columns, "contact_columns": b["contact_columns"][:-1]}), {})


DAMAGES = [
    foreign,
    text,
    truncated,
    empty,
    gone,
    of_another_walker,
    of_another_system,
    with_other_columns,
    with_too_few_contacts,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_what_is_not_the_file_that_was_written_is_refused_by_name(segments, damage):
    for walker in (0, 1):
        segments.write(1, walker, block(walker), {})
    segments.read(1, 0)
    damage(segments.path(1, 0), segments)
    with pytest.raises(StreamError, match=r"segments/iteration-0001/sim-0000\.h5"):
        segments.read(1, 0)


@pytest.mark.parametrize("damage", [foreign, text, truncated, gone], ids=lambda f: f.__name__)
def test_an_aggregated_file_that_shows_a_lost_one_is_refused(segments, damage):
    for walker in (0, 1):
        segments.write(1, walker, block(walker), {})
    aggregate(segments, 1, (0, 1))
    damage(segments.path(1, 1), segments)
    with pytest.raises(StreamError, match=r"aggregated/iteration-0001\.h5"):
        segments.read_aggregated(1)


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_writer_that_is_killed_leaves_the_file_that_was_there(segments, tmp_path, where):
    program = [sys.executable, Path(__file__).with_name("segment_writer.py"), tmp_path, where]
    tests = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(program, stdout=subprocess.PIPE, env={**os.environ, **tests}) as writer:
        said = writer.stdout.readline()
        writer.kill()
    assert said == b"stopped\n"
    directory = segments.path(1, 0).parent
    assert len(list(directory.iterdir())) == 2, "it was not killed in the middle"
    assert list(directory.glob("sim-*.h5")) == [segments.path(1, 0)]
    same(Segments(tmp_path, "test", RESIDUES, ("a", "b")).read(1, 0), block(0), BOTH_HOPS)
    with h5py.File(segments.path(1, 0)) as file:
        assert file.attrs["number"] == 1


def test_a_full_disk_is_one_error_and_leaves_nothing_behind(segments):
    written = block(0)
    segments.write(1, 0, written, {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (segments.path(1, 0).stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(DiskError, match=r"iteration-0002/sim-0000\.h5 cannot be written: File too large"):
            segments.write(2, 0, block(0, first=3), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(segments.path(2, 0).parent.iterdir()) == []
    same(segments.read(1, 0), written, BOTH_HOPS)


def test_the_newest_iterations_and_some_older_ones_are_read():
    generator = np.random.default_rng(1)
    assert choose_iterations([3, 1, 2], 10, 5, generator) == [1, 2, 3]
    assert choose_iterations(range(1, 21), 3, 0, generator) == [18, 19, 20]
    seen = set()
    for _ in range(200):
        chosen = choose_iterations(range(1, 21), 3, 2, generator)
        assert chosen == sorted(set(chosen))
        assert chosen[2:] == [18, 19, 20]
        seen.update(chosen[:2])
    assert seen == set(range(1, 18))


def test_the_blocks_of_these_tests_are_of_the_table():
    assert len(NAMES) == ORDER_PARAMETERS
    assert set(block(0).columns) == {f.name for f in FIELDS if Hop.COORDINATES in f.hops}
