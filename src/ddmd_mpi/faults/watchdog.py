"""The watchdog of a process: if its loop no longer turns, it logs what the process was doing and ends it.

A thread of Python watches, by the awake clock: time in which the process was suspended does not count. If a foreign
library holds the interpreter's lock forever, that thread cannot run; then the first aggregator declares the rank lost,
and a rank of its node ends it by :func:`end_process`, which makes it write its stack without the interpreter.

What takes long (a first load, a round) may promise many minutes. A hang is noticed even then: a process that uses no
CPU, and has no thread that waits for a disk, waits for something that does not come.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ..clock import monotonic
from ..monitor.events import EventLog

#: The span is named when this share of the time has passed.
WARN = 0.9
LOOK_SECONDS = 0.5
#: Who uses a smaller share of a processor does nothing; own threads that only look do not count.
IDLE_SHARE, LOOKERS = 0.001, "ddmd-"
DISK = "D"  # the state of a thread that waits for one, proc(5)
#: At this signal a watched process writes the stacks of its threads into its log, and has so long for it.
STACK_SIGNAL, STACK_SECONDS = signal.SIGQUIT, 0.2


class Watchdog:
    """Kills this process where :meth:`beat` is not called in time.

    Parameters
    ----------
    path
        The log that gets the stacks of all threads.
    events
        Knows which span is open.
    idle_after
        Seconds without any work after which the process ends whatever it has promised.
    """

    def __init__(self, path: Path, events: EventLog, log: logging.Logger, idle_after: float = float("inf")):
        self._file = path.open("a")
        self._events, self._log = events, log
        self._beaten, self._within, self._said = monotonic(), float("inf"), False
        self._idle_after, self._spares = idle_after, False
        self._worked, self._idle_s = work_s(), 0.0
        self._over = threading.Event()
        faulthandler.register(STACK_SIGNAL, file=self._file)
        self._thread = threading.Thread(target=self._look, name="ddmd-watchdog", daemon=True)
        self._thread.start()

    def beat(self, within: float, on_disk: bool = False) -> None:
        """Say that the loop turns, and that it will again within this many seconds.

        With `on_disk` they may pass in waiting for a disk or a file system, idle.
        """
        self._spares, self._idle_s = on_disk, 0.0
        self._beaten, self._within, self._said = monotonic(), within, False

    def free(self) -> None:
        """Watch no longer."""
        faulthandler.unregister(STACK_SIGNAL)
        self._over.set()
        self._thread.join()
        self._file.close()

    def _look(self) -> None:
        while not self._over.wait(pause := min(LOOK_SECONDS, 0.05 * self._within, 0.05 * self._idle_after)):
            silent, within = monotonic() - self._beaten, self._within
            if silent > WARN * within and not self._said:
                self._said = True
                self._say("no progress", silent)
            if silent > within:
                end_myself(self._file)
            if self._idles(pause):
                self._say("it uses no CPU and has made no progress", silent)
                end_myself(self._file)

    def _idles(self, seconds: float) -> bool:
        """Whether this process has done nothing for too long, `seconds` after the last look.

        Only looks count, so that a process that was suspended has not idled.
        """
        worked, long = work_s(), self._idle_s > 0.5 * self._idle_after
        if self._spares or worked - self._worked > IDLE_SHARE * self._idle_after or (long and waits_for_disk()):
            self._worked, self._idle_s = worked, 0.0
        self._idle_s += seconds
        return self._idle_s > self._idle_after

    def _say(self, what: str, silent: float) -> None:
        self._log.error(
            "hangs: %s for %.1f s in %s; the stack follows, then the process ends",
            what,
            silent,
            " > ".join(self._events.open) or "no span",
        )


class StartLimit:
    """Kills this process unless it is :meth:`lifted <lift>` in time: what watches a rank before it has a watchdog.

    Parameters
    ----------
    seconds
        That the start may take, by the awake clock.
    file
        Gets the stacks of all threads.
    """

    def __init__(self, seconds: float, file: TextIO):
        self._deadline, self._file, self._over = monotonic() + seconds, file, threading.Event()
        self._pause = min(LOOK_SECONDS, 0.1 * seconds)
        threading.Thread(target=self._look, name="ddmd-start", daemon=True).start()

    def lift(self) -> None:
        """Watch no longer."""
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(self._pause):
            if monotonic() > self._deadline:
                end_myself(self._file)


def end_myself(file: TextIO) -> None:
    """Write the stacks of all threads and die by a signal: fault-tolerant MPI tells the others of no exit code."""
    faulthandler.dump_traceback(file)
    os.kill(os.getpid(), signal.SIGKILL)


def end_process(pid: int) -> None:
    """Let a process of this program write the stacks of its threads into its log, then kill it."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, STACK_SIGNAL)
        time.sleep(STACK_SECONDS)
        os.kill(pid, signal.SIGKILL)


def work_s() -> float:
    """Processor time of this process, without its threads that only look."""
    total = time.process_time()
    for thread in threading.enumerate():
        if thread.name.startswith(LOOKERS) and thread.ident is not None:
            with suppress(OSError):  # it has ended meanwhile
                total -= time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return total


def waits_for_disk(tasks: Path = Path("/proc/self/task")) -> bool:
    """Whether a thread of this process waits for a disk."""
    for stat in tasks.glob("*/stat"):
        with suppress(OSError, IndexError):
            if stat.read_text().rpartition(")")[2].split()[0] == DISK:
                return True
    return False
