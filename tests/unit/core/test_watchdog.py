"""A process whose loop no longer turns ends, and says where it was."""

import signal
import subprocess
import sys

import pytest

from ddmd_mpi.watchdog import waits_for_disk

HANGS = """
import ctypes, sys, threading
from pathlib import Path
from ddmd_mpi import logs
from ddmd_mpi.events import EventLog
from ddmd_mpi.watchdog import Watchdog

def wait_for_ever():
    if sys.argv[2] == "holding":
        ctypes.PyDLL(None).sleep(100)  # keeps the interpreter's lock
    threading.Event().wait()

path, events = Path(sys.argv[1]), EventLog(None, "training", 4)
watchdog = Watchdog(path, events, logs.configure(path, "training", 4))
watchdog.beat(100.0)
with events.span("train_round"), events.span("io"):
    watchdog.beat(4.0)
    wait_for_ever()
"""


@pytest.mark.parametrize("lock", ["holding", "waiting"])
def test_a_hang_ends_with_the_stack_in_the_log(tmp_path, lock):
    path = tmp_path / "training-0004.log"
    done = subprocess.run([sys.executable, "-c", HANGS, path, lock], timeout=30, capture_output=True, check=False)
    assert done.returncode == 1, done.stderr
    text = path.read_text()
    assert "in wait_for_ever" in text
    assert ("in train_round > io" in text) == (lock == "waiting"), "the span needs the interpreter, the stack does not"


IDLES = """
import sys, threading, time
from pathlib import Path
from ddmd_mpi import logs
from ddmd_mpi.events import EventLog
from ddmd_mpi.watchdog import Watchdog

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
    done = subprocess.run([sys.executable, "-c", IDLES, path, how], timeout=60, capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stdout) == ((0, "goes on\n") if goes_on else (-signal.SIGKILL, "")), done.stderr
    text = path.read_text()
    assert ("in wait_for_what_does_not_come" in text) != goes_on
    assert ("it uses no processor and has made no progress" in text) != goes_on
    assert ("in load" in text) != goes_on


@pytest.mark.parametrize(("states", "waits"), [("SSR", False), ("SDS", True), ("", False)])
def test_a_thread_that_waits_for_a_disk_is_seen(tmp_path, states, waits):
    for number, state in enumerate(states):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "stat").write_text(f"{number} (a D (S) thread) {state} 1 2 3\n")
    assert waits_for_disk(tmp_path) is waits
