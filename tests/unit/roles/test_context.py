"""What a role's streams count."""

from types import SimpleNamespace

import numpy as np
import pytest

from ddmd_mpi.events import EventLog
from ddmd_mpi.roles.context import CREDIT_DTYPE, Context, Inlet
from ddmd_mpi.status import STATUS_DTYPE
from ddmd_mpi.streams.stream import END
from ddmd_mpi.wiring import TO_INFERENCE, TO_TRAINING, WEIGHTS


def outbox(nbytes, n_written, max_depth, dropped, waited, wait_s):
    return SimpleNamespace(writer=SimpleNamespace(nbytes=nbytes, n_written=n_written), max_depth=max_depth,
                           dropped=dropped, waited=waited, wait_s=wait_s)


@pytest.fixture
def context():
    events, credits = EventLog(None, "aggregation", 0), []
    fields = dict.fromkeys(Context.__dataclass_fields__)
    fields |= {"status": SimpleNamespace(), "events": events, "opened": {},
               "credits": SimpleNamespace(put=lambda i, record: credits.append((i, int(record["consumed"]))))}
    return Context(**fields)


def test_traffic_by_kind_of_stream(context):
    context.opened[TO_TRAINING] = [outbox(10, 1, 3, 1, 4, 0.5), outbox(20, 2, 2, 1, 0, 0.25)]
    context.opened[TO_INFERENCE] = [outbox(40, 4, 1, 0, 0, 0.0)]
    context.opened[WEIGHTS] = [outbox(1000, 5, 9, 7, 0, 0.0)]
    record = np.zeros((), STATUS_DTYPE)
    for name, value in context.status.gather().items():
        record[name] = value
    assert record["hop_bytes"].tolist() == [0, 30, 40, 1000]
    assert record["hop_queue"].tolist() == [0, 3, 1, 9]
    assert record["hop_waited"].tolist() == [0, 4, 0, 0]
    assert record["hop_wait_s"].tolist() == [0, 0.75, 0, 0]
    assert (record["bytes"], record["blocks"]) == (1070, 12)
    assert (record["dropped"], record["max_queue"]) == (2, 3), "a model that a newer one replaced is no loss"


def test_a_rank_without_streams_leaves_the_record_alone(context):
    assert context.traffic() == {}


def test_only_a_look_that_finds_something_is_time_spent_on_streams(context):
    payloads = [None, np.ones(3, np.uint8), None, END]
    inlet = Inlet(SimpleNamespace(poll=lambda: payloads.pop(0)), SimpleNamespace(index=5), context)
    assert inlet.poll() is None
    assert context.events.totals["io"].count == 0
    assert len(inlet.poll()) == 3
    assert context.events.totals["io"].count == 1
    assert [inlet.poll(), inlet.poll()] == [None, None]
    assert inlet.ended
    assert context.events.totals["io"].count == 1
    assert inlet._record.dtype == CREDIT_DTYPE
