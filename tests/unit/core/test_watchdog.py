"""A process whose loop no longer turns ends, and says where it was."""

import subprocess
import sys

import pytest

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
