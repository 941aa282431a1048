"""Who is lost: by what MPI says, by broken promises, by declaration."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from ddmd_mpi.config.schema import FaultsSection, RanksSection
from ddmd_mpi.errors import LostRankError
from ddmd_mpi.faults import detector as module
from ddmd_mpi.faults.detector import MARGIN_SECONDS, FailureDetector
from ddmd_mpi.layout import file_mode
from ddmd_mpi.layout.plan import plan
from ddmd_mpi.monitor.status import STATUS_DTYPE, State

ROLES = ("simulation", "simulation", "simulation", "aggregation", "training", "inference")
SETTINGS = FaultsSection(hang_after=20, start_within=100)


class Job:
    """Six ranks in one process, seen from one of them."""

    def __init__(self, rank, planned=plan):
        self.now, self.dead, self.list, self.beats = 0.0, frozenset(), frozenset(), []
        self.stopped = self.ended = frozenset()
        self.records = np.zeros(6, STATUS_DTYPE)
        self.records["within"] = 20.0
        self.sequences = [1] * 6
        places = planned([0] * 6, [0], RanksSection(), 2)
        losses = SimpleNamespace(failed=lambda: self.dead, declared=lambda: self.list, declare=self.declare)
        plane = SimpleNamespace(read=self.read, progress=lambda: None)
        self.detector = FailureDetector(
            layout=places,
            rank=rank,
            hosts=("node",),
            losses=losses,
            plane=plane if planned is plan else None,
            home=None,
            processes=self,
            watchdog=SimpleNamespace(beat=lambda within, on_disk=False: self.beats.append(within)),
            settings=SETTINGS,
            log=logging.getLogger("ddmd_mpi.test"),
            clock=lambda: self.now,
        )

    def pid(self, rank):
        return 1000 + rank

    def read(self, rank):
        return self.sequences[rank], self.records[rank]

    def declare(self, ranks):
        self.list = frozenset(ranks)

    def heard(self, *ranks):
        for rank in ranks:
            self.sequences[rank] += 1


@pytest.fixture(autouse=True)
def killed(monkeypatch):
    pids = []
    monkeypatch.setattr(module, "end_process", pids.append)
    return pids


def test_the_plan_of_these_tests():
    assert plan([0] * 6, [0], RanksSection(), 2).roles == ROLES


@pytest.mark.parametrize("rank", [0, 3, 5])
def test_the_run_goes_on_without_a_dead_simulation(rank, killed):
    job = Job(rank)
    job.dead = frozenset({1})
    job.detector.check(20.0)
    assert job.detector.lost == {1}
    assert job.detector.lost_walkers == (2, 3)
    assert job.list == ({1} if rank == 3 else frozenset())
    assert job.beats == [20.0]
    assert killed == [], "there is no process any more, and its number may be another one's"


@pytest.mark.parametrize("lost", [3, 4, 5])
def test_it_does_not_without_another_one(lost):
    job = Job(0)
    job.dead = frozenset({lost})
    with pytest.raises(LostRankError, match=rf"rank {lost} \({ROLES[lost]}, on node\).*its process has ended"):
        job.detector.check(20.0)


def test_a_process_that_only_the_kernel_knows_to_have_ended_is_lost():
    job = Job(0)
    job.ended = frozenset({1})
    job.detector.check(20.0)
    assert job.detector.lost == {1}
    job.ended |= {4}
    with pytest.raises(LostRankError, match=r"rank 4 \(training, on node\).*its process has ended"):
        job.detector.check(20.0)


def test_whoever_was_stopped_is_said_to_have_been():
    job = Job(0)
    job.dead = job.stopped = frozenset({4})
    with pytest.raises(LostRankError, match="its process was stopped, and then killed"):
        job.detector.check(20.0)


def test_the_first_aggregator_declares_who_breaks_a_promise(killed):
    job = Job(3)
    job.detector.check(20.0)
    job.now = 20.0 + MARGIN_SECONDS
    job.detector.check(20.0)
    assert not job.detector.lost
    job.heard(0, 1, 4, 5)
    job.now += 1.0
    job.detector.check(20.0)
    assert job.detector.lost == job.list == {2}
    assert killed == [1002]


def test_a_longer_promise_holds_longer():
    job = Job(3)
    job.records["within"][2] = 500.0
    job.detector.check(20.0)
    for job.now in (100.0, 200.0, 300.0, 400.0, 500.0):
        job.heard(0, 1, 4, 5)
        job.records["within"][[0, 1, 4, 5]] = 100.0
        job.detector.check(20.0)
    assert not job.detector.lost


def test_others_watch_the_first_aggregator_only():
    job = Job(4)
    job.detector.check(20.0)
    job.heard(3)
    job.now = 100.0
    job.detector.check(20.0)
    assert not job.detector.lost, "silent simulations are not this rank's to judge"
    job.now = 100.0 + 20.0 + MARGIN_SECONDS + 1.0
    with pytest.raises(LostRankError, match="rank 3"):
        job.detector.check(20.0)


def test_a_rank_that_has_come_to_its_end_is_not_lost():
    job = Job(5)
    job.records["state"][[1, 4]] = State.DONE
    job.dead = frozenset({1, 4})
    job.detector.check(20.0)
    assert not job.detector.lost


def test_one_rank_speaks_for_all():
    for rank in range(6):
        job = Job(rank)
        job.dead = frozenset({3})
        with pytest.raises(LostRankError):
            job.detector.check(20.0)
        assert job.detector.speaks == (rank == 4)


def test_in_file_mode_every_rank_is_needed():
    job = Job(0, file_mode.plan)
    job.dead = frozenset({2})
    with pytest.raises(LostRankError, match="rank 2"):
        job.detector.check(20.0)


def test_an_error_of_mpi_is_explained_by_a_loss():
    job = Job(0)
    job.dead = frozenset({4})
    assert isinstance(job.detector.cause_of(RuntimeError("MPI_ERR_PROC_FAILED")), LostRankError)
