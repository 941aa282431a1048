"""Archives of earlier sessions: counted, and looked through for single frames."""

import numpy as np
import pytest
from blocks import ATOMS, block

from ddmd_mpi.errors import StreamError
from ddmd_mpi.frames.block import FIELD, Hop
from ddmd_mpi.streams.adios2_engine import PROFILES
from ddmd_mpi.streams.archive import Archive, archives, count_frames, find_frames, read_archive


def write(path, *blocks, level="full"):
    with Archive(path, level) as archive:
        for one in blocks:
            archive.append(one)
    return path


def test_the_archives_of_the_newest_session_come_first(tmp_path):
    for name in ("agg-00.bp", "agg-01.bp", "agg-00.0002.bp", "agg-00.0010.bp", "notes.bp", "agg-x.bp"):
        (tmp_path / "frames" / name).mkdir(parents=True)
    found = ["agg-00.0010.bp", "agg-00.0002.bp", "agg-01.bp", "agg-00.bp"]
    assert [path.name for path in archives(tmp_path, 11)] == found
    assert [path.name for path in archives(tmp_path, 10)] == found[1:], "one that another aggregator has just begun"


def test_frames_are_counted_block_by_block(tmp_path):
    assert list(count_frames(write(tmp_path / "agg-00.bp", block(0, 3), block(1, 5)))) == [3, 5]
    assert list(count_frames(write(tmp_path / "agg-01.bp"))) == []


def test_an_archive_of_before_walkers_had_their_name_is_read(tmp_path, monkeypatch):
    class Former(Archive):
        def _put(self, name, column):
            super()._put("simulation" if name == "walker" else name, column)

    monkeypatch.setitem(FIELD, "simulation", FIELD["walker"])
    with Former(tmp_path / "agg-00.bp", "full") as archive:
        archive.append(block(4, 3))
    monkeypatch.delitem(FIELD, "simulation")
    assert [b["walker"].tolist() for b in read_archive(tmp_path / "agg-00.bp")] == [[4, 4, 4]]
    assert [f.walker for of_block in find_frames(tmp_path / "agg-00.bp", {(4, 1)}) for f in of_block] == [4]


def test_the_frames_that_are_wanted_come_with_their_coordinates(tmp_path):
    blocks = [block(0, 3), block(1, 3), block(0, 4, first=3)]
    path = write(tmp_path / "agg-00.bp", *blocks)
    wanted = {(0, 1), (0, 5), (1, 0), (7, 0)}
    found = {(f.walker, f.frame): f for of_block in find_frames(path, wanted) for f in of_block}
    assert set(found) == {(0, 1), (0, 5), (1, 0)}
    for key, expected, row in (((0, 1), blocks[0], 1), ((0, 5), blocks[2], 2), ((1, 0), blocks[1], 0)):
        assert found[key].topology == expected["topology"][row]
        for name in ("positions", "velocities", "box"):
            np.testing.assert_array_equal(getattr(found[key], name), expected[name][row])
        assert found[key].positions.shape == (ATOMS, 3)


def test_an_archive_of_features_has_no_coordinates(tmp_path):
    features = block(0, 3).on(
        Hop.FEATURES, aggregator=np.zeros(3, "<i4"), ring_slot=np.zeros(3, "<i4"), slot_generation=np.zeros(3, "<i8")
    )
    assert list(find_frames(write(tmp_path / "agg-00.bp", features, level="features"), {(0, 1)})) == []


def test_a_look_leaves_nothing_behind(tmp_path):
    path = write(tmp_path / f"agg-{tmp_path.name}.bp", block(0, 3))
    assert list(count_frames(path)) == [3]
    assert not list(PROFILES.glob(f"{path.name}*"))


def test_what_cannot_be_read_is_a_sentence(tmp_path):
    path = write(tmp_path / "agg-00.bp", block(0, 3))
    (path / "md.idx").write_bytes(b"no index of BP5 at all" * 20)
    with pytest.raises(StreamError, match=r"agg-00\.bp"):
        list(count_frames(path))
