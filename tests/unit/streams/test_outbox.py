"""The queue before a stream: credits, limits, and never a wait."""

import numpy as np

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.streams.outbox import Outbox


class Sink:
    """A writer in memory."""

    def __init__(self):
        self.payloads, self.nbytes, self.ready = [], 0, True

    @property
    def n_written(self):
        return len(self.payloads)

    def write(self, payload):
        self.payloads.append(payload)

    def close(self):
        pass


def blocks(n, nbytes=10):
    return [np.full(nbytes, i, np.uint8) for i in range(n)]


def first_bytes(sink):
    return [int(p[0]) for p in sink.payloads]


def test_a_consumer_that_stopped_gets_no_more_and_the_oldest_blocks_go():
    sink = Sink()
    outbox = Outbox(sink, consumed=lambda: 0, in_flight=2, queue_blocks=3, queue_mb=1)
    for block in blocks(10):
        outbox.offer(block)
    assert first_bytes(sink) == [0, 1]
    assert (outbox.dropped, outbox.max_depth, len(outbox)) == (5, 3, 3)
    outbox.flush(stop=lambda: True)
    assert len(outbox) == 3


def test_small_blocks_of_a_minute_wait_by_default_for_a_reader_that_is_loading():
    limits = StreamsSection()
    outbox = Outbox(Sink(), lambda: 0, limits.in_flight_blocks, limits.queue_blocks, limits.queue_mb)
    for _ in range(10 * 60):
        outbox.offer(np.zeros(2_000, np.uint8))
    assert outbox.dropped == 0


def test_every_dropped_block_is_told():
    told = []
    outbox = Outbox(Sink(), consumed=lambda: 0, in_flight=2, queue_blocks=3, queue_mb=1, drop=told.append)
    for block in blocks(7):
        outbox.offer(block)
    assert told == [1, 2]


def test_what_finds_no_room_is_counted_and_so_is_the_time_spent_writing():
    sink, consumed, spent = Sink(), [0], []
    outbox = Outbox(sink, lambda: consumed[0], in_flight=2, queue_blocks=9, queue_mb=1, spend=spent.append)
    for block in blocks(5):
        outbox.offer(block)
    assert outbox.waited == 3
    before = outbox.wait_s
    consumed[0] = 3
    outbox.pump()
    assert len(outbox) == 0
    assert outbox.wait_s > before
    assert len(spent) == 6
    outbox.pump()
    assert len(spent) == 6, "nothing was there to be written"


def test_what_is_left_follows_in_order_when_the_consumer_goes_on():
    sink, consumed = Sink(), [0]
    outbox = Outbox(sink, lambda: consumed[0], in_flight=2, queue_blocks=3, queue_mb=1)
    for block in blocks(10):
        outbox.offer(block)
    consumed[0] = 1
    outbox.pump()
    assert first_bytes(sink) == [0, 1, 7]
    consumed[0] = 3
    outbox.flush(stop=lambda: False)
    assert first_bytes(sink) == [0, 1, 7, 8, 9]
    assert len(outbox) == 0


def test_the_limit_in_megabytes_keeps_the_newest_block_whatever_its_size():
    sink = Sink()
    outbox = Outbox(sink, consumed=lambda: 0, in_flight=0, queue_blocks=100, queue_mb=25e-6)
    for block in blocks(4):
        outbox.offer(block)
    assert (len(outbox), outbox.dropped) == (2, 2)
    outbox.offer(blocks(1, nbytes=1000)[0])
    assert (len(outbox), outbox.dropped) == (1, 4)


def test_a_writer_that_is_not_ready_is_left_alone():
    sink = Sink()
    sink.ready = False
    outbox = Outbox(sink, consumed=lambda: 0, in_flight=4, queue_blocks=1, queue_mb=1)
    for block in blocks(3):
        outbox.offer(block)
    assert sink.payloads == []
    sink.ready = True
    outbox.pump()
    assert first_bytes(sink) == [2]


def test_a_queue_of_one_block_lets_the_newest_win():
    sink, consumed = Sink(), [0]
    outbox = Outbox(sink, lambda: consumed[0], in_flight=1, queue_blocks=1, queue_mb=1)
    for block in blocks(6):
        outbox.offer(block)
    consumed[0] = 1
    outbox.pump()
    assert first_bytes(sink) == [0, 5]
