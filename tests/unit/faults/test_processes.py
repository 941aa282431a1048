"""Processes of the same node that are stopped: seen, borne for a while, and killed."""

import os
import signal
import subprocess
import sys

import pytest

from ddmd_mpi.faults import processes
from ddmd_mpi.faults.processes import NodeProcesses, Process, look_at, myself, neighbours

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def child():
    """A process that waits to be told something."""
    with subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        yield process
        process.kill()


def stop(child):
    os.kill(child.pid, signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)


def test_a_process_is_known_by_its_number_and_its_begin(child):
    me, other = myself(), Process(child.pid, look_at(child.pid)[1])
    assert me.pid == os.getpid()
    assert other.began >= me.began > 0
    reused = Process(child.pid, other.began + 1)
    everyone = [me, other, reused, other]
    assert neighbours(everyone, [0, 0, 0, 1], 0) == {1: other}, "neither who is elsewhere nor who only has the number"
    assert neighbours([me, Process(child.pid, 0)], [0, 0], 0) == {}, "a machine without /proc"


def test_who_stays_stopped_is_killed(child):
    stop(child)
    watch = NodeProcesses({4: Process(child.pid, look_at(child.pid)[1])}, limit=3.0)
    for _ in range(3):
        watch.look(1.0)
    assert child.poll() is None
    assert watch.stopped == {4}
    watch.look(1.0)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    watch.look(1.0)
    assert watch.stopped == {4}, "it is remembered why"
    assert child.wait() == -signal.SIGKILL
    assert watch.ended == {4}


@pytest.mark.parametrize("reaped", [True, False])
def test_who_ends_by_itself_is_noticed(child, reaped):
    watch = NodeProcesses({4: Process(child.pid, look_at(child.pid)[1])})
    watch.look(1.0)
    assert watch.ended == frozenset()
    child.stdin.write("\n")
    child.stdin.flush()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    if reaped:
        child.wait()
    watch.look(1.0)
    assert watch.ended == {4}


def test_who_goes_on_is_spared(child):
    watch = NodeProcesses({4: Process(child.pid, look_at(child.pid)[1])}, limit=3.0)
    for _ in range(3):
        stop(child)
        watch.look(2.0)
        watch.look(2.0)
        os.kill(child.pid, signal.SIGCONT)
        os.waitpid(child.pid, os.WCONTINUED)
        watch.look(2.0)
        watch.look(2.0)
        assert watch.stopped == frozenset()
    child.communicate("\n")
    assert child.returncode == 0


def test_another_process_with_the_same_number_is_left_alone(child, monkeypatch):
    monkeypatch.setattr(processes.os, "kill", lambda *_: pytest.fail("killed"))
    began = look_at(child.pid)[1]
    watch = NodeProcesses({4: Process(child.pid, began)}, limit=1.0)
    monkeypatch.setattr(processes, "look_at", lambda _: ("T", began + 1))
    for _ in range(5):
        watch.look(1.0)


def test_a_suspended_process_is_known_by_the_files_that_it_holds_open(tmp_path):
    """What has ended, runs, or is stopped elsewhere does not count."""
    (tmp_path / "run").mkdir()
    code = f"file = open({str(tmp_path / 'run' / 'x.log')!r}, 'w'); print('up', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert processes.suspended_in(tmp_path / "run") == []
        stop(process)
        assert processes.suspended_in(tmp_path / "run") == [process.pid]
        assert processes.suspended_in(tmp_path / "ru") == []
        process.kill()


def test_the_thread_looks_by_itself(child):
    stop(child)
    watch = NodeProcesses({4: Process(child.pid, look_at(child.pid)[1])}, limit=0.2).start()
    assert child.wait() == -signal.SIGKILL
    watch.free()
