"""Coordinates of earlier sessions: back in the rings where inference looks for them, on any number of aggregators."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from blocks import ATOMS, block
from mpi4py import MPI

from ddmd_mpi.frames.block import FrameBlock, Hop
from ddmd_mpi.layout.memory import slot_nbytes
from ddmd_mpi.parallel.ring import CoordinateRing
from ddmd_mpi.roles.context import RunInfo
from ddmd_mpi.roles.restore_ring import KEYS, assign_slots, count_archived, drop_missing, newest_of_each, places, refill
from ddmd_mpi.rundir.checkpoints import Part, Store, part_name
from ddmd_mpi.rundir.manifest import Entry, Manifest
from ddmd_mpi.streams.archive import Archive, archive_name

SLOTS = 4


@pytest.fixture
def make_ring():
    """``make_ring(walkers)`` is the ring of the one aggregator that has these walkers, `SLOTS` frames for each."""
    made = []

    def ring(walkers):
        made.append(CoordinateRing(MPI.COMM_SELF, [0], [walkers], ATOMS, SLOTS * len(walkers) * slot_nbytes(ATOMS)))
        return made[-1]

    yield ring
    for one in made:
        one.free()


def known(walker, n_frames, first=0):
    """Frames of topology 0."""
    made = block(walker, n_frames, first)
    return FrameBlock({**made.columns, "topology": np.zeros(n_frames, "<i4")})


def features(frames):
    none = np.zeros(len(frames), "<i8")
    return frames.on(Hop.FEATURES, aggregator=none.astype("<i4"), ring_slot=none.astype("<i4"), slot_generation=none)


@pytest.fixture
def session(tmp_path):
    """``session(window, ring, walkers)`` is an aggregator that goes on from a checkpoint with this window."""
    (tmp_path / "checkpoints").mkdir()
    store, log = Store(tmp_path), logging.getLogger("ddmd_mpi.test")
    log.propagate = True

    def context(window, ring, walkers, archived=(), names=KEYS):
        entries = []
        for role, part in (
            ("inference", Part({}, {name: window[key] for name, key in zip(names, KEYS, strict=True)})),
            ("aggregation", Part({"archived": dict(archived)})),
        ):
            nbytes, digest = store.write_part(role, 3, 1, part)
            entries.append(Entry(part_name(role, 3, 1), role, 3, nbytes, digest.hex()))
        info = RunInfo(
            directory=tmp_path,
            started=0.0,
            n_atoms=ATOMS,
            n_residues=1,
            order_parameters=(),
            session=9,
            resumed=Manifest(1, 0, {}, {}, 1.0, tuple(entries)),
        )
        plane = SimpleNamespace(ring=ring, progress=lambda: None)
        return SimpleNamespace(
            info=info,
            store=store,
            plane=plane,
            rank=0,
            log=log,
            heartbeat=lambda: None,
            layout=SimpleNamespace(walkers_of=lambda rank: walkers),
        )

    return context


def confirmed(marked, filled):
    """The window, once the only aggregator has told which frames it has found."""
    return drop_missing(marked, set(places(marked)), {0: filled})


def archive(directory, aggregator, session, *blocks):
    path = directory / "frames" / archive_name(aggregator, session)
    with Archive(path, "full") as file:
        for one in blocks:
            file.append(one)
    return path


def test_the_newest_frames_of_each_walker_have_their_turn():
    simulation, frame = np.array([0, 1, 0, 0, 1, 0]), np.array([3, 8, 5, 4, 2, 6])
    assert newest_of_each(simulation, frame, 3) == {(0, 4): 0, (0, 5): 1, (0, 6): 2, (1, 2): 0, (1, 8): 1}


def test_frames_of_other_aggregators_and_sessions_are_where_inference_looks(tmp_path, make_ring, session):
    """Before, walkers 0 and 2 had an aggregator each; now one has both, and walker 5, which is not in the window."""
    frames = {0: known(0, 6), 2: known(2, 3)}
    archive(tmp_path, 0, 0, frames[0].take(np.arange(3)), known(5, 3))
    archive(tmp_path, 0, 1, frames[0].take(np.arange(3, 6)))
    archive(tmp_path, 1, 1, frames[2])
    ring, window = make_ring([0, 2, 5]), FrameBlock.concatenate([features(frames[0]), features(frames[2])])
    filled = refill(session(window, ring, [0, 2, 5]))
    assert len(filled) == SLOTS + 3
    marked = confirmed(assign_slots(window, ring), filled)
    assert (marked["slot_generation"] > 0).tolist() == [False, False, True, True, True, True, True, True, True]
    for i in range(2, 9):
        walker, row = int(marked["walker"][i]), int(marked["frame"][i])
        place = (int(marked[name][i]) for name in ("aggregator", "ring_slot", "slot_generation"))
        for found, name in zip(ring.fetch(*place), ("positions", "velocities", "box"), strict=True):
            np.testing.assert_array_equal(found, frames[walker][name][row])


def test_a_checkpoint_of_before_walkers_had_their_name_is_read(tmp_path, make_ring, session):
    frames = known(0, 3)
    archive(tmp_path, 0, 0, frames)
    assert len(refill(session(features(frames), make_ring([0]), [0], names=("simulation", "frame")))) == 3


def test_the_next_frames_take_the_places_of_the_oldest(tmp_path, make_ring, session):
    frames, ring = known(0, 3), make_ring([0])
    archive(tmp_path, 0, 0, frames)
    window = features(frames)
    filled = refill(session(window, ring, [0]))
    marked = assign_slots(window, ring)
    stored = [
        ring.store(0, *(np.full(shape, x, np.float32) for shape in ((ATOMS, 3), (ATOMS, 3), (3, 3)))) for x in (1, 2)
    ]
    assert stored == [(3, 1), (0, 2)]
    new = known(0, 1, 3)
    new = new.on(
        Hop.FEATURES, aggregator=np.zeros(1, "<i4"), ring_slot=np.array([0], "<i4"), slot_generation=np.array([2])
    )
    window = FrameBlock.concatenate([marked, new])
    assert (drop_missing(window, set(places(marked)), {0: filled})["slot_generation"] > 0).tolist() == [
        False,
        True,
        True,
        True,
    ], "the place of the first frame has another one by now; the new frame has its own"


def test_without_word_of_an_aggregator_its_frames_are_no_restart_points(tmp_path, make_ring, session):
    window = features(known(0, 3))
    marked = assign_slots(window, make_ring([0]))
    assert not (drop_missing(marked, set(places(marked)), {})["slot_generation"] > 0).any()


def test_a_frame_that_no_archive_has_is_no_restart_point(tmp_path, make_ring, session, caplog):
    """Frame 2 was lost with a kill, and the frames of walker 1 are of a topology that the run does not have."""
    frames, strange = known(0, 4), FrameBlock({**known(1, 2).columns, "topology": np.full(2, 9, "<i4")})
    archive(tmp_path, 0, 0, frames.take(np.array([0, 1, 3])), strange)
    ring, window = make_ring([0, 1]), FrameBlock.concatenate([features(frames), features(strange)])
    marked = confirmed(assign_slots(window, ring), refill(session(window, ring, [0, 1])))
    assert (marked["slot_generation"] > 0).tolist() == [True, True, False, True, False, False]


def test_damaged_archives_are_named_and_the_others_counted(tmp_path, session, make_ring, caplog):
    frames = known(0, 4)
    archive(tmp_path, 0, 0, frames, known(1, 2))
    bad = archive(tmp_path, 0, 1, frames)
    (bad / "md.idx").write_bytes(b"no index of BP5 at all" * 20)
    context = session(features(frames), make_ring([0]), [0])
    with caplog.at_level("WARNING"):
        assert count_archived(context, 0, 1) == {"agg-00.bp": 6, "agg-00.0001.bp": 0}
        assert len(refill(context)) == 4
    assert caplog.text.count("agg-00.0001.bp") == 2


def test_archives_are_shared_and_what_the_checkpoint_has_of_them_is_not_counted_again(tmp_path, session, make_ring):
    for session_number, n_frames in ((0, 2), (1, 3), (2, 4)):
        archive(tmp_path, 0, session_number, known(0, n_frames))
    context = session(features(known(0, 2)), make_ring([0]), [0], {"agg-00.bp": 77})
    shares = [count_archived(context, share, 2) for share in (0, 1)]
    assert shares == [{"agg-00.0002.bp": 4, "agg-00.bp": 77}, {"agg-00.0001.bp": 3}]
