"""The ledger: one line per decision, with its fate; who may be commanded."""

import json
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from ddmd_mpi.errors import DiskError
from ddmd_mpi.events import EventLog
from ddmd_mpi.frames import CommandKind, Outcome, Receipt, RestartCommand
from ddmd_mpi.roles.decisions import Ledger
from ddmd_mpi.roles.vigil import NoVigil
from ddmd_mpi.status import StatusPost
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
        facts=SimpleNamespace(directory=tmp_path, resumed=None), layout=SimpleNamespace(n_walkers=3),
        mailboxes=Mailboxes(),
        config=SimpleNamespace(steering=SimpleNamespace(strategy="greedy"),
                               system=SimpleNamespace(topologies=("beads",))),
        status=StatusPost(lambda record: None, EventLog(None, "inference", 0)), vigil=NoVigil(), on_record=nullcontext)


def send(ledger, walker, decided=100.0):
    command = RestartCommand(CommandKind.RESTART, ledger.next_decision(), decided, source_simulation=2,
                             source_segment=0, source_frame=9, velocity_seed=5)
    ledger.send(Restart(walker, 0, 1.5, 4.0, 1.5, 5, 4.0), command, None)
    return command.decision


def lines(context):
    return [json.loads(line) for line in (context.facts.directory / "decisions.jsonl").read_text().splitlines()]


def test_every_decision_ends_as_one_line(context):
    with Ledger(context) as ledger:
        applied, stale, lost = (send(ledger, walker) for walker in (0, 1, 2))
        context.mailboxes.waiting[0] = [Receipt(applied, Outcome.APPLIED, 4, 100.2, 100.25)]
        context.mailboxes.waiting[1] = [Receipt(stale, Outcome.STALE, -1, 100.1, 0.0)]
        ledger.collect()
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
    with Ledger(context) as ledger:
        decision = send(ledger, 0)
        for _ in range(2):
            context.mailboxes.waiting[0] = [Receipt(decision, Outcome.APPLIED, 1, 100.2, 100.25)]
            ledger.collect()
    assert len(lines(context)) == 1


def test_only_walkers_with_news_and_without_a_command_are_idle(context):
    def window(segments):
        return {"simulation": np.array([0, 1]), "segment": np.array(segments)}

    with Ledger(context) as ledger:
        assert ledger.idle(window([0, 0])).tolist() == [True, True, False]  # walker 2 has no frame yet
        decision = send(ledger, 0)
        assert ledger.idle(window([0, 0])).tolist() == [False, True, False]
        context.mailboxes.waiting[0] = [Receipt(decision, Outcome.APPLIED, 3, 100.2, 100.25)]
        ledger.collect()
        assert ledger.idle(window([2, 0])).tolist() == [False, True, False]  # its frames are older than its restart
        assert ledger.idle(window([3, 0])).tolist() == [True, True, False]


def test_what_was_under_way_to_a_lost_walker_is_written_off(context):
    with Ledger(context) as ledger:
        for walker, frame in ((0, 7), (2, 9)):
            command = RestartCommand(CommandKind.RESTART, ledger.next_decision(), 1.0, source_simulation=1,
                                     source_segment=0, source_frame=frame)
            ledger.send(Restart(walker, 0, 1.0, 2.0, 3.0, 11, 4.0), command, None)
        assert ledger.lose([2]) == [(1, 9)]
        assert ledger.lose([2]) == []
        assert list(ledger.pending) == [0]
    lines = [json.loads(line) for line in (context.facts.directory / "decisions.jsonl").read_text().splitlines()]
    assert [(line["decision"], line["outcome"]) for line in lines] == [(1, "undelivered"), (0, "undelivered")]


def test_a_lost_walker_is_not_commanded(context):
    context.vigil = SimpleNamespace(lost_walkers=(1,))
    block = {"simulation": np.array([0, 1, 2]), "segment": np.zeros(3, int)}
    with Ledger(context) as ledger:
        assert ledger.idle(block).tolist() == [True, False, True]


def test_a_decision_that_the_disk_refuses_is_not_sent(context, limited):
    with Ledger(context) as ledger:
        send(ledger, 0)
        sent = context.facts.directory / "checkpoints" / "sent.jsonl"
        with limited(sent.stat().st_size + 10), pytest.raises(DiskError, match=r"sent\.jsonl"):
            send(ledger, 1)
        assert [walker for walker, _ in context.mailboxes.sent] == [0]
        assert list(ledger.pending) == [0]
    assert [line["decision"] for line in lines(context)] == [0]
    assert context.status.record["decisions"] == 1


def test_answers_that_the_disk_refuses_are_written_when_there_is_room(context, limited):
    refused = []

    @contextmanager
    def on_record():
        try:
            yield
        except DiskError as error:
            refused.append(str(error))

    context.on_record = on_record
    with Ledger(context) as ledger:
        for walker in (0, 1):
            decision = send(ledger, walker)
            context.mailboxes.waiting[walker] = [Receipt(decision, Outcome.APPLIED, 4, 100.2, 100.25)]
        with limited(10):
            ledger.collect()
        assert len(refused) == 2
        assert lines(context) == []
        send(ledger, 2)
    assert [(line["decision"], line["outcome"]) for line in lines(context)] == [
        (0, "applied"), (1, "applied"), (2, "undelivered")]
