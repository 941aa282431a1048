"""``jobscripts/slurm.sh`` under a real Slurm: jobs that end, are told to stop, and lose a rank."""

import json
import os
import random
import signal
import sys
from pathlib import Path

import pytest
from checker import problems
from hurt_jobs import SETTINGS, has_checkpoint, nobody_is_left, pid_of, running, wait
from slurm_cluster import slurm

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(150)]

CHECKOUT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm(tmp_path_factory.mktemp("slurm")) as one:
        yield one


def submit(cluster, directory, *options, duration="10s", nodes=1, sets=(), **environment):
    """Submit a job of six ranks; its number."""
    given = [text for s in (*SETTINGS, *sets) for text in ("--set", s)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return cluster("sbatch", "--parsable", f"--chdir={CHECKOUT}", f"--output={directory}.out", f"--nodes={nodes}",
                   "--ntasks=6", f"--ntasks-per-node={6 // nodes}", "--cpus-per-task=1", *options,
                   CHECKOUT / "jobscripts" / "slurm.sh", "--usecase", "bba-go", "--duration", duration, "--output",
                   directory, *given, PATH=path, SLURM_SUBMIT_DIR=str(CHECKOUT), OMP_NUM_THREADS="1",
                   OMPI_MCA_mpi_yield_when_idle="1", **environment).strip()


def summary(directory):
    return json.loads((directory / "summary.json").read_text())


def out(directory):
    return Path(f"{directory}.out").read_text(errors="replace")[-3000:]


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_job_comes_to_its_end(cluster, tmp_path, nodes):
    directory = tmp_path / "run"
    state = cluster.ended(submit(cluster, directory, nodes=nodes))
    assert (state["JobState"], state["ExitCode"]) == ("COMPLETED", "0:0"), out(directory)
    assert (summary(directory)["completed"], summary(directory)["stop_reason"]) == (True, "duration")
    assert problems(directory) == []
