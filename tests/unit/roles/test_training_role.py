"""When a training rank trains, what it publishes, and what it does when its model fails."""

import json
import logging
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from doubles import NullDetector

from ddmd_mpi import config, model
from ddmd_mpi.config.schema import FaultsSection
from ddmd_mpi.errors import ModelError, NothingToLearnError
from ddmd_mpi.faults.heartbeat import Heartbeat
from ddmd_mpi.frames.block import FIELDS, FrameBlock, Hop
from ddmd_mpi.model import Model, ModelWeights, Round
from ddmd_mpi.model.versions import Versions
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.monitor.status import StatusPost
from ddmd_mpi.roles.context import RunInfo
from ddmd_mpi.roles.trainer import Trainer, recorded
from ddmd_mpi.roles.training import Training
from ddmd_mpi.rundir.checkpoints import Part, Store, part_name
from ddmd_mpi.rundir.manifest import Entry, Manifest

pytestmark = pytest.mark.timeout(60)

GOOD = Round(1, 8, 0.5, 0.25, True)
NOT_FINITE = Round(1, 8, float("nan"), float("nan"), False, reason="the loss is not finite")
REFUSED = Round(1, 8, 9.0, 9.0, False, reason="above the limit")


def test_a_round_that_was_cut_short_counts_as_none(tmp_path):
    rounds = [{"round": 1, "samples": 8}, {"round": 2, "error": "ModelError"}, {"round": 3}]
    (tmp_path / "events").mkdir()
    lines = [json.dumps({"name": "train_round", **found}) + "\n" for found in rounds]
    (tmp_path / "events" / "training-0004.jsonl").write_text("".join(lines))
    assert recorded(tmp_path) == (1, 8)


def frames(n):
    """A packed block of `n` frames without contacts."""
    row = {f.name: np.zeros([e if isinstance(e, int) else 3 for e in f.shape], f.dtype) for f in FIELDS}
    row.update(contact_columns=np.zeros(0, "<u2"), order_parameters=np.zeros(0, "<f4"))
    return FrameBlock.from_rows([row] * n, Hop.FEATURES).pack(Hop.FEATURES)


class Inbox:
    """Hands over one block at a time, then ends."""

    def __init__(self, sizes):
        self.sizes, self.ended, self.closed = list(sizes), False, False

    def arrived(self):
        if self.sizes:
            return [frames(self.sizes.pop(0))]
        self.ended = True
        return []

    def close(self):
        self.closed = True


class Outbox:
    """Keeps what it is offered."""

    def __init__(self):
        self.offered, self.flushed = [], False
        self.writer = SimpleNamespace(close=lambda: None, nbytes=0, n_written=0)

    def offer(self, payload):
        self.offered.append(ModelWeights.unpack(payload))

    def pump(self):
        pass

    def flush(self, stop):
        self.flushed = True


class Plane:
    """A control plane that nobody listens to."""

    announcements = SimpleNamespace(put=lambda rank, said: None)

    def progress(self):
        pass


class Comm:
    """A communicator in which the other ranks' summed answers are always `others`, and `failed` of them no model."""

    def __init__(self, size=1, others=(0, 0, 0, 0), failed=0):
        self.size, self.others, self.failed = size, np.array(others, float), failed

    def Dup(self):  # noqa: N802
        return Votes(self.size, (self.failed,))

    def Free(self):  # noqa: N802
        pass

    def Get_size(self):  # noqa: N802
        return self.size

    def Get_rank(self):  # noqa: N802
        return 0

    def Iallreduce(self, mine, sums):  # noqa: N802
        sums[:] = mine + self.others
        if mine[0]:
            sums[0] = self.size  # the others end with me
        return SimpleNamespace(Test=lambda: True)


class Votes(Comm):
    """Where the other ranks' answers are what they are; None for no answer yet."""

    def Iallreduce(self, mine, sums):  # noqa: N802
        sums[:] = mine + self.others
        return SimpleNamespace(Test=lambda: not np.isnan(self.others).any())


