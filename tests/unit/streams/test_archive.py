"""The archive of blocks."""

import adios2
import numpy as np
import pytest

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.errors import StreamError
from ddmd_mpi.frames.block import FIELDS, Extents, FrameBlock, Hop, column_shape
from ddmd_mpi.streams.archive import Archive, read_archive

LARGE = np.iinfo(np.int16).max


def block(seed, n_frames, n_contacts=7):
    rng = np.random.default_rng(seed)
    extents = Extents(n_frames, atoms=5, residues=4, order_parameters=2, contacts=n_contacts)
    columns = {f.name: rng.integers(0, LARGE, column_shape(f, extents)).astype(f.dtype) for f in FIELDS}
    counts = np.zeros((n_frames, 4), "<u2")
    counts[0, 0] = n_contacts
    columns |= {"contact_counts": counts, "contact_columns": columns["contact_columns"] % 4}
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
    (tmp_path / "empty.bp").mkdir()
    with pytest.raises(StreamError, match=r"empty\.bp"):
        next(read_archive(tmp_path / "empty.bp"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StreamError, match="cannot be created"):
        Archive(tmp_path / "file" / "agg-00.bp", "full")


def written(path, **columns):
    """A BP5 file of these arrays, by somebody else."""
    with adios2.Stream(str(path), "w") as file:
        file.begin_step()
        for name, (array, shape) in columns.items():
            file.write(name, array, list(shape), [0] * array.ndim, list(array.shape))
        file.end_step()


def test_a_file_that_is_no_archive_or_announces_what_is_not_there_is_refused(tmp_path):
    good = {f: (a, a.shape) for f, a in block(1, 2).columns.items()}
    n = 10**9
    absurd = {
        name: (array, shape if name == "contact_columns" else (n, *shape[1:])) for name, (array, shape) in good.items()
    }
    for number, (columns, words) in enumerate(
        (
            (good, None),
            (absurd, "which the file does not have"),
            ({"rmsd": good["rmsd"]}, "its walker is"),
            ({**good, "rmsd": (np.zeros(2), (2,))}, "its rmsd is"),
            ({**good, "frame": (np.zeros(1, "<i8"), (1,))}, "its frame is"),
            ({**good, "contact_columns": (np.full(7, 4, "<u2"), (7,))}, "contacts"),
        )
    ):
        path = tmp_path / f"{number}.bp"
        written(path, **columns)
        if words is None:
            assert_equal(next(read_archive(path)), block(1, 2), ALL)
            continue
        with pytest.raises(StreamError, match=words):
            next(read_archive(path))


def test_a_plug_in_of_adios2_is_not_loaded(tmp_path):
    xml = tmp_path / "adios2.xml"
    for body in (
        '<engine type="Plugin"><parameter key="PluginLibrary" value="evil.so"/></engine>',
        '<engine type="&#80;lugin"/>',
        '<engine type="BP5"/><variable name="rmsd"><operation type="plugin"/></variable>',
    ):
        xml.write_text(f'<adios-config><io name="Archive">{body}</io></adios-config>')
        with pytest.raises(StreamError, match=r"adios2\.xml names a plug-in"):
            Archive(tmp_path / "agg-00.bp", "full", StreamsSection(adios2_xml=xml))
    with pytest.raises(StreamError, match="cannot be read: it is a directory, a pipe or a device"):
        Archive(tmp_path / "agg-00.bp", "full", StreamsSection(adios2_xml="/dev/zero"))


def test_an_archive_without_a_block_has_none(tmp_path):
    with Archive(tmp_path / "agg-00.bp", "full"):
        pass
    assert list(read_archive(tmp_path / "agg-00.bp")) == []
