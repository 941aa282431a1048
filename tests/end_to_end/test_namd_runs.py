"""A whole steered run of the engine namd, which the stand-in plays: a child is killed, the run, and it is resumed."""

import signal

import pytest
from namd_stand_in import installed
from program_runs import check_one_failure, check_resumed, ended_and_resumed, initialised
from programs import chignolin

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    files = tmp_path_factory.mktemp("cln025")
    config = initialised(files / "input", "namd", *chignolin(files), "--solvent", "implicit")
    # A start of the stand-in takes seconds: it loads Python and OpenMM.
    pace = ("simulation.segment_ps=8", "simulation.walkers_per_rank=2")
    return ended_and_resumed(config, "namd3", signal.SIGKILL, f"engine.program={installed(files)}", *pace)


def test_a_killed_child_is_a_failure_of_its_walker_alone(sessions):
    check_one_failure(sessions, "namd ended with exit code -9 after")


def test_children_die_with_a_killed_run(sessions):
    assert sessions.survivors == []


def test_the_run_is_resumed_and_nothing_is_lost_or_left(sessions):
    check_resumed(sessions)
