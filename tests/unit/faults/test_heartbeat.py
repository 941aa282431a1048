"""The heartbeat: what it promises, and that nothing but it beats the watchdog and looks who is lost."""

from types import SimpleNamespace

import pytest
from doubles import NullDetector

from ddmd_mpi.config.schema import FaultsSection
from ddmd_mpi.faults import heartbeat as module
from ddmd_mpi.faults.heartbeat import Heartbeat
from ddmd_mpi.monitor import status
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.monitor.status import Activity, StatusPost
from ddmd_mpi.roles.context import Context


class Rank:
    """A rank that promises 40 s, or 900 s for what takes long; its clock, its posts and its checks."""

    def __init__(self):
        self.now, self.promised, self.checked, self.posted = 1000.0, [], [], []
        self.status = StatusPost(self.post, EventLog(None, "training", 0))
        self.heartbeat = Heartbeat(self.status, self, FaultsSection(hang_after=40.0, start_within=900.0))

    def post(self, record):
        self.promised.append(float(record["within"]))
        self.posted.append(record.copy())

    def check(self, within, on_disk=False):
        self.checked.append((within, on_disk))


@pytest.fixture
def rank(monkeypatch):
    monkeypatch.setattr(status, "monotonic", lambda: made.now if made else 1000.0)
    monkeypatch.setattr(module, "monotonic", lambda: made.now if made else 1000.0)
    made = None
    made = Rank()
    return made


def test_a_record_that_is_posted_is_no_heartbeat(rank):
    rank.status.update(now=True, frames=1)
    assert len(rank.posted) == 1
    assert rank.checked == []


def test_a_loop_beats_twice_a_second_at_most(rank):
    for _ in range(100):
        rank.now += 0.1
        rank.heartbeat()
    assert 15 < len(rank.checked) == len(rank.posted) <= 20
    assert set(rank.checked) == {(40.0, False)}


def test_a_silence_is_announced_with_its_fields_and_ends(rank):
    with (
        rank.heartbeat.expect_silence("round", activity=Activity.TRAINING),
        rank.heartbeat.expect_silence("checkpoint", on_disk=True),
    ):
        assert rank.posted[-1]["activity"] == Activity.TRAINING
        rank.status.update(now=True)
        assert rank.promised[-1] == 900.0, "whatever is posted in the block bears its promise"
    assert rank.checked == [(900.0, False), (900.0, True), (900.0, False), (40.0, False)]


def test_a_silence_that_fails_is_over(rank):
    with pytest.raises(ValueError, match="no"), rank.heartbeat.expect_silence("load"):
        raise ValueError("no")
    assert rank.heartbeat.promise == 40.0


def test_what_took_long_once_may_take_some_times_as_long_again(rank):
    for seconds, promise in ((20.0, 900.0), (30.0, 100.0), (1.0, 150.0), (1.0, 150.0)):
        with rank.heartbeat.expect_silence("round"):
            assert rank.promised[-1] == promise
            rank.now += seconds
            rank.heartbeat()
            assert rank.promised[-1] == promise
        rank.heartbeat()
        assert rank.promised[-1] == 40.0


def test_only_the_silence_counts(rank):
    """A long round with heartbeats between its batches promises no more than what is usual."""
    rank.now += 500.0
    for _ in range(2):
        with rank.heartbeat.expect_silence("round"):
            for _ in range(1000):
                rank.now += 1.0
                rank.heartbeat()
    assert rank.promised[-1] == 40.0
    with rank.heartbeat.expect_silence("load"):
        assert rank.promised[-1] == 900.0, "of another kind"
        rank.now += 200.0
    with rank.heartbeat.expect_silence("load"):
        assert rank.promised[-1] == 1000.0, "the silence to the end of the block"


def test_a_rank_that_waits_for_a_slow_reader_is_heard(rank):
    """However long its queue takes to empty at the end of a run."""
    context = SimpleNamespace(
        heartbeat=rank.heartbeat, detector=NullDetector(), control=SimpleNamespace(poll=lambda: True, overdue=False)
    )
    for _ in range(100):
        rank.now += 1.0
        assert not Context.should_give_up(context)
    assert len(rank.posted) == 100
