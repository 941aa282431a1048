"""Restarts under way: one line per decision, with what became of it; who may be commanded."""

import json
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from doubles import NullDetector

from ddmd_mpi.errors import DiskError
from ddmd_mpi.frames.command import CommandKind, Outcome, Receipt, RestartCommand
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.monitor.status import StatusPost
from ddmd_mpi.roles.decision_log import used_frames
from ddmd_mpi.roles.restart_tracker import RestartTracker
from ddmd_mpi.steering.policy import Restart


class Mailboxes:
    def __init__(self):
        self.sent, self.waiting = [], {}

    def send(self, walker, command):
        self.sent.append((walker, command))

    def receipts(self, walker):
        return self.waiting.pop(walker, [])


@pytest.fixture
def context(tmp_path):
    return SimpleNamespace(
        info=SimpleNamespace(directory=tmp_path, resumed=None),
        layout=SimpleNamespace(n_walkers=3),
        mailboxes=Mailboxes(),
        config=SimpleNamespace(
            steering=SimpleNamespace(strategy="greedy"), system=SimpleNamespace(topologies=("beads",))
        ),
        status=StatusPost(lambda record: None, EventLog(None, "inference", 0)),
        detector=NullDetector(),
        stop_on_disk_error=nullcontext,
    )


def send(tracker, walker, decided=100.0):
    command = RestartCommand(
        CommandKind.RESTART,
        tracker.next_decision(),
        decided,
        source_walker=2,
        source_segment=0,
        source_frame=9,
        velocity_seed=5,
    )
    tracker.send(Restart(walker, 0, 1.5, 4.0, 1.5, 5, 4.0), command, None, None)
    return command.decision


def lines(context):
    return [json.loads(line) for line in (context.info.directory / "decisions.jsonl").read_text().splitlines()]


def test_every_decision_ends_as_one_line(context):
    with RestartTracker(context, context.mailboxes) as tracker:
        applied, stale, lost = (send(tracker, walker) for walker in (0, 1, 2))
        context.mailboxes.waiting[0] = [Receipt(applied, Outcome.APPLIED, 4, 100.2, 100.25)]
        context.mailboxes.waiting[1] = [Receipt(stale, Outcome.STALE, -1, 100.1, 0.0)]
        tracker.collect()
    by_decision = {line["decision"]: line for line in lines(context)}
    assert [by_decision[d]["outcome"] for d in (applied, stale, lost)] == ["applied", "stale", "undelivered"]
    assert by_decision[applied]["first_step"] == 100.25
    assert by_decision[applied]["segment"] == 4
    assert by_decision[stale]["first_step"] is None
    assert by_decision[lost]["delivered"] is None
    record = context.status.record
    assert (record["decisions"], record["delivered"], record["stale"]) == (3, 1, 1)
    assert record["latency_p50_ms"] == pytest.approx(250)
    assert record["apply_p50_ms"] == pytest.approx(50)


def test_a_receipt_counts_once(context):
    with RestartTracker(context, context.mailboxes) as tracker:
        decision = send(tracker, 0)
        for _ in range(2):
            context.mailboxes.waiting[0] = [Receipt(decision, Outcome.APPLIED, 1, 100.2, 100.25)]
            tracker.collect()
    assert len(lines(context)) == 1


def test_only_walkers_with_news_and_without_a_command_are_idle(context):
    def window(segments):
        return {"walker": np.array([0, 1]), "segment": np.array(segments)}

    with RestartTracker(context, context.mailboxes) as tracker:
        assert tracker.idle(window([0, 0])).tolist() == [True, True, False]  # walker 2 has no frame yet
        decision = send(tracker, 0)
        assert tracker.idle(window([0, 0])).tolist() == [False, True, False]
        context.mailboxes.waiting[0] = [Receipt(decision, Outcome.APPLIED, 3, 100.2, 100.25)]
        tracker.collect()
        assert tracker.idle(window([2, 0])).tolist() == [False, True, False]  # its frames are older than its restart
        assert tracker.idle(window([3, 0])).tolist() == [True, True, False]


def test_what_was_under_way_to_a_lost_walker_is_written_off(context):
    with RestartTracker(context, context.mailboxes) as tracker:
        for walker, frame in ((0, 7), (2, 9)):
            command = RestartCommand(
                CommandKind.RESTART,
                tracker.next_decision(),
                1.0,
                source_walker=1,
                source_segment=0,
                source_frame=frame,
            )
            tracker.send(Restart(walker, 0, 1.0, 2.0, 3.0, 11, 4.0), command, None, None)
        assert tracker.write_off([2]) == [(1, 9)]
        assert tracker.write_off([2]) == []
        assert list(tracker.pending) == [0]
    lines = [json.loads(line) for line in (context.info.directory / "decisions.jsonl").read_text().splitlines()]
    assert [(line["decision"], line["outcome"]) for line in lines] == [(1, "undelivered"), (0, "undelivered")]


def test_a_lost_walker_is_not_commanded(context):
    context.detector = SimpleNamespace(lost_walkers=(1,))
    block = {"walker": np.array([0, 1, 2]), "segment": np.zeros(3, int)}
    with RestartTracker(context, context.mailboxes) as tracker:
        assert tracker.idle(block).tolist() == [True, False, True]


def test_a_decision_that_the_disk_refuses_is_not_sent(context, limited):
    with RestartTracker(context, context.mailboxes) as tracker:
        send(tracker, 0)
        sent = context.info.directory / "checkpoints" / "sent.jsonl"
        with limited(sent.stat().st_size + 10), pytest.raises(DiskError, match=r"sent\.jsonl"):
            send(tracker, 1)
        assert [walker for walker, _ in context.mailboxes.sent] == [0]
        assert list(tracker.pending) == [0]
    assert [line["decision"] for line in lines(context)] == [0]
    assert context.status.record["decisions"] == 1


def test_answers_that_the_disk_refuses_are_written_when_there_is_room(context, limited):
    refused = []

    @contextmanager
    def stop_on_disk_error():
        try:
            yield
        except DiskError as error:
            refused.append(str(error))

    context.stop_on_disk_error = stop_on_disk_error
    with RestartTracker(context, context.mailboxes) as tracker:
        for walker in (0, 1):
            decision = send(tracker, walker)
            context.mailboxes.waiting[walker] = [Receipt(decision, Outcome.APPLIED, 4, 100.2, 100.25)]
        with limited(10):
            tracker.collect()
        assert len(refused) == 2
        assert lines(context) == []
        send(tracker, 2)
    assert [(line["decision"], line["outcome"]) for line in lines(context)] == [
        (0, "applied"),
        (1, "applied"),
        (2, "undelivered"),
    ]


def test_decisions_of_an_earlier_session_are_known_again_in_both_formats(context):
    with RestartTracker(context, context.mailboxes) as tracker:
        applied = send(tracker, 1)
        context.mailboxes.waiting[1] = [Receipt(applied, Outcome.APPLIED, 4, 100.2, 100.25)]
        tracker.collect()
    path = context.info.directory / "decisions.jsonl"
    new = path.read_text()
    assert '"walker": 1' in new
    context.info.resumed = object()
    block = {"walker": np.array([1]), "segment": np.array([3])}
    for text in (new, new.replace('"walker"', '"simulation"')):
        path.write_text(text)
        with RestartTracker(context, context.mailboxes) as resumed:
            assert used_frames(resumed.resume()) == [(2, 0, 9)]
            assert not resumed.idle(block).any(), "its newest frame is older than its last restart"
            block["segment"][0] = 4
            assert resumed.idle(block).tolist() == [False, True, False]
            block["segment"][0] = 3
