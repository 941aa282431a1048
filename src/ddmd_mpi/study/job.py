"""A study as a job: run what is not finished, then say what all finished trials say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DDMDError, sentence
from .execute import Executor, Say, alone
from .outcome import Outcome, distil, read_outcome
from .study_file import Study
from .trials import State, Trial
from .write import write_study


@dataclass(frozen=True)
class Done:
    """What has become of a study.

    Parameters
    ----------
    n_finished
        Trials that the tables hold.
    failures
        What went wrong, by the name of the trial.
    stopped
        Whether it was stopped before its end.
    page
        What was written, None without any finished trial.
    """

    n_finished: int
    failures: dict[str, str]
    stopped: bool
    page: Path | None


def carry_out(study: Study, trials: Sequence[Trial], output: Path, say: Say) -> Done:
    """Run the trials that are not finished, and write the tables of those that are.

    Raises
    ------
    DDMDError
        If the launcher cannot be started, or the directory cannot be written to.
    """
    with alone(output, say) as lock:
        executor = Executor(study, lock, lambda trial: distil(trial, keep_run=study.keep_runs), say)
        executor.run(trials)
        outcomes = _outcomes(study, trials, executor.failures)
        page = write_study(study, trials, outcomes, executor.failures, output) if outcomes else None
    return Done(len(outcomes), executor.failures, executor.stopped, page)


def _outcomes(study: Study, trials: Sequence[Trial], failures: dict[str, str]) -> list[Outcome]:
    """Those of the finished trials; one that cannot be read joins the failures."""
    found = []
    for trial in trials:
        if trial.state() is State.FINISHED and trial.name not in failures:
            try:
                found.append(read_outcome(trial, keep_run=study.keep_runs))
            except DDMDError as error:
                failures[trial.name] = sentence(error)
    return found
