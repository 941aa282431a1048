"""The archive of blocks."""

import adios2
import numpy as np
import pytest

from ddmd_mpi.errors import StreamError
from ddmd_mpi.frames import FIELDS, Extents, FrameBlock, Hop, column_shape
from ddmd_mpi.streams.archive import Archive, read_archive

LARGE = np.iinfo(np.int16).max


def block(seed, n_frames, n_contacts=7):
    rng = np.random.default_rng(seed)
    extents = Extents(n_frames, atoms=5, residues=4, order_parameters=2, contacts=n_contacts)
    columns = {f.name: rng.integers(0, LARGE, column_shape(f, extents)).astype(f.dtype) for f in FIELDS}
    return FrameBlock(columns)


def assert_equal(got, expected, names):
    assert set(got.columns) == set(names)
    for name in names:
        assert got[name].dtype == expected[name].dtype
        assert np.array_equal(got[name], expected[name]), name


ALL = [f.name for f in FIELDS]
FEATURES = [f.name for f in FIELDS if Hop.FEATURES in f.hops]


@pytest.mark.parametrize(("level", "names"), [("full", ALL), ("features", FEATURES)])
def test_blocks_come_back_while_the_archive_grows_and_after(tmp_path, level, names):
    path, blocks = tmp_path / "frames" / "agg-00.bp", [block(1, 3), block(2, 8, n_contacts=0), block(3, 1)]
    with Archive(path, level) as archive:
        archive.append(blocks[0])
        archive.append(blocks[1])
        growing = list(read_archive(path))
        assert len(growing) == 2
        for got, expected in zip(growing, blocks, strict=False):
            assert_equal(got, expected, names)
        archive.append(blocks[2])
        assert archive.n_frames == 12
    for got, expected in zip(read_archive(path), blocks, strict=True):
        assert_equal(got, expected, names)


def test_an_archive_that_exists_goes_on(tmp_path):
    for seed in (1, 2):
        with Archive(tmp_path / "agg-00.bp", "full") as archive:
            archive.append(block(seed, 2))
    for seed, got in enumerate(read_archive(tmp_path / "agg-00.bp"), 1):
        assert_equal(got, block(seed, 2), ALL)
    assert seed == 2


def test_the_variables_carry_their_units(tmp_path):
    with Archive(tmp_path / "agg-00.bp", "full") as archive:
        archive.append(block(1, 2))
    with adios2.FileReader(str(tmp_path / "agg-00.bp")) as file:
        assert file.read_attribute("positions/unit") == "nm"
        assert file.read_attribute("rmsd/unit") == "angstrom"
        assert "superposed" in file.read_attribute("rmsd/meaning")


def test_an_archive_that_is_not_there_or_cannot_be_is_one_sentence(tmp_path):
    with pytest.raises(StreamError, match="there is no archive"):
        next(read_archive(tmp_path / "agg-00.bp"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StreamError, match="cannot be created"):
        Archive(tmp_path / "file" / "agg-00.bp", "full")


def test_an_archive_without_a_block_has_none(tmp_path):
    with Archive(tmp_path / "agg-00.bp", "full"):
        pass
    assert list(read_archive(tmp_path / "agg-00.bp")) == []
