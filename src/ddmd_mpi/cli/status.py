"""``ddmd-mpi status``: what it reads, and the ways to show it."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import click

from ..errors import RunDirectoryError
from ..monitor.progress import Progress, line, screen
from ..rundir.files import parse_record, read_bytes, reason

#: A run that has not written its view for this long is considered dead.
SILENT_SECONDS = 60.0
CURE = "For all walkers, and keys to sort them: pip install 'ddmd-mpi[status]'"


def read_status(directory: Path) -> dict:
    """The live view that a run leaves in its directory, which can be shown."""
    try:
        view = parse_record(read_bytes(directory / "status.json"))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(
            f"{directory} has no readable status ({reason(error)}): name a run directory"
        ) from error
    try:
        view["done"], time.time() - view["time"], screen(view), line(view), range(view["walkers"])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RunDirectoryError(
            f"{directory} is not a run directory: its status.json was written by another program"
        ) from error
    return view


def show(directory: Path, style: Literal["json", "line", "screen"]) -> None:
    """Show the state of a run, once, or until the user leaves.

    Raises
    ------
    RunDirectoryError
        If `directory` is not a run directory.
    """
    if style == "json":
        from .run_state import as_json, state_of

        click.echo(as_json(state_of(directory)))
    elif style == "screen" and find_spec("textual") is not None:
        from .status_app import show as show_application

        show_application(directory)
    else:
        _follow(directory, style)


def _follow(directory: Path, style: str) -> None:
    """Show the view, as a line once, or as a screen until the run ends."""
    progress = Progress("screen" if style == "screen" else "lines")
    while True:
        view = read_status(directory)
        progress.show(view)
        silent = time.time() - view["time"]
        if not view["done"] and silent > SILENT_SECONDS:
            from .run_state import standing, state_of

            how = standing(state_of(directory))
            click.echo(f"{how[0].upper()}{how[1:]}.")
        elif style == "screen" and not view["done"]:
            time.sleep(1.0)
            continue
        if style == "screen":
            click.echo(CURE)
        return
