"""What the hosts of a run must have in common."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from ddmd_mpi import run
from ddmd_mpi.errors import LayoutError, RunDirectoryError
from ddmd_mpi.parallel import hosts
from ddmd_mpi.parallel.hosts import CLOCK_SECONDS, Peer, check_alike, check_sees, mark, program

ONE = Peer("node1", "0.1.0 (12345678)", "Open MPI v5.0.11", 1000.0)


@pytest.mark.parametrize(("change", "words"), [
    ({"program": "0.2.0 (0)"}, "node1 has ddmd-mpi 0.1.0 .* and node2 has 0.2.0 .*install the same"),
    ({"mpi": "Open MPI v4.1.6"}, "node1 has Open MPI v5.0.11 and node2 has Open MPI v4.1.6: load the same MPI"),
    ({"time": 1000.0 + 2 * CLOCK_SECONDS}, "clock of node2 is 60 s ahead of that of node1: set them"),
    ({"time": 1000.0 - 5 * CLOCK_SECONDS}, "clock of node1 is 150 s ahead of that of node2"),
])  # fmt: skip
def test_hosts_that_do_not_fit_are_named_with_the_cure(change, words):
    with pytest.raises(LayoutError, match=words):
        check_alike([ONE, ONE, ONE._replace(host="node2", **change), ONE])


def test_hosts_that_fit():
    check_alike([ONE])
    check_alike([ONE, ONE._replace(host="node2", time=1000.0 + 0.5 * CLOCK_SECONDS)])


def test_the_program_is_known_by_its_sources(tmp_path):
    """A copy is the same, and one with another module of the same version is not."""
    for name in ("a", "b"):
        (tmp_path / name / "room").mkdir(parents=True)
        (tmp_path / name / "room" / "x.py").write_text("x = 1\n")
    assert program("1", tmp_path / "a") == program("1", tmp_path / "b") != program("2", tmp_path / "b")
    (tmp_path / "b" / "y.py").touch()
    assert program("1", tmp_path / "a") != program("1", tmp_path / "b")


def test_a_run_directory_that_another_host_does_not_see_is_refused(tmp_path):
    """Also if that host has one of its own at the same path."""
    here, there = tmp_path / "host1", tmp_path / "host2"
    here.mkdir()
    marker = mark(here)
    check_sees(marker, [], "host2", "host1")
    there.mkdir()
    mark(there)
    for directory in (there, tmp_path / "none"):
        with pytest.raises(RunDirectoryError, match="host2 does not see the run directory .* of host1.*--output"):
            check_sees(directory / marker.name, [], "host2", "host1", seconds=0.0)


def test_an_input_that_another_host_does_not_see_is_refused(tmp_path):
    marker = mark(tmp_path)
    with pytest.raises(RunDirectoryError, match=r"host2 does not see .*mine\.pdb, which host1 does"):
        check_sees(marker, [tmp_path / "mine.pdb"], "host2", "host1", seconds=0.0)


def test_a_file_may_appear_later(tmp_path, monkeypatch):
    """As on a network file system."""
    path = tmp_path / "late"
    monkeypatch.setattr(hosts.time, "sleep", lambda _: path.touch())
    check_sees(mark(tmp_path), [path], "host2", "host1", seconds=60.0)


def test_the_input_files_are_those_that_the_settings_name(tmp_path):
    for name in ("a.pdb", "b.xml"):
        (tmp_path / name).touch()
    settings = {
        "system": {
            "start": tmp_path / "a.pdb",
            "force_field": ["amber14-all.xml", str(tmp_path / "b.xml")],
            "target": None,
            "rows": [{"ligand": tmp_path / "none.pdb"}],
        },
        "run": {"seed": 1},
    }
    assert hosts.input_files(settings) == [tmp_path / "a.pdb", tmp_path / "b.xml"]


@pytest.fixture
def world():
    """The second of two hosts, seen from its first rank."""
    comm = SimpleNamespace(allgather=lambda value: [value], Ibarrier=MagicMock)
    return SimpleNamespace(
        hosts=("host1", "host2"),
        node=1,
        rank=0,
        node_comm=SimpleNamespace(rank=0),
        comm=comm,
        agree=lambda function: function(),
    )


CONFIG = SimpleNamespace(plain=dict)


def test_one_rank_of_every_host_looks_for_the_run_directory(world, tmp_path, monkeypatch):
    run.check_shared(world, tmp_path, CONFIG)
    assert not list(tmp_path.iterdir()), "nothing stays behind"
    monkeypatch.setattr(run, "mark", lambda directory: directory / "of host1")
    monkeypatch.setattr(run, "check_sees", lambda *arguments: check_sees(*arguments, seconds=0.0))
    with pytest.raises(RunDirectoryError, match="host2 does not see"):
        run.check_shared(world, tmp_path, CONFIG)
    world.node_comm.rank = 1
    run.check_shared(world, tmp_path, CONFIG)


def test_a_single_host_is_not_asked(world):
    world.hosts = ("host1",)
    run.check_shared(world, None, None)
