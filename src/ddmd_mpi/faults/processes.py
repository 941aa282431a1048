"""The processes of this node's ranks as the kernel sees them: which have ended; one that stays stopped is killed.

A process that is stopped (SIGSTOP, a suspended job, an abandoned debugger) notices nothing itself, holds no
promise and, inside a collective operation, holds up everybody. So every rank looks at its neighbours from a thread of
its own, whatever its own loop does and from the launch on: no MPI is needed. What follows is as for any other process
that has ended. Fault-tolerant MPI tells of those that a signal has ended, and not of those that a library has.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

LOOK_SECONDS = 2.0
#: As ``[faults] stopped_after``, until the settings are known.
STOPPED_SECONDS = 20.0
STOPPED, ENDED = "T", "ZX"

log = logging.getLogger(__name__)


class Process(NamedTuple):
    """A process: its number, and when it started, in ticks since the machine did (0: not known)."""

    pid: int
    began: int


def myself() -> Process:
    """This process."""
    found = look_at(os.getpid())
    return Process(os.getpid(), found[1] if found else 0)


def look_at(pid: int) -> tuple[str, int] | None:
    """State (a letter, proc(5)) and start of a process; None if there is none, or no ``/proc``."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def neighbours(processes: Sequence[Process], nodes: Sequence[int], rank: int) -> dict[int, Process]:
    """The processes of the other ranks of my node that this one can see: it may live in a container of its own."""
    others = {r: p for r, p in enumerate(processes) if nodes[r] == nodes[rank] and r != rank}
    return {r: p for r, p in others.items() if p.began and (look_at(p.pid) or ("", 0))[1] == p.began}


class NodeProcesses:
    """Kills the processes that stay stopped.

    Parameters
    ----------
    watched
        By rank.
    limit
        Seconds that one may be stopped, see :meth:`kill_after`. Only looks count, so that ranks that were suspended and
        continue together spare each other.

    Attributes
    ----------
    stopped
        Ranks that are stopped, or were until they ended.
    ended
        Ranks whose processes have ended.
    """

    def __init__(self, watched: Mapping[int, Process], limit: float = STOPPED_SECONDS):
        self.stopped: frozenset[int] = frozenset()
        self.ended: frozenset[int] = frozenset()
        self._limit = limit
        self._watched, self._seconds = dict(watched), dict.fromkeys(watched, 0.0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ddmd-processes", daemon=True)

    def start(self) -> NodeProcesses:
        """Look from now on."""
        self._thread.start()
        return self

    def kill_after(self, seconds: float) -> None:
        """From now on kill processes that stay stopped for this many seconds."""
        self._limit = seconds

    def pid(self, rank: int) -> int:
        """Process id of a rank of this node, 0 once it has ended."""
        process = self._watched.get(rank)
        return 0 if process is None else process.pid

    def look(self, seconds: float) -> None:
        """Look at all of them, `seconds` after the last time."""
        for rank, process in list(self._watched.items()):
            state, began = look_at(process.pid) or (ENDED, 0)
            if state in ENDED or began != process.began:  # Its number may be another one's by now.
                del self._watched[rank]
                self.ended |= {rank}
            elif state != STOPPED:
                if not self._seconds[rank]:  # Who is being killed is not stopped for a moment, either.
                    self.stopped -= {rank}
                self._seconds[rank] = 0.0
            elif rank in self.stopped:
                self._seconds[rank] += seconds
                self._kill(rank, process)
            else:
                self.stopped |= {rank}

    def free(self) -> None:
        """Look no longer."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(pause := min(LOOK_SECONDS, 0.25 * self._limit)):
            self.look(pause)

    def _kill(self, rank: int, process: Process) -> None:
        if self._seconds[rank] < self._limit:
            return
        log.info("rank %d (process %d) has been stopped for %.0f s: killing it", rank, process.pid, self._seconds[rank])
        try:
            os.kill(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def suspended_in(directory: Path) -> list[int]:
    """Process ids of this host that are stopped and hold files of `directory` open."""
    inside, found = f"{directory.resolve()}/", []
    for entry in Path("/proc").glob("[0-9]*"):
        if (look_at(int(entry.name)) or ("", 0))[0] != STOPPED:
            continue
        with suppress(OSError):  # another user's, or ended meanwhile
            if any(os.readlink(link).startswith(inside) for link in (entry / "fd").iterdir()):
                found.append(int(entry.name))
    return sorted(found)
