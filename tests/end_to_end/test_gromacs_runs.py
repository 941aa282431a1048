"""A whole steered run by GROMACS: a child crashes, the run is killed, and it is resumed."""

import signal

import pytest
from program_runs import check_one_failure, check_resumed, ended_and_resumed, initialised
from programs import GMX, ROOT, force_fields, pdb2gmx
from stitched import check_routes

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    files = tmp_path_factory.mktemp("cln025")
    made = pdb2gmx(files, ROOT / "inputs" / "cln025-start.pdb")
    options = ("--parameters", force_fields(), "--solvent", "vacuum")
    config = initialised(files / "input", "gromacs", *made, *options)
    return ended_and_resumed(config, "gmx", signal.SIGSEGV, f"engine.program={GMX}", "simulation.segment_ps=4")


def test_a_crashed_child_is_a_failure_of_its_walker_alone(sessions):
    check_one_failure(sessions, "gromacs ended with exit code -11 after")


def test_children_die_with_a_killed_run(sessions):
    assert sessions.survivors == []


def test_the_run_is_resumed_and_nothing_is_lost_or_left(sessions):
    check_resumed(sessions)


def test_routes_are_continuous(sessions, tmp_path):
    assert check_routes(sessions.directory, tmp_path) > 0
