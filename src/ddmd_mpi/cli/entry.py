"""The entry point: bad input is one sentence on one rank."""

from __future__ import annotations

import io
import os
import sys
import time
from typing import NoReturn

import click

from .. import environ
from ..errors import BAD_INPUT, DDMDError, LauncherError, sentence
from ..parallel import launcher
from .commands import cli

INTERRUPTED = 130  # as shells say it of SIGINT
#: How long processes without a world in common leave the word to the first one: a launcher may end all when one leaves.
SPOKEN_SECONDS = 3.0


def main() -> None:
    """Entry point: bad input is one sentence on one rank and exit code 2."""
    end(result())


def end(code: int) -> NoReturn:
    """End this process; under Open MPI's launcher only the first rank ends with an error.

    If all ranks end with an error at once, that launcher may deadlock: it uses memory that it has freed.
    """
    if code and os.environ.get("OMPI_COMM_WORLD_RANK", "0") != "0":
        code = 0
    elif code:
        launcher.tell_script(code)
    sys.exit(code)


def result() -> int:
    """Run the command line; the exit code."""
    environ.use_utf8()
    environ.settle(os.environ)
    environ.soften_warnings()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        environ.check_paths(sys.argv[1:])
        cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except click.exceptions.Abort:
        return INTERRUPTED
    except (DDMDError, click.ClickException) as error:
        refuse(error)
        return BAD_INPUT
    return 0


def refuse(error: DDMDError | click.ClickException) -> None:
    """Say on the first rank what is wrong, before any rank leaves."""
    rank = launcher.rank(os.environ)
    if rank in (0, None):
        message = error.format_message() if isinstance(error, click.ClickException) else sentence(error)
        click.echo(f"ddmd-mpi: {message}", err=True)
    if rank is None:
        return
    try:
        if not isinstance(error, LauncherError):
            meet()
    except LauncherError as alone:
        error = alone
    if isinstance(error, LauncherError) and rank:
        time.sleep(SPOKEN_SECONDS)


def meet() -> None:
    """Wait until every rank has got here: a launcher ends all ranks when the first one leaves with an exit code."""
    from ..parallel.launch import launch

    world = launch()
    world.free()
