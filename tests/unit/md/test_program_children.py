"""Programs as children: their environment, their end, and what is said of those that fail or hang."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ddmd_mpi.config.dynamics import EngineSection, SimulationSection
from ddmd_mpi.config.schema import FaultsSection
from ddmd_mpi.errors import EngineError
from ddmd_mpi.md.prepared import Particles, State
from ddmd_mpi.md.programs import child as child_module
from ddmd_mpi.md.programs.child import (
    SCRATCH,
    Child,
    Patience,
    child_environment,
    clear_scratch,
    last_lines,
    scratch_of,
)
from ddmd_mpi.md.programs.engine import LONGEST_PAUSE, PAUSE_OF_REPORT, SHORTEST_PAUSE, ProgramEngine

SIMULATION = SimulationSection(timestep_fs=1.0, report_interval_ps=0.01, segment_ps=0.03, minimize=False)
N_ATOMS = 4
STRUCTURES = Particles(
    np.zeros((N_ATOMS, 3)),
    np.arange(3),
    np.zeros((3, 3)),
    np.zeros(3, int),
    np.zeros((3, 3), np.float32),
    False,
    np.ones(N_ATOMS),
    np.zeros(N_ATOMS, int),
)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(reached, seconds=60):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Script:
    """A program of these tests: the shell script that it is, which writes a file for each frame."""

    name, log, n_reports = "script", "log", 3

    def __init__(self, script):
        self.script, self.starts = script, []

    def run(self, directory, start, seed):
        for path in (*directory.glob("frame-*"), *directory.glob("begun")):
            path.unlink()
        self.starts.append((start, seed))
        return ["/bin/sh", "-c", self.script]

    def output(self, directory):
        class Output:
            def begun(self):
                return any((directory / name).exists() for name in ("begun", "frame-0"))

            def frame(self, index):
                path = directory / f"frame-{index}"
                # The shell makes the file before it writes to it.
                if not path.exists() or not path.read_text():
                    return None
                value = float(path.read_text())
                return State(*(np.full((n, 3), value, np.float32) for n in (N_ATOMS, N_ATOMS, 3)), value)

        return Output()


THREE = "for i in 0 1 2; do echo $i > new; mv new frame-$i; done"


@pytest.fixture
def engine(tmp_path):
    made = []

    def make(script, **faults):
        settings, beats = FaultsSection(**faults), []
        given = (Script(script), STRUCTURES, SIMULATION, settings, 1, tmp_path / SCRATCH)
        made.append(ProgramEngine(*given, waiting=lambda: beats.append(time.monotonic())))
        made[-1].beats = beats
        made[-1].program = made[-1]._program
        made[-1].start(5)
        return made[-1]

    yield make
    for one in made:
        one.free()
    assert not list((tmp_path / SCRATCH).iterdir())


def test_a_child_knows_nothing_of_mpi():
    environment = {"OMPI_X": "1", "PMIX_RANK": "2", "PRTE_Y": "3", "PMI_RANK": "0", "PATH": "/bin", "HYDRA_Z": "1"}
    assert child_environment(2, environment) == {"PATH": "/bin", "OMP_NUM_THREADS": "2"}


def test_what_a_child_prints_is_in_its_directory(tmp_path):
    child = Child(["sh", "-c", "echo one; echo two >&2; pwd"], tmp_path)
    wait_for(lambda: child.exit_code is not None)
    assert child.exit_code == 0
    assert last_lines(tmp_path / "program.log", 2) == f"two / {tmp_path}"


def test_a_program_that_is_not_there_says_so(tmp_path):
    child = Child(["/no/such/program"], tmp_path)
    wait_for(lambda: child.exit_code is not None)
    assert child.exit_code != 0
    assert last_lines(tmp_path / "program.log") == "/no/such/program cannot be run: No such file or directory"


def test_the_whole_group_ends_even_if_it_ignores_the_request(tmp_path):
    child = Child(["sh", "-c", "trap '' TERM INT HUP; sleep 1000 & echo $! > grandchild; wait; wait"], tmp_path)
    wait_for(lambda: (tmp_path / "grandchild").exists() and (tmp_path / "grandchild").read_text().strip())
    grandchild = int((tmp_path / "grandchild").read_text())
    assert alive(grandchild)
    child.end()
    wait_for(lambda: not alive(grandchild) and not alive(child.pid))


def test_what_a_child_leaves_behind_ends_with_it_and_its_number_is_not_used_again(tmp_path, monkeypatch):
    child = Child(["sh", "-c", "sleep 1000 & echo $! > grandchild"], tmp_path)
    wait_for(lambda: child.exit_code is not None)
    wait_for(lambda: not alive(int((tmp_path / "grandchild").read_text())))
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("another process may have this number by now"))
    child.end()


def test_a_child_dies_with_the_process_that_started_it(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from ddmd_mpi.md.programs.child import Child\n"
        f"child = Child(['sleep', '1000'], Path({str(tmp_path)!r}))\n"
        "print(child.pid, flush=True); time.sleep(1000)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    wait_for(lambda: Path(f"/proc/{pid}/cmdline").read_text().startswith("sleep"))
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    wait_for(lambda: not alive(pid))


def test_runs_follow_each_other_with_other_seeds(engine):
    moved = engine(THREE)
    energies = []
    for _ in range(7):
        moved.advance(SIMULATION.steps_per_report)
        energies.append(moved.state().potential_energy)
    assert energies == [0, 1, 2, 0, 1, 2, 0]
    (first, *others), seeds = (list(x) for x in zip(*moved.program.starts, strict=True))
    assert first is not None
    assert others == [None, None]
    assert len(set(seeds)) == 3


def test_a_state_that_is_set_ends_the_child(engine):
    moved = engine("echo $$ > pid; echo 1 > frame-0; sleep 1000")
    moved.advance(SIMULATION.steps_per_report)
    pid = int((moved._directory / "pid").read_text())
    moved.set_state(np.ones((N_ATOMS, 3)), seed=3)
    assert not alive(pid)
    np.testing.assert_array_equal(moved.state().positions, 1)
    moved.advance(SIMULATION.steps_per_report)
    start, _ = moved.program.starts[-1]
    np.testing.assert_array_equal(start.positions, 1)


def failure(moved):
    with pytest.raises(EngineError) as caught:
        moved.advance(3 * SIMULATION.steps_per_report)
    return str(caught.value)


def test_a_program_that_ends_too_early_is_a_failure_with_its_last_words(engine):
    said = failure(engine("echo 0 > frame-0; echo first > log; echo no licence >&2; exit 3"))
    assert said == "script ended with exit code 3 after 1 reports; its last lines: first / no licence"


def test_a_program_that_writes_nothing_is_a_failure(engine):
    assert failure(engine("exit 0")) == "script ended with exit code 0 after 0 reports; its last lines: none"


def test_a_program_that_fails_after_its_last_report_is_a_failure(engine):
    moved = engine(f"{THREE}; exit 9")
    moved.advance(3 * SIMULATION.steps_per_report)
    assert "ended with exit code 9 after its last report" in failure(moved)


def test_frames_and_states_of_another_molecule_are_failures(engine, monkeypatch):
    moved = engine(THREE)
    with pytest.raises(EngineError, match="a state of 5 atoms cannot be set: the topology has 4"):
        moved.set_state(np.ones((5, 3)), seed=3)
    monkeypatch.setattr(sys.modules[__name__], "N_ATOMS", 5)
    moved.set_state(np.ones((4, 3)), seed=3)
    assert "has written a frame of 5 atoms, not of 4" in failure(moved)


def test_coordinates_that_are_not_finite_are_a_failure(engine):
    assert "became unstable" in failure(engine("echo nan > frame-0; sleep 1000"))


def test_a_child_that_sleeps_hangs_and_one_that_computes_does_not(engine):
    sleeping = engine("echo 0 > frame-0; sleep 1000", hang_after=1.0)
    assert re.search("has used no CPU for|has written no frame for", failure(sleeping))
    spins = "import time; end = time.monotonic() + 4\nwhile time.monotonic() < end: pass"
    computing = engine(f"{sys.executable} -S -c '{spins}'; {THREE}", hang_after=1.0)
    computing.advance(SIMULATION.steps_per_report)
    assert computing.state().potential_energy == 0


def test_one_that_is_slow_to_start_is_waited_for_while_it_computes(engine):
    """In the step that a restart takes before anything else; one that sleeps there hangs."""
    spins = "import time; end = time.monotonic() + 3\nwhile time.monotonic() < end: pass"
    slow = engine(f"{sys.executable} -S -c '{spins}'; echo > begun; sleep 1000", hang_after=1.0)
    slow.advance(1)
    assert (slow._directory / "begun").exists()
    # The rank says meanwhile that it is alive.
    assert slow.beats
    asleep = engine("sleep 1000", hang_after=1.0)
    with pytest.raises(EngineError, match="script was ended: process .* has used no CPU for"):
        asleep.advance(1)


def test_one_that_never_starts_to_step_is_ended_after_the_time_of_a_start(engine):
    computing = engine("while :; do :; done", hang_after=1.0, start_within=2.0)
    with pytest.raises(EngineError, match="script was ended: process .* has written no frame for"):
        computing.advance(1)


def test_one_that_cannot_be_killed_is_a_failure_and_the_next_is_started(engine, monkeypatch):
    """A process that waits for a disk that is gone ignores even that signal."""
    moved = engine("echo 0 > frame-0; sleep 1000")
    moved.advance(SIMULATION.steps_per_report)
    child = moved._child
    with monkeypatch.context() as patch:
        patch.setattr(child_module, "END_SECONDS", 0.05)
        patch.setattr(child, "_kill", lambda: None)
        with pytest.raises(EngineError, match=f"process {child.pid} was killed and has not ended for 0.05 s"):
            moved.set_state(np.ones((N_ATOMS, 3)), seed=3)
    moved.set_state(np.ones((N_ATOMS, 3)), seed=4)
    moved.advance(SIMULATION.steps_per_report)
    assert moved._child.pid != child.pid
    child.end()


def test_frames_that_a_file_system_shows_late_are_taken_in_their_order(engine):
    moved = engine(f"sleep 1; {THREE}")
    energies = []
    for _ in range(4):
        moved.advance(SIMULATION.steps_per_report)
        energies.append(moved.state().potential_energy)
    assert energies == [0, 1, 2, 0]


def test_a_child_that_computes_and_reports_no_more_hangs(engine):
    assert "has written no frame for" in failure(engine("echo 0 > frame-0; while :; do :; done", hang_after=1.0))


def test_one_that_works_is_seen_to_without_a_look_at_every_process(tmp_path, monkeypatch):
    """Also if it has only started the one that works."""
    child = Child(["sh", "-c", "while :; do :; done"], tmp_path)
    other = Child(["sh", "-c", "(while :; do :; done) & wait"], tmp_path)
    idle = Child(["sleep", "1000"], tmp_path)
    try:
        wait_for(lambda: other.work()[1])
        wait_for(lambda: not idle.work()[1])
        monkeypatch.setattr(Path, "glob", lambda *_: pytest.fail("every process was looked at"))
        wait_for(lambda: child.work()[1])
    finally:
        for one in (child, other, idle):
            one.end()


def test_looks_are_rare_between_reports_and_frequent_while_a_program_starts_or_ends(engine):
    moved = engine("echo 0 > frame-0; sleep 1000")
    assert moved.pause_s == SHORTEST_PAUSE
    moved.advance(SIMULATION.steps_per_report)
    moved._reported = time.monotonic() - 1.0
    assert 1.0 * PAUSE_OF_REPORT <= moved.pause_s < 2.0 * PAUSE_OF_REPORT
    moved._report_s = 1000.0
    assert moved.pause_s == LONGEST_PAUSE
    moved._taken = moved.program.n_reports
    assert moved.pause_s == SHORTEST_PAUSE


def test_a_report_may_take_as_long_as_the_slowest_before():
    patience = Patience(idle_s=1.0, first_s=900.0)
    assert patience.silent_limit == 900
    patience._silent = 5.0
    patience.reported()
    assert patience.silent_limit == pytest.approx(50, rel=0.01)


def test_scratch_is_in_the_run_directory_or_where_the_settings_say(tmp_path, monkeypatch):
    assert scratch_of(EngineSection(), tmp_path) == tmp_path / SCRATCH
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "disk"))
    assert scratch_of(EngineSection(scratch="$NODE_DISK/x"), tmp_path) == tmp_path / "disk" / "x"
    with pytest.raises(EngineError, match="not an absolute path"):
        scratch_of(EngineSection(scratch="$NO_SUCH_VARIABLE/x"), tmp_path)


def test_what_killed_ranks_have_left_is_cleared(tmp_path):
    (tmp_path / SCRATCH / "amber-1").mkdir(parents=True)
    clear_scratch(tmp_path)
    assert not (tmp_path / SCRATCH).exists()


def test_there_is_no_scratch_in_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="no directory for script can be made in"):
        ProgramEngine(Script(""), STRUCTURES, SIMULATION, FaultsSection(), 1, tmp_path / "file")
