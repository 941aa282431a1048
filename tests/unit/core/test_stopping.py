"""When a run ends, and how a rank hears of it."""

import signal

import numpy as np
import pytest

from ddmd_mpi.status import STOP_REASONS
from ddmd_mpi.stopping import CONTROL_DTYPE, ECHO_SECONDS, SIGNALS, Control, Signals, begin, job_end, time_left


class Register:
    """The first aggregator's orders."""

    def __init__(self):
        self.count, self.record = 0, np.zeros((), CONTROL_DTYPE)

    def put(self, _, record):
        self.count, self.record = self.count + 1, record.copy()

    def get(self, _):
        return self.count, self.record


def test_the_first_signal_is_noted_and_a_second_one_leaves_at_once():
    now, left = [10.0], []
    signals = Signals(lambda: now[0], left.append)
    signals.handle(signal.SIGUSR1)
    signals.handle(signal.SIGTERM)
    assert (signals.received, left) == (signal.SIGUSR1, []), "an echo"
    now[0] += 2 * ECHO_SECONDS
    signals.handle(signal.SIGTERM)
    assert (signals.received, left) == (signal.SIGUSR1, [128 + signal.SIGTERM])


def test_every_signal_has_a_handler_and_a_reason():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        signals = Signals(leave=pytest.fail).install()
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert {signal.Signals(number).name for number in SIGNALS} <= set(STOP_REASONS)


@pytest.mark.parametrize(("environment", "end"), [
    ({}, None),
    ({"SLURM_JOB_END_TIME": "5000"}, 5000.0),
    ({"PBS_WALLTIME": "100"}, 1100.0),
    ({"SLURM_JOB_END_TIME": "5000", "DDMD_MPI_END_TIME": "4000"}, 4000.0),
    ({"SLURM_JOB_END_TIME": "soon", "PBS_WALLTIME": "-1", "DDMD_MPI_END_TIME": ""}, None),
    ({"DDMD_MPI_END_TIME": "inf"}, None),
])  # fmt: skip
def test_the_end_of_the_job(environment, end):
    assert job_end(environment, 1000.0) == end


@pytest.mark.parametrize(("duration", "end", "expected"), [
    (500, None, (490, "duration")), (500, 2000, (490, "duration")), (500, 1300, (230, "walltime")),
    (500, 1040, (-30, "walltime")),
])  # fmt: skip
def test_the_simulations_stop_at_what_comes_first(duration, end, expected):
    assert time_left(duration, 60, end, 1000.0, 1010.0) == expected


def test_a_signal_brings_the_deadline_forward_and_is_told_once():
    signals, told = Signals(), []
    control = Control(1000, "duration", 60, signals, tell=told.append)
    assert control.left_s > 900
    assert control.drain_s(100) == 100
    signals.handle(signal.SIGTERM)
    assert control.left_s <= 0
    assert control.left_s <= 0
    assert (control.reason, told) == ("SIGTERM", [STOP_REASONS.index("SIGTERM")])
    assert control.drain_s(100) == 60, "somebody else ends the job soon"


def test_orders_reach_a_rank_without_a_signal():
    register = Register()
    leader, other = (Control(1000, "duration", 60, Signals(), register) for _ in range(2))
    leader.order(checkpoint=3)
    assert other.left_s > 900
    assert other.checkpoint == 3
    leader.order_stop(0)
    assert register.count == 1
    leader.order_stop(STOP_REASONS.index("SIGUSR2"))
    leader.order_stop(STOP_REASONS.index("SIGUSR2"))
    assert register.count == 2, "ordered once"
    other._looked = 0.0
    assert other.left_s <= 0
    assert (other.reason, other.checkpoint) == ("SIGUSR2", 3)


def test_a_stop_gives_nobody_more_time():
    control = Control(-5, "walltime", 60, Signals())
    control.halt(STOP_REASONS.index("SIGTERM"))
    assert control.left_s < -4


def test_a_reason_of_ones_own_is_told_and_outdoes_a_signal():
    signals, told = Signals(), []
    control = Control(1000, "duration", 60, signals, tell=told.append)
    signals.handle(signal.SIGTERM)
    control.look()
    control.want("disk")
    assert (control.reason, told) == ("disk", [STOP_REASONS.index("SIGTERM"), STOP_REASONS.index("disk")])
    assert control.left_s <= 0


def test_what_goes_on_with_a_run_counts_from_its_first_launch():
    assert begin({}, 500.0) == 500.0
    assert begin({"DDMD_MPI_BEGIN_TIME": "100"}, 500.0) == 100.0
    assert begin({"DDMD_MPI_BEGIN_TIME": "9000"}, 500.0) == 500.0, "a clock that was set back"
    assert job_end({"DDMD_MPI_BEGIN_TIME": "100", "PBS_WALLTIME": "3600"}, 500.0) == 3700.0
