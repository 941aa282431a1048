"""A program on this machine: where it is, and which version."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

from ...config.dynamics import EngineSection
from ...errors import ConfigError
from .child import child_environment

#: That a program may take to answer: a first load from a network file system is slow.
ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Executable:
    """A program that was found: its title and version, its path, and the command that runs it."""

    title: str
    version: str
    path: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.title} {self.version}, {self.path}"


def find_executable(engine: EngineSection, name: str, default: str, cure: str) -> str:
    """Absolute path of the program that the settings name, or of `default` on PATH.

    Parameters
    ----------
    name
        Of the engine.
    cure
        How to get it.

    Raises
    ------
    ConfigError
        If it is not there.
    """
    program = engine.program or default
    path = shutil.which(program)
    if path is None:
        raise ConfigError(
            f"the program {program} of the engine {name} is not found here: {cure}, or set engine.program to its path"
        )
    # A child runs in a directory of its own.
    return os.path.abspath(path)


def ask(path: str, arguments: tuple[str, ...], program: str) -> str:
    """What a program prints.

    Parameters
    ----------
    program
        What it should be, for messages.

    Raises
    ------
    ConfigError
        If it cannot be run, or does not answer.
    """
    try:
        return subprocess.run(
            [path, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=ANSWER_SECONDS,
            stdin=subprocess.DEVNULL,
            env=child_environment(1),
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{path} cannot be run: {error}; set engine.program to {program}") from error
