"""Streams between ranks."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.mpi


@pytest.mark.parametrize(("engine", "first_hop"), [("SST", "adios2"), ("SST", "mpi"), ("BP5", "adios2")])
def test_every_payload_arrives_in_order_and_the_end_with_it(tmp_path, mpiexec, engine, first_hop):
    result = mpiexec(4, HERE / "streams_round_trip.py", engine, first_hop, tmp_path / "streams", 200, 1)
    assert "all payloads arrived" in result.stdout


def test_stale_files_of_an_earlier_run_do_no_harm(tmp_path, mpiexec):
    for stale in ("SimulationOutput-1.sst", "SimulationOutput-1-to-0.sst", "hub.sst"):
        (tmp_path / stale).write_text("#ADIOS2-SST v0\n0x1:AAAA")
    for engine in ("SST", "BP5", "BP5"):
        result = mpiexec(2, HERE / "streams_round_trip.py", engine, "adios2", tmp_path, 10, 1)
        assert "all payloads arrived" in result.stdout


def test_the_streams_of_a_run_open_flow_past_a_stuck_reader_and_end(tmp_path, mpiexec):
    assert "every stream ended" in mpiexec(5, HERE / "streams_roles.py", tmp_path).stdout


def test_thirty_two_writers_on_one_reader_ten_times(tmp_path, mpiexec):
    result = mpiexec(33, HERE / "streams_round_trip.py", "SST", "adios2", tmp_path, 5, 10, timeout=240)
    assert "all payloads arrived" in result.stdout


@pytest.mark.parametrize("first_hop", ["adios2", "mpi"])
def test_a_late_reader_holds_nobody_up_and_gets_everything(tmp_path, mpiexec, first_hop):
    assert "read after all" in mpiexec(2, HERE / "streams_late_reader.py", first_hop, tmp_path).stdout
