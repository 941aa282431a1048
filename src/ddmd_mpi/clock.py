"""The awake clock: monotonic time that stands still while this process is suspended.

A batch system suspends a job, a user presses Ctrl-Z, a virtual machine is frozen: nobody could run, so nobody is late.
A thread looks at the clock several times a second. Between two looks at most :data:`MAX_SECONDS` count, and what the
process has computed meanwhile: a longer gap is time in which it was stopped. A rank that is suspended alone gains
nothing from it, because the others judge it by clocks of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOOK_SECONDS = 0.2
#: A gap between two looks counts as this much at most. Threads of a busy machine may be late by that.
MAX_SECONDS = 1.0


class AwakeClock:
    """Seconds during which this process could run; call it to read it.

    Parameters
    ----------
    clock
        Seconds that always pass.
    worked
        Processor time of this process, s: a library that holds the interpreter's lock keeps the thread from looking,
        and computes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, worked: Callable[[], float] = time.process_time):
        self._clock, self._work = clock, worked
        self._looked, self._worked = clock(), worked()
        self._awake = self._looked
        self._lock = threading.RLock()  # a signal handler may look, too
        self._thread: threading.Thread | None = None

    def __call__(self) -> float:
        """Look at the clock; without its thread it is the underlying one."""
        with self._lock:
            now, worked = self._clock(), self._work()
            passed = now - self._looked
            most = MAX_SECONDS + worked - self._worked if self._thread else passed
            self._awake += min(passed, most)
            self._looked, self._worked = now, worked
            return self._awake

    def start(self) -> None:
        """Let a thread look from now on, until the process ends."""
        if self._thread is None:
            self()
            self._thread = threading.Thread(target=self._run, name="ddmd-awake", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            self()


#: This process's clock. It equals ``time.monotonic`` until it is started and as long as the process is not suspended.
monotonic = AwakeClock()
