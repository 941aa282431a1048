"""``jobscripts/slurm.sh`` under a real Slurm of three nodes, each a host of the box."""

import sys
import time
from pathlib import Path

import pytest
from box import until, variables
from checker import problems
from over_hosts import QUICK, Run, begun, ranks
from slurm_cluster import Node, slurm

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(290)]

CHECKOUT = Path(__file__).parent.parent.parent
SETTINGS = (*QUICK, "output.progress_interval=0.5", "run.checkpoint_interval=2")


@pytest.fixture(scope="module")
def cluster(module_box, tmp_path_factory):
    """A controller on the first host, and a node on each."""
    nodes = [
        Node(host, host, f"10.77.0.{i + 1}", 6818, lambda *command, host=host: module_box.command(host, *command))
        for i, host in enumerate(module_box.hosts)
    ]
    with slurm(tmp_path_factory.mktemp("slurm"), nodes) as one:
        yield one


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Of the run that the jobs of this module begin and resume."""
    return tmp_path_factory.mktemp("job") / "run"


def submit(cluster, output, n_nodes, *options):
    """Submit a job of two ranks on each node, which Slurm warns a minute before its end; its number."""
    return cluster(
        "sbatch",
        "--parsable",
        f"--chdir={CHECKOUT}",
        f"--output={output}",
        f"--nodes={n_nodes}",
        "--ntasks-per-node=2",
        "--cpus-per-task=1",
        "--time=30",
        "--signal=B:USR1@60",
        "--no-requeue",
        CHECKOUT / "jobscripts" / "slurm.sh",
        *options,
        PATH=variables()["PATH"],
        SLURM_SUBMIT_DIR=str(CHECKOUT),
        DDMD_MPI_VENV=sys.prefix,
    ).strip()


def at_work(cluster, job, run, output, n_sessions):
    """Wait until a session has restarted walkers and has a checkpoint of its own."""
    clock = time.time()

    def there():
        fresh = [p for p in (run.directory / "checkpoints").glob("manifest-*") if p.stat().st_mtime > clock]
        return run.shows("session") == n_sessions - 1 and begun(run.directory) and run.restarted() and fresh

    until(lambda: there() or cluster.has_ended(job), 150)
    assert there(), output.read_text(errors="replace")[-3000:]


def ends(cluster, job, run, output, reason):
    """The job is complete, and so is the run, which ended for this reason."""
    state = cluster.ended(job)
    assert (state["JobState"], state["ExitCode"]) == ("COMPLETED", "0:0"), output.read_text(errors="replace")[-3000:]
    assert (run.summary["completed"], run.summary["stop_reason"]) == (True, reason)
    assert problems(run.directory) == []


def test_a_job_that_is_cancelled_leaves_nobody_and_a_checkpoint(cluster, directory, module_box):
    run, output = Run(directory), directory.with_name("first.out")
    given = [text for s in SETTINGS for text in ("--set", s)]
    job = submit(cluster, output, 3, "--usecase", "bba-go", "--duration", "1h", "--output", directory, *given)
    at_work(cluster, job, run, output, 1)
    assert {rank["host"] for rank in ranks(directory)} == set(module_box.hosts)
    assert min(module_box.bytes(host) for host in module_box.hosts) > 100_000
    cluster("scancel", job)
    assert cluster.ended(job)["JobState"] == "CANCELLED"
    until(lambda: not left(module_box, directory), 30)
    assert problems(directory, ended=False) == []


def test_a_resumed_job_is_told_of_its_end_and_stops_before_it(cluster, directory):
    run, output = Run(directory), directory.with_name("second.out")
    job = submit(cluster, output, 3, "--resume", directory, "--duration", "1h")
    at_work(cluster, job, run, output, 2)
    cluster("scontrol", "update", f"JobId={job}", "EndTime=now+65")
    ends(cluster, job, run, output, "SIGUSR1")


def test_a_job_that_loses_a_node_ends(cluster, directory, module_box):
    run, output = Run(directory), directory.with_name("third.out")
    job = submit(cluster, output, 3, "--resume", directory, "--duration", "1h")
    at_work(cluster, job, run, output, 3)
    module_box.kill("host3")
    assert cluster.ended(job, 90)["JobState"] in ("FAILED", "NODE_FAIL")
    until(lambda: not left(module_box, directory), 30)
    assert problems(directory, ended=False) == []


def test_the_run_is_resumed_on_the_nodes_that_are_left(cluster, directory):
    run, output = Run(directory), directory.with_name("fourth.out")
    n_sessions = 1 + len(list(directory.glob("environment*.json")))
    job = submit(cluster, output, 2, "--resume", directory, "--duration", "1h")
    at_work(cluster, job, run, output, n_sessions)
    assert {rank["host"] for rank in ranks(directory)} == {"host1", "host2"}
    cluster("scancel", "--batch", "--signal=USR1", job)
    ends(cluster, job, run, output, "SIGUSR1")


def left(box, directory):
    """Ranks of the run that still live."""
    found = []
    for host in box.hosts:
        for pid in box.processes(host):
            words = box.start(host, "cat", f"/proc/{pid}/cmdline").communicate(timeout=30)[0]
            found += [pid] if "ddmd" in words and str(directory) in words and "sbatch" not in words else []
    return found
