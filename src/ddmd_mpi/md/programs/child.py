"""A program as a child process inside an MPI program: its environment, its end, and whether it still works."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ...config.dynamics import EngineSection
from ...errors import EngineError

#: What the launcher of this run tells its ranks: a child that is linked with MPI would take itself for one of them.
OF_MPI = ("OMPI_", "PMIX_", "PRTE_", "PMI_", "MPI_", "HYDRA_", "HYDI_")
#: Working directories, in the run directory.
SCRATCH = "scratch"
LAUNCHER = Path(__file__).with_name("launcher.py")
LOG = "program.log"
LOG_LINES = 20
#: That a killed process may take to end: the kernel may be writing its memory to a disk.
END_SECONDS = 10.0
#: A silent child has at least this many times what a report has taken so far.
SILENT_REPORTS = 10
#: Between two looks at the processor time; a pause of this process counts as one look at most.
LOOK_SECONDS = 5.0
#: States of a process that does not wait for something that may never come, proc(5).
BUSY = "RD"


def child_environment(threads: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a child: nothing of MPI's, and this many threads."""
    kept = {name: value for name, value in environment.items() if not name.startswith(OF_MPI)}
    return kept | {"OMP_NUM_THREADS": str(threads)}


def last_lines(path: Path, n_lines: int = LOG_LINES) -> str:
    """The last lines of a file that say something, joined for a message; "" if there are none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 200 * n_lines))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return " / ".join(" ".join(line.split()) for line in [x for x in lines if x.strip()][-n_lines:])


class Tail:
    """A text file that another process writes, read piece by piece; it may not exist yet."""

    def __init__(self, path: Path):
        self._path = path
        self._read = 0
        self._rest = b""

    def lines(self) -> list[str]:
        """The lines that were completed since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                found = file.read()
        except OSError:
            return []
        self._read += len(found)
        *lines, self._rest = (self._rest + found).split(b"\n")
        return [line.decode(errors="replace") for line in lines]


class Child:
    """A running program, which dies with the thread that has started it and with :meth:`end`.

    Parameters
    ----------
    command
        The program and its arguments.
    directory
        Its working directory; what it prints goes into ``program.log`` there.
    threads
        OMP_NUM_THREADS.
    """

    def __init__(self, command: Sequence[str], directory: Path, threads: int = 1):
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid())]
        try:
            with (directory / LOG).open("wb") as log:
                self._process = subprocess.Popen(
                    [*launcher, *command],
                    cwd=directory,
                    env=child_environment(threads),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise EngineError(f"{command[0]} cannot be started in {directory}: {error.strerror}") from error

    @property
    def pid(self) -> int:
        """Its process id, which is that of its group, too."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        over = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if self._process.returncode is None and os.waitid(os.P_PID, self.pid, over) is not None:
            # What it has left behind goes with it, before its number can become another process's.
            self._kill()
        return self._process.poll()

    def work(self) -> tuple[int, bool]:
        """Processor time of its group, in ticks, and whether one of it runs, or waits for a processor or a disk."""
        # Mostly the program itself runs: then none of the other processes of this host need be looked at.
        ticks, busy = self._work_of([Path(f"/proc/{self.pid}/stat")])
        return (ticks, busy) if busy else self._work_of(Path("/proc").glob("[0-9]*/stat"))

    def _work_of(self, stats: Iterable[Path]) -> tuple[int, bool]:
        """What :meth:`work` gives, of those of these processes that are in its group."""
        ticks, busy = 0, False
        for stat in stats:
            # Any process may end meanwhile.
            with suppress(OSError, IndexError, ValueError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[2]) == self.pid:
                    ticks += int(fields[11]) + int(fields[12])
                    busy = busy or fields[0] in BUSY
        return ticks, busy

    def end(self) -> None:
        """Kill it with its group: a segment that is left has nothing to save.

        Raises
        ------
        EngineError
            If it does not end.
        """
        if self.exit_code is not None:
            return
        self._kill()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise EngineError(f"process {self.pid} was killed and has not ended for {END_SECONDS:g} s") from None

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


class Patience:
    """Tells a child that computes from one that hangs.

    Parameters
    ----------
    idle_s
        That it may use no processor.
    first_s
        That its first report may take.
    """

    def __init__(self, idle_s: float, first_s: float):
        self._idle_limit, self._first_limit = idle_s, first_s
        self._slowest = 0.0
        self.begin()

    def begin(self) -> None:
        """A child has been started."""
        self._ticks, self._idle, self._silent = 0, 0.0, 0.0
        self._looked = time.monotonic()

    def reported(self) -> None:
        """It has given a report."""
        self._slowest = max(self._slowest, self._silent + time.monotonic() - self._looked)
        self._silent = self._idle = 0.0
        self._looked = time.monotonic()

    @property
    def silent_limit(self) -> float:
        """Seconds that a report may take."""
        return max(self._idle_limit, SILENT_REPORTS * self._slowest) if self._slowest else self._first_limit

    def look(self, child: Child) -> None:
        """Raise an EngineError if the child hangs; called as often as one likes."""
        pause = time.monotonic() - self._looked
        if pause < min(LOOK_SECONDS, 0.1 * self._idle_limit):
            return
        self._looked += pause
        # This process may have been stopped itself: only looks count.
        pause = min(pause, LOOK_SECONDS)
        self._silent += pause
        ticks, busy = child.work()
        self._idle = 0.0 if busy or ticks != self._ticks else self._idle + pause
        self._ticks = ticks
        if self._idle > self._idle_limit:
            raise EngineError(f"process {child.pid} hangs: it has used no CPU for {self._idle:.0f} s")
        if self._silent > self.silent_limit:
            raise EngineError(f"process {child.pid} has written no frame for {self._silent:.0f} s")


def scratch_of(engine: EngineSection, directory: Path) -> Path:
    """In the run directory `directory`, or where ``engine.scratch`` says on this host.

    Raises
    ------
    EngineError
        If that is not an absolute path.
    """
    if engine.scratch is None:
        return directory / SCRATCH
    path = Path(os.path.expandvars(engine.scratch))
    if not path.is_absolute():
        raise EngineError(
            f"engine.scratch = {engine.scratch} is not an absolute path here: correct it, or set its variable"
        )
    return path


def clear_scratch(directory: Path) -> None:
    """Remove what killed ranks of earlier sessions have left in the run directory."""
    shutil.rmtree(directory / SCRATCH, ignore_errors=True)
