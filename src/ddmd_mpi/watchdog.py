"""The watchdog of a process: where its loop no longer turns, it says what it was doing and ends the process.

The stack comes from a thread that needs no interpreter, so that it is written even where a foreign library holds the
interpreter's lock for ever. The span comes from a thread of Python, where that still runs.
"""

from __future__ import annotations

import faulthandler
import logging
import threading
import time
from pathlib import Path

from .events import EventLog

#: The span is named when this share of the time has passed.
WARN = 0.9
LOOK_SECONDS = 0.5


class Watchdog:
    """Ends this process with exit code 1 where :meth:`beat` is not called in time.

    Parameters
    ----------
    path
        The log that gets the stacks of all threads.
    events
        Knows which span is open.
    """

    def __init__(self, path: Path, events: EventLog, log: logging.Logger):
        self._file = path.open("a")
        self._events, self._log = events, log
        self._beaten, self._within, self._said = time.monotonic(), float("inf"), False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="ddmd-watchdog", daemon=True)
        self._thread.start()

    def beat(self, within: float) -> None:
        """Say that the loop turns, and that it will again within so many seconds."""
        self._beaten, self._within, self._said = time.monotonic(), within, False
        faulthandler.dump_traceback_later(within, exit=True, file=self._file)

    def free(self) -> None:
        """Watch no longer."""
        faulthandler.cancel_dump_traceback_later()
        self._over.set()
        self._thread.join()
        self._file.close()

    def _look(self) -> None:
        while not self._over.wait(min(LOOK_SECONDS, 0.05 * self._within)):
            silent = time.monotonic() - self._beaten
            if silent > WARN * self._within and not self._said:
                self._said = True
                self._log.error("hangs: no progress for %.1f s in %s; the stack follows, then the process ends",
                                silent, " > ".join(self._events.open) or "no span")
