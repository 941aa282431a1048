"""Archives that were cut off anywhere: what is whole is read, at once, and nothing hangs or crashes."""

import os
import shutil

import numpy as np
import pytest
from test_archive import block

from ddmd_mpi.errors import DiskError, StreamError
from ddmd_mpi.streams.archive import Archive, read_archive

N_FRAMES = 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An archive of four blocks."""
    path = tmp_path_factory.mktemp("archive") / "agg-00.bp"
    with Archive(path, "full") as archive:
        for seed in range(4):
            archive.append(block(seed, N_FRAMES))
    return path


@pytest.fixture
def torn(whole, tmp_path):
    """``torn(file, keep)`` gives a copy of which one file has only the share `keep` of its bytes, or is gone."""

    def cut(name, keep):
        path = shutil.copytree(whole, tmp_path / "agg-00.bp")
        if keep is None:
            (path / name).unlink()
        else:
            os.truncate(path / name, int(keep * (path / name).stat().st_size))
        return path

    return cut


@pytest.mark.parametrize(
    ("name", "keep", "n_blocks"),
    [
        ("data.0", 0, 0),
        ("data.0", 0.5, 2),
        ("data.0", 0.7, 2),
        ("data.0", 0.99, 3),
        ("md.0", 0, 0),
        ("md.0", 0.5, 1),
        ("md.0", 0.99, 3),
        ("md.idx", 0.5, 1),
        ("md.idx", 0.99, 3),
    ],
)
def test_the_blocks_that_are_whole_are_read(torn, name, keep, n_blocks):
    found = list(read_archive(torn(name, keep)))
    assert len(found) == n_blocks
    for seed, got in enumerate(found):
        assert np.array_equal(got["positions"], block(seed, N_FRAMES)["positions"])


@pytest.mark.parametrize(
    ("name", "keep"),
    [("md.idx", 0), ("md.idx", None), ("md.0", None), ("data.0", None), ("mmd.0", 0), ("mmd.0", 0.5), ("mmd.0", None)],
)
def test_an_archive_that_lacks_a_file_or_its_head_is_one_sentence(torn, name, keep):
    with pytest.raises(StreamError, match=r"agg-00\.bp is not a complete archive"):
        list(read_archive(torn(name, keep)))


def test_an_empty_directory_is_one_sentence(tmp_path):
    (tmp_path / "agg-00.bp").mkdir()
    with pytest.raises(StreamError, match="is not a complete archive"):
        list(read_archive(tmp_path / "agg-00.bp"))


def test_an_archive_without_blocks_has_none(tmp_path):
    with Archive(tmp_path / "agg-00.bp", "full"):
        pass
    assert list(read_archive(tmp_path / "agg-00.bp")) == []


def test_a_full_disk_is_one_error_and_what_was_there_is_read(tmp_path, limited):
    path = tmp_path / "agg-00.bp"
    with Archive(path, "full") as archive:
        archive.append(block(0, N_FRAMES))
        archive.append(block(1, N_FRAMES))
        with limited((path / "data.0").stat().st_size + 100), pytest.raises(DiskError, match="cannot be written: File"):
            archive.append(block(2, N_FRAMES))
        assert archive.n_frames == 2 * N_FRAMES
    assert len(list(read_archive(path))) == 2
    assert not (path / "profiling.json").exists()


def test_an_archive_that_was_deleted_is_closed_without_an_error(tmp_path):
    path = tmp_path / "frames" / "agg-00.bp"
    archive = Archive(path, "full")
    archive.append(block(0, N_FRAMES))
    shutil.rmtree(path.parent)
    archive.append(block(1, N_FRAMES))
    archive.free()
    assert not path.parent.exists()