class Fake(Model):
    """Rounds come from a list: results to return and errors to raise; remembers the windows."""

    n_latent, architecture = 2, {"model": "fake"}

    def __init__(self, results=()):
        self.results, self.windows, self.freed = list(results), [], False

    def train(self, block, supervisor):
        self.windows.append(len(block))
        result = self.results.pop(0) if self.results else GOOD
        if isinstance(result, Exception):
            raise result
        return result

    def embed(self, block):
        raise NotImplementedError

    def weights(self):
        return [np.full(2, len(self.windows), np.float32)]

    def load(self, arrays):
        raise NotImplementedError

    def free(self):
        self.freed = True


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Plays the role on blocks of these sizes: the role after its end."""

    def play(sizes, *settings, fake=None, comm=None, rank=2, left_s=100.0, resumed=None):
        fake = Fake() if fake is None else fake

        def create(setup):
            if isinstance(fake, Exception):
                raise fake
            return fake

        monkeypatch.setattr(model, "create", create)
        events = EventLog(tmp_path / "events.jsonl", "training", rank)
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        inlet, outbox = Inbox(sizes), Outbox()
        status = StatusPost(lambda record: None, events)
        context = SimpleNamespace(
            config=config.load("bba-go", assignments=("training.model=pca", "training.first_frames=10", *settings)),
            info=RunInfo(
                directory=tmp_path, started=0.0, n_atoms=3, n_residues=3, order_parameters=(), resumed=resumed
            ),
            rank=rank,
            threads=1,
            gpu=None,
            role="training",
            plane=Plane(),
            store=Store(tmp_path),
            control=SimpleNamespace(checkpoint=0, poll=lambda: left_s <= 0, over=left_s <= 0, overdue=False),
            should_give_up=lambda: False,
            stop_on_disk_error=nullcontext,
            layout=SimpleNamespace(ranks=lambda role: [2, 3]),
            comm=comm or Comm(),
            events=events,
            status=status,
            heartbeat=Heartbeat(status, NullDetector(), FaultsSection()),
            log=logging.getLogger("ddmd_mpi"),
            streams=SimpleNamespace(inboxes=lambda kind: [inlet], outboxes=lambda kind: [outbox] if rank == 2 else []),
        )
        role = Training(context)
        with events:
            role.run()
        assert inlet.closed
        return role

    return play


def versions(path):
    return sorted(int(p.name[1:]) for p in (path / "models").glob("v*"))


@pytest.mark.parametrize(("settings", "windows"), [
    (("training.retrain_growth=1.5",), [10, 15, 23, 35]),
    (("training.retrain_growth=2",), [10, 20, 40]),
    (("training.retrain_growth=2", "training.retrain_frames=7"), [10, 17, 24, 31, 38]),
    (("training.retrain_growth=1.2", "training.retrain_frames=30"), [10, 12, 15, 18, 22, 27, 33, 40]),
    (("training.first_frames=41",), []),
    (("training.retrain_growth=1.5", "training.window_frames=12"), [10, 12, 12, 12, 12, 12]),
])  # fmt: skip
def test_a_round_begins_when_the_window_has_grown(play, settings, windows):
    """40 frames come one by one; a full window counts the frames that have gone through it."""
    role = play([1] * 40, *settings)
    assert role.trainer.model.windows == windows
    assert role.trainer.rounds == role.trainer.versions.newest == len(windows)


def test_frames_that_come_in_large_blocks_make_one_round(play):
    assert play([4, 30, 3, 3]).trainer.model.windows == [34]


def test_a_rank_that_waits_for_frames_leaves_the_core_to_others(play, monkeypatch):
    """One that trains alone always agrees with itself at once: between two looks it sleeps all the same."""
    slept = []
    monkeypatch.setattr("ddmd_mpi.roles.training.time.sleep", slept.append)
    role = play([1] * 12, "training.retrain_growth=2")
    assert role.trainer.model.windows == [10]
    assert len(slept) >= 11


@pytest.mark.parametrize(("others", "windows"), [
    ((0, 8, 8, 0), [2]),  # the ranks' fresh frames count together; here the other rank's never grow less
    ((0, 0, 8, 0), [10]),
    ((1, 8, 8, 0), [2]),  # the walkers of a rank have come to their end: it goes on with the frames that it has
    ((0, 8, 8, 1), []),  # a rank has no model, or no frames, or no time
])  # fmt: skip
def test_several_ranks_train_when_they_have_enough_together(play, others, windows):
    role = play([1] * 12, "training.retrain_growth=1.5", comm=Comm(2, others))
    assert role.trainer.model.windows[:1] == windows


def test_a_round_is_ended_when_nothing_can_come_of_it(play):
    """Alone when my streams have ended; with others only once the time is up, for theirs may go on."""
    asked = [
        play([1] * 12, comm=Comm(size), left_s=left).between_batches()
        for size, left in ((1, 100.0), (2, 100.0), (2, -1.0))
    ]
    assert asked == [True, False, True]


def test_the_growth_is_that_of_all_ranks(play):
    """With 30 frames on the other rank a growth by half is 20 frames, not 5."""
    role = play([1] * 40, "training.retrain_growth=1.5", comm=Comm(2, (0, 0, 30, 0)))
    assert role.trainer.model.windows == [10, 30]


def test_only_accepted_rounds_are_published(play, tmp_path):
    fake = Fake([GOOD, NOT_FINITE, REFUSED, GOOD])
    role = play([1] * 40, "training.retrain_frames=5", fake=fake)
    assert len(fake.windows) == role.trainer.rounds == 7
    assert versions(tmp_path) == [1, 2, 3, 4, 5]
    offered = role.outboxes[0].offered
    assert [w.version for w in offered] == [1, 2, 3, 4, 5]
    assert [w.arrays[0][0] for w in offered] == [1, 4, 5, 6, 7]
    spans = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    rounds = [s for s in spans if s["name"] == "train_round"]
    assert [s["published"] for s in rounds] == [True, False, False, True, True, True, True]
    assert [s["version"] for s in rounds] == [1, 1, 1, 2, 3, 4, 5]
    assert rounds[1]["loss"] is None
    assert "limit" in rounds[2]["reason"]


def test_a_version_says_what_it_takes_to_open_it(play, tmp_path):
    role = play([1] * 12, "features.cutoff_angstrom=7")
    metadata = ModelWeights.read(tmp_path / "models" / "v000001").metadata
    assert metadata["architecture"] == {"model": "fake"}
    assert metadata["settings"] == role.trainer.settings.plain()
    assert (metadata["n_residues"], metadata["descriptor"], metadata["cutoff_angstrom"]) == (3, ["CA"], 7)
    assert (metadata["samples"], metadata["validation_loss"], metadata["window"]) == (8, 0.25, 10)


def test_one_of_several_ranks_publishes(play, tmp_path):
    role = play([1] * 12, rank=3)
    assert role.trainer.rounds == 1
    assert versions(tmp_path) == []


@pytest.mark.parametrize("error", [ModelError("broken"), NothingToLearnError("all alike")])
def test_a_rank_alone_goes_on_without_a_round_that_failed(play, tmp_path, caplog, monkeypatch, error):
    monkeypatch.setattr(logging.getLogger("ddmd_mpi"), "propagate", True)
    role = play([1] * 40, "training.retrain_growth=2", fake=Fake([error, error]))
    assert role.trainer.model.windows == [10, 20, 40]
    assert (role.trainer.rounds, versions(tmp_path)) == (1, [1])
    assert f"the run continues without a new model: {error}" in caplog.text
    assert role.trainer.model.freed
    assert role.outboxes[0].flushed


def test_a_version_that_the_disk_refuses_steers_nobody_and_the_run_goes_on(play, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ddmd_mpi"), "propagate", True)
    (tmp_path / "models").write_text("in the way")
    role = play([1] * 12)
    assert (role.trainer.rounds, role.outboxes[0].offered) == (1, [])
    assert "the run continues with model version 0: cannot write model version 1" in caplog.text


def test_weights_that_cannot_be_had_are_a_round_that_failed(play, tmp_path):
    fake = Fake()
    fake.weights = lambda: (_ for _ in ()).throw(ModelError("its weights are not finite"))
    assert play([1] * 12, fake=fake).trainer.rounds == 0
    assert versions(tmp_path) == []


def test_where_others_wait_a_rank_goes_on_from_what_all_have_found_only(play):
    with pytest.raises(ModelError, match="broken"):
        play([1] * 12, fake=Fake([ModelError("broken")]), comm=Comm(2))
    role = play([1] * 12, fake=Fake([NothingToLearnError("all alike")]), comm=Comm(2))
    assert (role.trainer.model.windows, role.trainer.rounds) == ([10], 0)


def test_a_model_that_cannot_be_made(play, tmp_path):
    role = play([1] * 12, fake=ModelError("no GPU"))
    assert (role.trainer.model, role.trainer.rounds, len(role.trainer.window)) == (None, 0, 12)


@pytest.mark.parametrize(("failed", "goes_on"), [(1, True), (0, False), (np.nan, False)])
def test_a_model_that_cannot_be_made_where_several_train(play, monkeypatch, failed, goes_on):
    """The run goes on if the other rank has none either, and not if it has one or is not heard of."""
    monkeypatch.setattr("ddmd_mpi.roles.trainer.VOTE_SECONDS", 0.02)
    comm = Comm(2, failed=failed)
    if goes_on:
        assert play([1] * 12, fake=ModelError("no GPU"), comm=comm).trainer.model is None
    else:
        with pytest.raises(ModelError, match="no GPU"):
            play([1] * 12, fake=ModelError("no GPU"), comm=comm)


def test_a_round_drains_the_streams_and_ends_with_them(play):
    class Patient(Fake):
        """Trains until it is asked to stop."""

        def train(self, block, supervisor):
            self.asked = [supervisor.between_batches() for _ in range(4)]
            return super().train(block, supervisor)

    fake = Patient()
    role = play([10, 5, 5], fake=fake)
    assert fake.asked == [False, False, True, True]
    assert (len(role.trainer.window), fake.windows) == (20, [10])


@pytest.mark.parametrize(("keep", "kept"), [
    (1, [6]), (2, [3, 6]), (3, [3, 5, 6]), (4, [2, 3, 5, 6]), (6, [1, 2, 3, 4, 5, 6]), ("all", [1, 2, 3, 4, 5, 6]),
])  # fmt: skip
def test_the_newest_version_and_the_best_are_kept(tmp_path, keep, kept):
    saved = Versions(tmp_path / "models", keep)
    for version, loss in enumerate((5.0, 3.0, 1.0, 4.0, 2.0, 9.0), 1):
        saved.save(ModelWeights(version, [np.zeros(1)], {"validation_loss": loss}))
        assert version in versions(tmp_path)
    assert versions(tmp_path) == kept
    assert saved.newest == 6


@pytest.mark.parametrize(("known", "version"), [(2, 1.0), (1, 2.0)])
def test_a_model_goes_on_from_the_newest_version_where_the_checkpoint_is_older(play, tmp_path, known, version):
    """State 1 is that of the checkpoint, weights 2 were published last."""
    for number in (1, 2):
        metadata = {"created": 0.0, "validation_loss": 1.0}
        ModelWeights(number, [np.full(1, 2.0)], metadata).save(tmp_path / "models")
    versions = Versions(tmp_path / "models", 9)
    model, role = Fake(), SimpleNamespace(state=[np.full(1, 1.0)], version=known, versions=versions)
    model.restore = model.load = lambda arrays: setattr(role, "taken", float(arrays[0][0]))
    info = SimpleNamespace(resumed=True, directory=tmp_path)
    role.context = SimpleNamespace(info=info, log=logging.getLogger("ddmd_mpi"))
    Trainer.restore(role, model)
    assert role.taken == version


@pytest.mark.parametrize(
    ("events", "rank", "expected"),
    [
        (("training-0002", "training-0003"), 2, (4, 80)),
        ((), 2, (4, 8)),
        (("training-0002", "training-0003"), 3, (4, 0)),
    ],
)
def test_rounds_that_are_younger_than_the_checkpoint_are_found_again(play, tmp_path, events, rank, expected):
    """By the events of all ranks, else by the newest version of the model, the fourth and last."""
    first = play([1] * 40, "training.retrain_growth=1.5")
    assert (first.trainer.rounds, versions(tmp_path)) == (4, [1, 2, 3, 4])
    (tmp_path / "events").mkdir()
    span = {"name": "train_round", "samples": 10}
    for name in events:
        lines = [*({**span, "round": i} for i in (1, 2, 3, 4)), {**span, "round": 9, "error": "NaN"}]
        (tmp_path / "events" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    entries = []
    for other in (2, 3):
        part = Part({"rounds": 1, "samples": 4, "n_arrays": 0, "version": 4})
        nbytes, digest = Store(tmp_path).write_part("training", other, 9, part)
        entries.append(Entry(part_name("training", other, 9), "training", other, nbytes, digest.hex()))
    role = play([], rank=rank, resumed=Manifest(9, 0, {}, {}, 1.0, tuple(entries)))
    assert (role.trainer.rounds, role.trainer.samples) == expected
