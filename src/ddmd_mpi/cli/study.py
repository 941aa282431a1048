"""What ``ddmd-mpi study`` does and prints."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import click

from ..errors import InputError
from ..parallel import launcher
from ..report import lacking
from ..study.study_file import read_study
from ..study.trials import State, plan

FAILED = 1
CURE = "pip install 'ddmd-mpi[analysis,report]'"


def study(file: Path, output: Path | None, at_once: int | None, *, dry_run: bool) -> int:
    """Run what is not finished of a study, and write its tables; the exit code.

    Raises
    ------
    DDMDError
        If the file is invalid, or a trial was begun with other settings; nothing has started then.
    """
    if launcher.size(os.environ) > 1:
        raise InputError("a study starts the ranks of its trials itself: start it without mpiexec or srun")
    if missing := [*lacking(), *(["mdtraj"] if find_spec("mdtraj") is None else [])]:
        raise InputError(f"a study needs {' and '.join(missing)}, not installed here: {CURE}")
    known = read_study(file)
    known = known if at_once is None else replace(known, at_once=at_once)
    output = (output or Path("runs") / f"study-{known.name}").absolute()
    trials = plan(known, output)
    for trial in trials:
        trial.check_settings()
    counts = Counter(trial.state() for trial in trials)
    click.echo(
        f"{known.name}: {len(known.arms)} arms x {len(known.seeds)} seeds x {len(known.systems)} systems = "
        f"{len(trials)} trials in {output}"
    )
    for state in State:
        if counts[state]:
            click.echo(f"  {counts[state]:5d}  {state.value}")
    if dry_run:
        return 0

    from ..study.job import carry_out

    done = carry_out(known, trials, output, click.echo)
    if done.page is not None:
        click.echo((output / "table.md").read_text(encoding="utf-8"))
        click.echo(f"Written: {done.page}")
    for name, why in done.failures.items():
        click.echo(f"failed: {name}: {why}", err=True)
    if done.stopped:
        click.echo(f"Stopped: {done.n_finished} of {len(trials)} trials have finished; the same command continues.")
    return FAILED if done.failures or done.stopped else 0
