"""The table of frames: packing, ragged columns, windows, fixed records."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddmd_mpi.errors import StreamError
from ddmd_mpi.frames.block import FIELDS, Extents, FrameBlock, Hop, column_shape
from ddmd_mpi.frames.command import CommandKind, RestartCommand, from_record, to_record
from ddmd_mpi.frames.window import FrameWindow


def random_block(n_frames, n_atoms, n_residues, hop, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (n_frames, n_residues)).astype(np.uint16)
    extents = Extents(n_frames, n_atoms, n_residues, 2, int(counts.sum()))
    columns = {}
    for row in FIELDS:
        if hop in row.hops:
            values = rng.integers(0, n_residues if "contacts" in row.shape else 30_000, column_shape(row, extents))
            columns[row.name] = values.astype(row.dtype)
    columns["contact_counts"] = counts
    return FrameBlock(columns)


def assert_same(a, b):
    assert a.columns.keys() == b.columns.keys()
    for name in a.columns:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 7), st.sampled_from(list(Hop)), st.integers(0, 99))
def test_packed_blocks_come_back(n_frames, n_atoms, n_residues, hop, seed):
    block = random_block(n_frames, n_atoms, n_residues, hop, seed)
    assert_same(FrameBlock.unpack(block.pack(hop)), block)


def test_coordinates_do_not_travel_on_the_features_hop():
    block = random_block(3, 500, 28, Hop.COORDINATES)
    slots = {"aggregator": np.zeros(3, "<i4"), "ring_slot": np.zeros(3, "<i4"), "slot_generation": np.ones(3, "<i8")}
    features = FrameBlock.unpack(block.on(Hop.FEATURES, **slots).pack(Hop.FEATURES))
    assert "positions" not in features
    assert features.nbytes < block.nbytes / 20


@pytest.mark.parametrize("broken", [b"", b"\0" * 200, b"x" * 71])
def test_foreign_buffers_are_refused(broken):
    with pytest.raises(StreamError, match="not a packed block"):
        FrameBlock.unpack(np.frombuffer(broken, np.uint8))


def test_truncated_buffers_are_refused():
    packed = random_block(2, 3, 4, Hop.COORDINATES).pack(Hop.COORDINATES)
    with pytest.raises(StreamError, match="expected"):
        FrameBlock.unpack(packed[:-8])


def test_take_follows_the_ragged_contacts():
    block = random_block(6, 3, 5, Hop.COORDINATES)
    picked = block.take(np.array([4, 0, 4]))
    offsets = block.contact_offsets
    expected = [block["contact_columns"][offsets[i] : offsets[i + 1]] for i in (4, 0, 4)]
    np.testing.assert_array_equal(picked["contact_columns"], np.concatenate(expected))
    np.testing.assert_array_equal(picked["frame"], block["frame"][[4, 0, 4]])
    assert len(block.take(np.zeros(6, bool))) == 0


def test_a_window_keeps_the_newest_frames():
    blocks = [random_block(n, 2, 3, Hop.FEATURES, seed=n) for n in (4, 3, 5, 1)]
    window = FrameWindow(capacity=7)
    for block in blocks:
        window.append(block)
        assert len(window) <= 7
    everything = FrameBlock.concatenate(blocks)
    assert_same(window.block(), everything.take(np.arange(len(everything) - 7, len(everything))))


def test_from_rows_is_the_inverse_of_taking_rows():
    block = random_block(4, 3, 5, Hop.COORDINATES)
    rows = []
    for i in range(4):
        one = block.take(np.array([i]))
        rows.append({n: one[n] if n == "contact_columns" else one[n][0] for n in one.columns})
    assert_same(FrameBlock.from_rows(rows, Hop.COORDINATES), block)


def test_commands_survive_their_record():
    command = RestartCommand(CommandKind.RESTART, 7, 1.5, 3, 0, 1, 2, 3, 0, 9, 2**40, 12345)
    assert from_record(RestartCommand, to_record(command)) == command


def test_a_full_window_takes_blocks_without_touching_what_it_holds(monkeypatch):
    """Surplus frames are cut off when the window is asked for, not at every block."""
    blocks = [random_block(n, 0, 6, Hop.FEATURES, seed) for seed, n in enumerate((7, 1, 4, 9, 2))]
    window = FrameWindow(10)
    window.append(blocks[0])
    window.block()
    monkeypatch.setattr(FrameBlock, "take", None)
    monkeypatch.setattr(FrameBlock, "concatenate", None)
    for block in blocks[1:]:
        window.append(block)
    assert len(window) == 10
    monkeypatch.undo()
    everything = FrameBlock.concatenate(blocks).take(np.arange(23)[-10:])
    for name, column in everything.columns.items():
        np.testing.assert_array_equal(window.block()[name], column, err_msg=name)


def test_a_window_that_is_asked_for_now_and_then_holds_what_concatenation_would():
    """Whatever comes between: a few frames, or more than the window holds."""
    generator, window, everything = np.random.default_rng(1), FrameWindow(11), []
    for seed, n in enumerate(generator.integers(1, 9, 40)):
        everything.append(random_block(int(n), 0, 6, Hop.FEATURES, seed))
        window.append(everything[-1])
        if generator.random() < 0.5:
            whole = FrameBlock.concatenate(everything)
            expected = whole.take(np.arange(len(whole))[-11:])
            assert len(window) == len(expected)
            assert_same(window.block(), expected)
            assert_same(window.block(), expected)
            assert window.nbytes == expected.nbytes


def test_a_window_takes_more_contacts_than_its_memory_was_made_for():
    few, many = (random_block(n, 0, 6, Hop.FEATURES, seed) for seed, n in ((1, 6), (2, 5)))
    few = FrameBlock(
        {
            **few.columns,
            "contact_counts": np.zeros_like(few["contact_counts"]),
            "contact_columns": few["contact_columns"][:0],
        }
    )
    window = FrameWindow(8)
    for block in (few, many):
        window.append(block)
        window.block()
    assert len(many["contact_columns"])
    expected = FrameBlock.concatenate([few, many]).take(np.arange(3, 11))
    assert_same(window.block(), expected)


def test_frames_that_come_while_a_window_is_looked_at_leave_it_alone():
    blocks = [random_block(4, 0, 6, Hop.FEATURES, seed) for seed in range(3)]
    window = FrameWindow(6)
    window.append(blocks[0])
    shown = window.block()
    before = shown["contact_columns"].copy(), shown["walker"].copy()
    for block in blocks[1:]:
        window.append(block)
    np.testing.assert_array_equal(shown["contact_columns"], before[0])
    np.testing.assert_array_equal(shown["walker"], before[1])


def test_a_copy_of_a_window_leaves_what_is_looked_at_alone():
    window, everything = FrameWindow(9), []
    for seed, n in enumerate((4, 5, 3)):
        everything.append(random_block(n, 2, 3, Hop.FEATURES, seed=seed))
        window.append(everything[-1])
        assert_same(window.copy(), FrameBlock.concatenate(everything).after(max(0, sum(map(len, everything)) - 9)))
        if seed == 1:
            looked_at = window.block()
    assert_same(looked_at, FrameBlock.concatenate(everything[:2]))
    assert_same(window.block(), FrameBlock.concatenate(everything).after(3))


def test_rows_of_different_topologies_make_blocks_of_one_each():
    def row(topology, n_atoms, frame):
        return {
            f.name: np.zeros(
                [
                    {"atoms": n_atoms, "residues": 2, "contacts": 0}.get(n, n) if n != "order_parameters" else 1
                    for n in f.shape
                ]
            )
            for f in FIELDS
        } | {"topology": topology, "frame": frame}

    rows = [row(2, 5, 0), row(0, 3, 1), row(2, 5, 2)]
    blocks = FrameBlock.by_topology(rows, Hop.COORDINATES)
    assert [(b["topology"].tolist(), b["frame"].tolist(), b["positions"].shape) for b in blocks] == [
        ([2, 2], [0, 2], (2, 5, 3)),
        ([0], [1], (1, 3, 3)),
    ]
    features = FrameBlock.concatenate(
        [
            b.on(
                Hop.FEATURES, aggregator=np.zeros(len(b)), ring_slot=np.zeros(len(b)), slot_generation=np.zeros(len(b))
            )
            for b in blocks
        ]
    )
    assert features["frame"].tolist() == [0, 2, 1]
