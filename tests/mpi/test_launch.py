"""The start of an MPI program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi
HERE = Path(__file__).parent


@pytest.mark.parametrize(("n", "gpus"), [(1, "none"), (4, "none"), (4, "shared"), (6, "bound")])
def test_all_ranks_know_the_world_and_agree(mpiexec, n, gpus):
    out = mpiexec(n, HERE / "launch_program.py", gpus).stdout
    assert sorted(out.split()[1::4]) == [str(rank) for rank in range(n)]


@pytest.mark.parametrize("command", [("check",), ("--usecase", "bba-go", "--mode", "file"), ("--usecase", "none")])
def test_ranks_of_the_launcher_of_another_mpi_are_told_once(tmp_path, command):
    """Whether they run or check, in either mode, and with other things wrong, too."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMI", "SLURM_"))}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "ddmd_mpi", *command],
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**variables, "PMI_RANK": str(rank), "PMI_SIZE": "2"},
        )
        for rank in range(2)
    ]
    first, other = (rank.communicate(timeout=60)[1] for rank in ranks)
    assert [rank.returncode for rank in ranks] == [2, 2]
    assert first.count("ddmd-mpi: ") == 1
    assert other == ""
    if "none" not in command:
        assert "PMI_SIZE=2" in first
    assert not list(tmp_path.iterdir())


def test_a_plain_mpiexec_prints_no_error_of_a_transport_that_is_not_used(tmp_path):
    """As the README starts a run: no script has set anything."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_MCA_", "PRTE_MCA_", "UCX_"))}
    variables |= {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    mpiexec = Path(sys.executable).with_name("mpiexec")
    command = [
        mpiexec,
        "-n",
        "4",
        sys.executable,
        "-m",
        "ddmd_mpi",
        "--usecase",
        "bba-go",
        "--duration",
        "6s",
        "--set",
        "training.model=none",
        "--set",
        "steering.strategy=greedy",
        "--output",
        tmp_path / "run",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "summary.json").exists()
    assert "UCX" not in done.stdout + done.stderr


def test_an_exit_code_comes_through(mpiexec):
    assert mpiexec(2, HERE / "leave.py", 2, check=False).returncode == 2
