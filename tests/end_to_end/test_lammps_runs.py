"""A whole steered run by LAMMPS, whose frames come by IMDv3: a child is killed, then the run, and it is resumed."""

import signal

import pytest
from lammps_files import lammps
from program_runs import check_one_failure, check_resumed, ended_and_resumed, initialised
from programs import LMP, chignolin
from stitched import check_routes

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    files = tmp_path_factory.mktemp("cln025")
    pdb, data, given = lammps(files, *chignolin(files))
    config = initialised(files / "input", "lammps", data, pdb, "--input", given, "--solvent", "vacuum")
    return ended_and_resumed(config, "lmp", signal.SIGKILL, f"engine.program={LMP}")


def test_a_killed_child_is_a_failure_of_its_walker_alone(sessions):
    check_one_failure(sessions, "lammps ended with exit code -9 after")


def test_children_die_with_a_killed_run(sessions):
    assert sessions.survivors == []


def test_the_run_is_resumed_and_nothing_is_lost_or_left(sessions):
    check_resumed(sessions)


def test_routes_are_continuous(sessions, tmp_path):
    assert check_routes(sessions.directory, tmp_path) > 0
