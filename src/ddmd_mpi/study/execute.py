"""Runs the trials of a study, some at once, each as a real run of the program; none that is finished runs again."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import DDMDError, RunDirectoryError, sentence
from ..faults.stop import job_end
from ..rundir.disk import disk_errors
from .study_file import Study
from .trials import INTERRUPTED, State, Trial

POLL_SECONDS = 0.1
#: No trial begins so shortly before the end of a batch job.
MARGIN_SECONDS = 180.0
#: The way in which a source tree starts ranks on this machine.
RANKS = Path(__file__).resolve().parents[3] / "jobscripts" / "ranks.sh"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
MAX_LINE = 300
Say = Callable[[str], object]


def command(trial: Trial, launcher: str | None, slot: int, *, resume: bool) -> list[str]:
    """The words that start a trial, or resume it.

    Parameters
    ----------
    launcher
        Words before those of the program, with ``{ranks}`` and ``{slot}``; None for this machine.
    slot
        Place among the trials that run at once.
    """
    ranks = trial.system.n_ranks
    options = trial.options_to_resume if resume else trial.options
    program = [sys.executable, "-m", "ddmd_mpi", *options]
    if launcher is not None:
        return [*shlex.split(launcher.format(ranks=ranks, slot=slot)), *program]
    if ranks == 1:
        return program
    return [*([str(RANKS)] if RANKS.is_file() else ["mpiexec", "-n"]), str(ranks), *program]


@contextmanager
def alone(output: Path, say: Say) -> Iterator[int]:
    """Keep others from a study's directory, and wait for trials that a killed study has left running.

    Yields
    ------
    int
        The file descriptor that the trials inherit: it is locked until the last of them has ended.
    """
    with disk_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(output / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for the study in {output}, or for trials that it has left running, to end")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass
class Running:
    """A trial whose ranks run.

    Parameters
    ----------
    resumed_from
        Number of the checkpoint that it was resumed from, 0 if it was not.
    """

    trial: Trial
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    slot: int
    resumed_from: int


class Executor:
    """Runs trials until all have ended, or a signal asks to stop.

    Parameters
    ----------
    lock
        See :func:`alone`.
    finish
        Called with every trial that has finished.
    say
        Takes the lines for the user.

    Attributes
    ----------
    failures
        What went wrong, by the name of the trial.
    stopped
        Whether a signal, or the end of the job, has stopped the study before its end.
    """

    def __init__(self, study: Study, lock: int, finish: Callable[[Trial], object], say: Say):
        self._study, self._lock, self._finish, self._say = study, lock, finish, say
        self._running: list[Running] = []
        self.failures: dict[str, str] = {}
        self.stopped = False

    def run(self, trials: Sequence[Trial]) -> None:
        """Run those that are not finished."""
        waiting = [trial for trial in trials if trial.state() is not State.FINISHED]
        before = {number: signal.signal(number, self._stop) for number in SIGNALS}
        done = len(trials) - len(waiting)
        end = job_end(os.environ, time.time())
        try:
            while (waiting and not self.stopped) or self._running:
                self._look_at_clock(end)
                while waiting and not self.stopped and len(self._running) < self._study.at_once:
                    trial = waiting.pop(0)
                    self._begin(trial, f"[{done + len(self._running) + 1}/{len(trials)}] ")
                time.sleep(POLL_SECONDS)
                for ended in [r for r in self._running if r.process.poll() is not None]:
                    self._running.remove(ended)
                    done += self._ended(ended)
        finally:
            self._tell(signal.SIGTERM)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _look_at_clock(self, end: float | None) -> None:
        """Begin no more trials if the batch job ends soon, at this Unix time."""
        if end is not None and not self.stopped and time.time() > end - MARGIN_SECONDS:
            self._say("the batch job ends soon: no more trials begin")
            self.stopped = True

    def _begin(self, trial: Trial, place: str) -> None:
        """Start a trial, or resume it."""
        state = trial.state()
        self._say(f"{place}{trial.name}: {state.value}")
        resumed = state is State.UNFINISHED
        with disk_errors(trial.directory):
            if not resumed:
                trial.clear()
            output = (trial.directory / "output.txt").open("ab")
        used = {running.slot for running in self._running}
        slot = next(i for i in range(self._study.at_once) if i not in used)
        checkpoint = trial.checkpoint if resumed else 0
        words = command(trial, self._study.launcher, slot, resume=resumed)
        variables = {"DDMD_MPI_BIN": str(Path(sys.executable).parent), "DDMD_MPI_PROGRESS": "lines", **os.environ}
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=variables,
                start_new_session=True,
                pass_fds=(self._lock,),
            )
        except OSError as error:
            output.close()
            raise RunDirectoryError(f"{words[0]} cannot be started ({error.strerror}): correct launcher") from error
        self._running.append(Running(trial, process, output, slot, checkpoint))

    def _ended(self, ended: Running) -> bool:
        """Take note of a trial whose ranks have ended; whether it is done with, finished or failed."""
        trial = ended.trial
        ended.output.close()
        if trial.state() is State.FINISHED:
            try:
                self._finish(trial)
            except DDMDError as error:
                self._fail(trial, sentence(error))
            return True
        orderly = ended.process.returncode == 0 and trial.summary().get("stop_reason") in INTERRUPTED
        if orderly or self.stopped:
            self.stopped = True
            self._say(f"{trial.name}: stopped before its end")
            return False
        why = last_line(trial.directory / "output.txt")
        if ended.resumed_from and trial.checkpoint == ended.resumed_from:
            with disk_errors(trial.run):
                new = trial.put_aside()
            self._say(f"{trial.name}: cannot be resumed ({why}): its run directory is now {new}")
            self._begin(trial, "")
            return False
        self._fail(trial, why)
        return True

    def _fail(self, trial: Trial, why: str) -> None:
        self.failures[trial.name] = why
        self._say(f"{trial.name}: FAILED: {why}")

    def _stop(self, number: int, _frame: object = None) -> None:
        """Stop the trials, which leave a checkpoint; a second signal ends them at once."""
        self._tell(number if self.stopped else signal.SIGTERM)
        self.stopped = True

    def _tell(self, number: int) -> None:
        for running in self._running:
            if running.process.poll() is None:
                running.process.send_signal(number)


def last_line(path: Path) -> str:
    """What a run has said last about why it ended."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    said = [line.strip() for line in lines if line.strip()]
    told = [line for line in said if line.startswith(("ddmd-mpi:", "NOT completed"))]
    return (told or said or ["it printed nothing"])[-1][:MAX_LINE]
