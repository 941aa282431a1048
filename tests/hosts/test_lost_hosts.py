"""A host is lost in the middle of a run, or its cable is pulled out."""

import time

import pytest
from box import open_mpi, until
from checker import problems
from over_hosts import LIMIT, QUICK, Job, begun, good

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.timeout(280),
    pytest.mark.skipif(not open_mpi(), reason="only Open MPI 5 survives the loss of a rank"),
]

THREE_HOSTS = ("host1", "host2", "host3")
#: One aggregator for all: host1 simulates, host2 simulates and aggregates, host3 trains and infers and launches.
SETTINGS = (
    *QUICK,
    "ranks.aggregation=1",
    "output.progress_interval=0.5",
    "run.checkpoint_interval=2",
    "faults.hang_after=15",
)


@pytest.fixture
def start(box, tmp_path):
    """``start()`` starts a run over three hosts and waits until it has restarted walkers and has checkpoints.

    The first checkpoint may take as long as a start; the time in which a loss is found counts from the second one.
    """
    directory = tmp_path / "run"

    def begin():
        job = Job(
            box,
            directory,
            THREE_HOSTS,
            2,
            "--usecase",
            "bba-go",
            "--duration",
            LIMIT,
            "--output",
            directory,
            sets=SETTINGS,
            launch_from="host3",
        )
        job.until(
            lambda: (
                begun(directory)
                and job.run.restarted()
                and len(list((directory / "checkpoints").glob("manifest-*"))) > 1
            )
        )
        return job

    return begin


def test_a_run_completes_without_the_ranks_of_a_host_that_simulates(start):
    job = start()
    assert job.kill_ranks("host1") == [0, 1]
    job.until(lambda: job.run.shows("lost_ranks") == [0, 1])
    job.signal("inference", "TERM")
    ended = good(job.ended())
    simulation = ended.summary["simulation"]
    assert simulation["lost_ranks"] == [0, 1]
    assert ended.said.count("rank 0 (simulation, on host1)") == 1
    assert problems(ended.directory, lost=simulation["lost_walkers"]) == []


def test_a_link_that_comes_back_loses_nothing(start, box):
    job = start()
    n_restarts = job.run.restarted().total()
    box.cut("host1")
    time.sleep(5)  # what is tested is that time
    box.mend("host1")
    job.until(lambda: job.run.restarted()["host1"] > 0 and job.run.restarted().total() > n_restarts + 5)
    job.signal("inference", "TERM")
    ended = good(job.ended())
    assert ended.summary["simulation"]["lost_ranks"] == []
    assert ended.summary["streams"]["dropped_blocks"] == 0
    assert problems(ended.directory) == []


def test_a_link_that_is_cut_for_good_ends_the_run_with_its_reason(start, box):
    """Open MPI's launcher then waits for the host for ever; the job scripts make an end of it."""
    job = start()
    box.cut("host2")

    def reasons():
        logs = (path.read_text() for path in (job.directory / "logs").glob("*.log") if "aggregation" not in path.name)
        return [line for log in logs for line in log.splitlines() if " ERROR " in line and "the run ends:" in line]

    clock = time.monotonic()
    job.until(reasons)
    assert time.monotonic() - clock < 60
    box.clear()
    (reason,) = reasons()
    assert "(aggregation, on host2)" in reason
    assert "--resume" in reason
    assert problems(job.directory, ended=False) == []


@pytest.mark.parametrize("host", ["host1", "host2"])
def test_a_host_that_is_lost_leaves_a_checkpoint_to_resume_from(start, box, host):
    """Open MPI's launcher (PRRTE 3.0) ends every job that loses one of its daemons."""
    job = start()
    box.kill(host)
    clock = time.monotonic()
    job.ended(timeout=60)
    assert time.monotonic() - clock < 60
    until(lambda: not any(map(box.processes, THREE_HOSTS)), 30)
    assert problems(job.directory, ended=False) == []
    two_hosts = tuple(h for h in THREE_HOSTS if h != host)
    again = Job(box, job.directory, two_hosts, 3, "--resume", job.directory, "--duration", "15s")
    ended = good(again.ended())
    assert ended.summary["sessions"] == 2
    assert problems(ended.directory) == []
