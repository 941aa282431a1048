"""A process whose loop no longer turns ends, and says where it was."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ddmd_mpi.clock import MAX_SECONDS
from ddmd_mpi.faults.watchdog import end_process, waits_for_disk

WITHIN = 3.0  # as promised by the process below

HANGS = """
import ctypes, sys, threading
from pathlib import Path
from ddmd_mpi.monitor import logs
from ddmd_mpi.clock import monotonic
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.faults.watchdog import Watchdog

def wait_for_ever():
    print("waits", flush=True)
    if sys.argv[2] == "holding":
        ctypes.PyDLL(None).sleep(100)  # keeps the interpreter's lock
    threading.Event().wait()

path, events = Path(sys.argv[1]), EventLog(None, "training", 4)
monotonic.start()
watchdog = Watchdog(path, events, logs.configure(path, "training", 4))
watchdog.beat(100.0)
with events.span("train_round"), events.span("io"):
    watchdog.beat(3.0)
    wait_for_ever()
"""


@pytest.fixture
def hangs(tmp_path):
    """Start a process that hangs, with the interpreter's lock or without; it and its log."""
    started = []

    def start(lock):
        path = tmp_path / "training-0004.log"
        process = subprocess.Popen([sys.executable, "-c", HANGS, path, lock], stdout=subprocess.PIPE, text=True)
        started.append(process)
        process.stdout.readline()
        return process, path

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_hang_ends_with_the_stack_in_the_log(hangs):
    process, path = hangs("waiting")
    assert process.wait(30) == -signal.SIGKILL
    text = path.read_text()
    assert "in wait_for_ever" in text
    assert "in train_round > io" in text


def test_a_hang_with_the_lock_of_the_interpreter_held_leaves_its_stack_to_whoever_ends_it(hangs):
    process, path = hangs("holding")
    end_process(process.pid)
    assert process.wait(30) == -signal.SIGKILL
    assert "in wait_for_ever" in path.read_text()


def test_a_process_that_was_suspended_is_not_late(hangs):
    """For longer than it had promised: it has as much time left as before."""
    process, path = hangs("waiting")
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    time.sleep(WITHIN + 0.5)
    os.kill(process.pid, signal.SIGCONT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5 * (WITHIN - MAX_SECONDS))
    assert path.read_text() == ""
    assert process.wait(30) == -signal.SIGKILL, "it hangs, and is found to"


def test_a_start_that_takes_too_long_ends():
    code = (
        "import sys, threading; from ddmd_mpi.faults.watchdog import StartLimit; "
        "limit = StartLimit(0.5, sys.stderr); sys.argv[1:] and limit.lift(); threading.Event().wait(2.0)"
    )
    late = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert late.returncode == -signal.SIGKILL
    assert "in wait" in late.stderr
    assert subprocess.run([sys.executable, "-c", code, "lifted"], check=False, timeout=30).returncode == 0


IDLES = """
import sys, threading, time
from pathlib import Path
from ddmd_mpi.monitor import logs
from ddmd_mpi.monitor.events import EventLog
from ddmd_mpi.faults.watchdog import Watchdog

def wait_for_what_does_not_come():
    threading.Event().wait(6)

def work():
    end = time.monotonic() + 6
    while time.monotonic() < end:
        sum(range(10000))

path, events = Path(sys.argv[1]), EventLog(None, "training", 4)
threading.Thread(target=lambda: [sum(range(10000)) for _ in range(10000)], name="ddmd-looker", daemon=True).start()
watchdog = Watchdog(path, events, logs.configure(path, "training", 4), idle_after=2.0)
with events.span("load"):
    watchdog.beat(100.0, on_disk=sys.argv[2] == "disk")
    (work if sys.argv[2] == "works" else wait_for_what_does_not_come)()
watchdog.free()
print("goes on")
"""


@pytest.mark.parametrize(("how", "goes_on"), [("idle", False), ("works", True), ("disk", True)])
def test_who_does_nothing_ends_long_before_its_promise(tmp_path, how, goes_on):
    """A thread that only looks makes no difference."""
    path = tmp_path / "training-0004.log"
    done = subprocess.run(
        [sys.executable, "-c", IDLES, path, how], timeout=60, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == ((0, "goes on\n") if goes_on else (-signal.SIGKILL, "")), done.stderr
    text = path.read_text()
    assert ("in wait_for_what_does_not_come" in text) != goes_on
    assert ("it uses no CPU and has made no progress" in text) != goes_on
    assert ("in load" in text) != goes_on


@pytest.mark.parametrize(("states", "waits"), [("SSR", False), ("SDS", True), ("", False)])
def test_a_thread_that_waits_for_a_disk_is_seen(tmp_path, states, waits):
    for number, state in enumerate(states):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "stat").write_text(f"{number} (a D (S) thread) {state} 1 2 3\n")
    assert waits_for_disk(tmp_path) is waits
