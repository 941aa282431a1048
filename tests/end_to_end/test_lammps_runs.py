"""A whole steered run by LAMMPS, whose frames come by IMDv3: a child is killed, then the run, and it is resumed."""

import signal

import pytest
from lammps_files import lammps
from program_runs import check_one_failure, check_resumed, ended_and_resumed
from programs import LMP, ROOT, chignolin

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    files = tmp_path_factory.mktemp("cln025")
    pdb, data, given = lammps(files, *chignolin(files))
    (files / "config.toml").write_text(
        f'[run]\nusecase = "chignolin"\n[system]\nname = "cln025"\nstart = "{pdb}"\ntopology = "{data}"\n'
        f'solvent = "vacuum"\ntarget = "{ROOT / "inputs" / "cln025-target.pdb"}"\n[engine]\ninput = "{given}"\n'
    )
    settings = ("simulation.engine=lammps", f"engine.program={LMP}")
    return ended_and_resumed(files / "config.toml", "lmp", signal.SIGKILL, *settings)


def test_a_killed_child_is_a_failure_of_its_walker_alone(sessions):
    check_one_failure(sessions, "lammps ended with exit code -9 after")


def test_children_die_with_a_killed_run(sessions):
    assert sessions.survivors == []


def test_the_run_is_resumed_and_nothing_is_lost_or_left(sessions):
    check_resumed(sessions)
