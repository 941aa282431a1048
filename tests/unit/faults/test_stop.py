"""When a run ends, and how a rank hears of it."""

import signal

import numpy as np
import pytest

from ddmd_mpi.faults import stop
from ddmd_mpi.faults.stop import (
    CONTROL_DTYPE,
    ECHO_SECONDS,
    SIGNALS,
    Control,
    Signals,
    begin,
    end_variable,
    job_end,
    time_left,
)
from ddmd_mpi.monitor.status import StopReason
from ddmd_mpi.prepare import no_time


class Orders:
    """The leader's orders."""

    def __init__(self):
        self.count, self.record = 0, np.zeros((), CONTROL_DTYPE)

    def update(self, **fields):
        self.count += 1
        for name, value in fields.items():
            self.record[name] = value

    def get(self):
        return self.record


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
    assert {signal.Signals(number).name for number in SIGNALS} <= set(StopReason.__members__)


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


def test_the_variable_that_says_when_the_job_ends_is_named():
    slurm, pbs = {"SLURM_JOB_END_TIME": "5000", "DDMD_MPI_END_TIME": "6000"}, {"PBS_WALLTIME": "100"}
    assert end_variable(slurm, job_end(slurm, 1000.0)) == "SLURM_JOB_END_TIME"
    assert end_variable(pbs, job_end(pbs, 1000.0)) == "PBS_WALLTIME"


@pytest.mark.parametrize(
    ("left_s", "said"),
    [
        (-3600.0, "SLURM_JOB_END_TIME says that the job ended 3600 s ago: unset or correct that variable"),
        (20.0, "the job ends in 20 s, as SLURM_JOB_END_TIME says, and run.margin is 60 s: lower run.margin"),
    ],
)
def test_a_job_without_time_is_refused_with_a_sentence(left_s, said):
    assert said in no_time("SLURM_JOB_END_TIME", left_s, 60.0)


@pytest.mark.parametrize(("duration", "end", "expected"), [
    (500, None, (490, StopReason.DURATION)), (500, 2000, (490, StopReason.DURATION)),
    (500, 1300, (230, StopReason.WALLTIME)),
    (500, 1040, (-30, StopReason.WALLTIME)),
])  # fmt: skip
def test_the_simulations_stop_at_what_comes_first(duration, end, expected):
    assert time_left(duration, 60, end, 1000.0, 1010.0) == expected


def make(**changes):
    """The control of a run with 1000 s left."""
    usual = {"left_s": 1000, "reason": StopReason.DURATION, "drain_s": 100, "grace_s": 60, "signals": Signals()}
    return Control(**(usual | changes))


def test_a_signal_brings_the_deadline_forward_and_is_told_once():
    signals, told = Signals(), []
    control = make(signals=signals, tell=told.append)
    assert not control.poll()
    assert control.left_s > 900
    assert control.drain_s == 100
    signals.handle(signal.SIGTERM)
    assert control.left_s > 900, "nothing is heard of before the next poll"
    assert control.poll()
    assert control.poll()
    assert control.left_s <= 0
    assert (control.reason, told) == (StopReason.SIGTERM, [StopReason.SIGTERM])
    assert control.drain_s == 60, "somebody else ends the job soon"


def test_orders_reach_a_rank_without_a_signal():
    orders = Orders()
    leader, other = (make(orders=orders) for _ in range(2))
    leader.order(checkpoint=3)
    assert not other.poll()
    assert other.checkpoint == 3
    leader.order_stop(StopReason.NONE)
    assert orders.count == 1
    leader.order_stop(StopReason.SIGUSR2)
    leader.order_stop(StopReason.SIGUSR2)
    assert orders.count == 2, "ordered once"
    other._looked = 0.0
    assert other.poll()
    assert (other.reason, other.checkpoint) == (StopReason.SIGUSR2, 3)


def test_a_stop_gives_nobody_more_time():
    control = make(left_s=-5, reason=StopReason.WALLTIME)
    control.halt(StopReason.SIGTERM)
    assert control.left_s < -4


def test_a_reason_of_ones_own_is_told_and_outdoes_a_signal():
    signals, told = Signals(), []
    control = make(signals=signals, tell=told.append)
    signals.handle(signal.SIGTERM)
    control.poll()
    control.want(StopReason.DISK)
    assert (control.reason, told) == (StopReason.DISK, [StopReason.SIGTERM, StopReason.DISK])
    assert control.left_s <= 0


def test_what_goes_on_with_a_run_counts_from_its_first_launch():
    assert begin({}, 500.0) == 500.0
    assert begin({"DDMD_MPI_BEGIN_TIME": "100"}, 500.0) == 100.0
    assert begin({"DDMD_MPI_BEGIN_TIME": "9000"}, 500.0) == 500.0, "a clock that was set back"
    assert job_end({"DDMD_MPI_BEGIN_TIME": "100", "PBS_WALLTIME": "3600"}, 500.0) == 3700.0


def test_a_suspension_counts_for_the_duration_and_not_for_draining(monkeypatch):
    """The job is suspended for a minute in which its duration ends, and for another one while it drains."""
    awake, clock = [100.0], [100.0]
    monkeypatch.setattr(stop, "monotonic", lambda: awake[0])
    monkeypatch.setattr(stop.time, "monotonic", lambda: clock[0])
    control = make(left_s=50.0, drain_s=1.5, grace_s=5.0, job_left_s=80.0)
    awake[0], clock[0] = 101.0, 121.0
    assert not control.poll()
    assert (control.left_s, control.reason) == (29.0, StopReason.DURATION)
    awake[0], clock[0] = 102.0, 181.0
    assert control.poll()
    assert (control.left_s, control.reason, control.overdue) == (0.0, StopReason.DURATION, False)
    awake[0], clock[0] = 103.0, 241.0
    control.poll()
    assert (control.left_s, control.overdue) == (-1.0, False)
    awake[0], clock[0] = 104.0, 242.0
    control.poll()
    assert (control.left_s, control.overdue) == (-2.0, True)
