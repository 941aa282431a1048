"""Streams between ranks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.mpi


def mpiexec(n, program, *args, timeout=60):
    """Standard output of `program` on n ranks, which must succeed."""
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    launcher = [Path(sys.executable).with_name("mpiexec"), "-n", n, "--oversubscribe", "--bind-to", "none"]
    command = [*launcher, sys.executable, "-m", "mpi4py", HERE / program, *args]
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=timeout, env=environment, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize(("engine", "first_hop"), [("SST", "adios2"), ("SST", "mpi"), ("BP5", "adios2")])
def test_every_payload_arrives_in_order_and_the_end_with_it(tmp_path, engine, first_hop):
    out = mpiexec(4, "streams_round_trip.py", engine, first_hop, tmp_path / "streams", 200, 1)
    assert "all payloads arrived" in out


def test_stale_files_of_an_earlier_run_do_no_harm(tmp_path):
    for stale in ("SimulationOutput-1.sst", "SimulationOutput-1-to-0.sst", "hub.sst"):
        (tmp_path / stale).write_text("#ADIOS2-SST v0\n0x1:AAAA")
    assert "all payloads arrived" in mpiexec(2, "streams_round_trip.py", "SST", "adios2", tmp_path, 10, 1)
    for _ in range(2):
        assert "all payloads arrived" in mpiexec(2, "streams_round_trip.py", "BP5", "adios2", tmp_path, 10, 1)


def test_the_streams_of_a_run_open_flow_past_a_stuck_reader_and_end(tmp_path):
    assert "every stream ended" in mpiexec(5, "streams_roles.py", tmp_path)


@pytest.mark.timeout(200)
def test_thirty_two_writers_on_one_reader_ten_times(tmp_path):
    out = mpiexec(33, "streams_round_trip.py", "SST", "adios2", tmp_path, 5, 10, timeout=180)
    assert "all payloads arrived" in out
