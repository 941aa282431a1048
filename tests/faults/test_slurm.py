"""``jobscripts/slurm.sh`` under a real Slurm: jobs that end, are told to stop, and lose a rank."""

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from checker import problems
from hurt_jobs import SETTINGS, has_checkpoint, pid_of, running, wait
from slurm_cluster import slurm

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(280)]

#: A job that starts in the second of its requeue has a credential that Slurm takes for a revoked one.
REVOKED_SECONDS = 2.0
CHECKOUT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm(tmp_path_factory.mktemp("slurm")) as one:
        yield one


def submit(cluster, directory, *options, duration="1h", sets=()):
    """Submit a job of six ranks; its number."""
    given = [text for s in (*SETTINGS, *sets) for text in ("--set", s)]
    variables = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(CHECKOUT),
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "OMPI_MCA_pml": "ob1",
        "OMPI_MCA_osc": "^ucx",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "HWLOC_COMPONENTS": "-x86",
    }
    script = CHECKOUT / "jobscripts" / "slurm.sh"
    return cluster(
        "sbatch",
        "--parsable",
        f"--chdir={CHECKOUT}",
        f"--output={directory}.out",
        "--nodes=1",
        "--ntasks=6",
        "--ntasks-per-node=6",
        "--cpus-per-task=1",
        *options,
        script,
        "--usecase",
        "bba-go",
        "--duration",
        duration,
        "--output",
        directory,
        *given,
        **variables,
    ).strip()


def summary(directory):
    return json.loads((directory / "summary.json").read_text())


def ends_in_order(cluster, job, directory, reason):
    """The job is complete, and so is the run, which ended for this reason."""
    state, said = cluster.ended(job), Path(f"{directory}.out")
    assert (state["JobState"], state["ExitCode"]) == ("COMPLETED", "0:0"), said.read_text(errors="replace")[-3000:]
    assert (summary(directory)["completed"], summary(directory)["stop_reason"]) == (True, reason)


def reached(cluster, job, what, directory):
    """Wait for what the run of a job that goes on writes."""
    with contextlib.suppress(TimeoutError):
        wait(lambda: what() or cluster.has_ended(job))
    assert what(), f"{cluster.state(job)}\n{Path(f'{directory}.out').read_text(errors='replace')[-3000:]}"


def shows(directory, name, value):
    """Whether the live view does."""
    try:
        return json.loads((directory / "status.json").read_text())[name] == value
    except (OSError, ValueError):
        return False


def tell_to_stop(cluster, job):
    cluster("scancel", "--batch", "--signal=USR1", job)


def test_a_run_stops_in_order_before_the_end_of_its_job(cluster, tmp_path):
    directory = tmp_path / "run"
    job = submit(cluster, directory, "--time=2", "--signal=B:USR1@1", sets=("run.margin=45",))
    ends_in_order(cluster, job, directory, "walltime")
    assert problems(directory) == []


def test_a_job_goes_on_without_a_lost_simulation(cluster, tmp_path):
    """And it stops in order when it is told to."""
    directory = tmp_path / "run"
    job = submit(cluster, directory)
    reached(cluster, job, lambda: running(directory), directory)
    rank, pid = pid_of(directory, "simulation", random.Random(3))
    os.kill(pid, signal.SIGKILL)
    reached(cluster, job, lambda: shows(directory, "lost_ranks", [rank]), directory)
    tell_to_stop(cluster, job)
    ends_in_order(cluster, job, directory, "SIGUSR1")
    assert summary(directory)["simulation"]["lost_ranks"] == [rank]
    assert problems(directory, lost=summary(directory)["simulation"]["lost_walkers"]) == []


def test_a_job_that_loses_its_training_rank_goes_on_by_itself(cluster, tmp_path):
    directory = tmp_path / "run"
    job = submit(cluster, directory, "--time=20")
    reached(cluster, job, lambda: running(directory) and has_checkpoint(directory), directory)
    os.kill(pid_of(directory, "training", random.Random(3))[1], signal.SIGKILL)
    reached(cluster, job, lambda: shows(directory, "session", 1), directory)
    tell_to_stop(cluster, job)
    ends_in_order(cluster, job, directory, "SIGUSR1")
    assert summary(directory)["sessions"] == 2
    assert problems(directory) == []


def test_a_job_that_is_requeued_goes_on_by_itself(cluster, tmp_path):
    directory = tmp_path / "run"
    job = submit(cluster, directory, "--requeue", "--open-mode=append")
    reached(cluster, job, lambda: running(directory) and has_checkpoint(directory), directory)
    cluster("scontrol", "requeue", job)
    wait(lambda: cluster.state(job)["JobState"] == "PENDING")
    time.sleep(REVOKED_SECONDS)

    def goes_on():
        cluster("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)  # not two minutes later
        return shows(directory, "session", 1)

    reached(cluster, job, goes_on, directory)
    assert cluster.state(job)["Restarts"] == "1"
    tell_to_stop(cluster, job)
    ends_in_order(cluster, job, directory, "SIGUSR1")
    assert "the job was requeued: resuming" in Path(f"{directory}.out").read_text(errors="replace")
    assert problems(directory) == []
