"""What a role's streams count."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.layout.links import TO_INFERENCE, TO_TRAINING, WEIGHTS
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.monitor.status import STATUS_DTYPE, StatusPost
from ddmd_mpi.parallel.plane import CREDIT_DTYPE
from ddmd_mpi.streams.ends import StreamEnds
from ddmd_mpi.streams.inbox import Inbox
from ddmd_mpi.streams.stream import END


def outbox(nbytes, n_written, max_depth, dropped, waited, wait_s):
    return SimpleNamespace(
        writer=SimpleNamespace(nbytes=nbytes, n_written=n_written),
        max_depth=max_depth,
        dropped=dropped,
        waited=waited,
        wait_s=wait_s,
    )


@pytest.fixture
def ends():
    return StreamEnds(
        None,
        None,
        (),
        rank=0,
        roles=("aggregation",),
        settings=StreamsSection(),
        spend=lambda _: None,
        log=logging.getLogger("ddmd_mpi.test"),
    )


def test_traffic_by_kind_of_stream(ends):
    ends.opened[TO_TRAINING] = [outbox(10, 1, 3, 1, 4, 0.5), outbox(20, 2, 2, 1, 0, 0.25)]
    ends.opened[TO_INFERENCE] = [outbox(40, 4, 1, 0, 0, 0.0)]
    ends.opened[WEIGHTS] = [outbox(1000, 5, 9, 7, 0, 0.0)]
    posted = []
    StatusPost(lambda record: posted.append(record.copy()), EventLog(None, "", 0), ends.traffic).update(now=True)
    (record,) = posted
    assert record.dtype == STATUS_DTYPE
    assert record["hop_bytes"].tolist() == [0, 30, 40, 1000]
    assert record["hop_queue"].tolist() == [0, 3, 1, 9]
    assert record["hop_waited"].tolist() == [0, 4, 0, 0]
    assert record["hop_wait_s"].tolist() == [0, 0.75, 0, 0]
    assert (record["bytes"], record["blocks"]) == (1070, 12)
    assert (record["dropped"], record["max_queue"]) == (2, 3), "a model that a newer one replaced is no loss"


def test_a_rank_without_streams_leaves_the_record_alone(ends):
    assert ends.traffic() == {}


def test_only_a_look_that_finds_something_is_credited_and_counted():
    payloads, spent, credits = [None, np.ones(3, np.uint8), None, END], [], []
    inlet = Inbox(
        SimpleNamespace(poll=lambda: payloads.pop(0)),
        SimpleNamespace(index=5),
        SimpleNamespace(put=lambda i, record: credits.append((i, np.asarray(record, CREDIT_DTYPE)))),
        2,
        spent.append,
    )
    assert inlet.poll() is None
    assert (spent, credits) == ([], [])
    assert len(inlet.poll()) == 3
    assert len(spent) == 1
    assert [inlet.poll(), inlet.poll()] == [None, None]
    assert inlet.ended
    assert len(spent) == 1
    ((index, record),) = credits
    assert (index, record["consumed"]) == (5, 1)


def test_no_more_payloads_are_handed_over_at_a_time_than_may_be_under_way():
    reader = SimpleNamespace(poll=lambda: np.ones(1, np.uint8))
    inlet = Inbox(reader, SimpleNamespace(index=0), SimpleNamespace(put=lambda *_: 0), 4, lambda _: None)
    assert len(list(inlet.arrived())) == 4
