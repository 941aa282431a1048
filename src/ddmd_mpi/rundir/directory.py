"""The run directory: made fresh, and every file that others read is replaced atomically."""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import RunDirectoryError
from .files import RECORD_FORMAT

SUBDIRECTORIES = ("topology", "trajectories", "models", "events", "logs", "checkpoints")
#: Sub-directory for the copies of the input files.
INPUTS = "inputs"
OF_MODE = {"stream": ("frames", "streams"), "file": ("segments", "restarts")}
#: The batch job, as ``jobscripts/relaunch.sh`` names it.
JOB_VARIABLE = "DDMD_MPI_JOB"
LIBRARIES = ("adios2", "h5py", "horovod", "mpi4py", "numpy", "openmm", "scikit-learn", "scipy", "keras", "torch")


def create_run_directory(requested: Path | None, usecase: str, mode: str = "stream") -> Path:
    """Make a fresh run directory with the sub-directories of `mode`; by default ``runs/USECASE-DATE-TIME``.

    Raises
    ------
    RunDirectoryError
        If the directory holds anything already, or cannot be made: nothing is ever overwritten.
    """
    directory = requested.absolute() if requested else Path("runs").absolute()
    try:
        if requested is None:
            directory = _new_in(directory, f"{usecase}-{time.strftime('%Y%m%d-%H%M%S')}")
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise RunDirectoryError(f"the output directory {directory} is not empty: name a new one with --output")
        for name in (*SUBDIRECTORIES, *OF_MODE[mode]):
            (directory / name).mkdir(parents=True)
    except OSError as error:
        raise RunDirectoryError(f"cannot create the output directory {directory}: {error.strerror}") from error
    return directory


def _new_in(parent: Path, name: str) -> Path:
    """A directory that nobody else has made: NAME, or NAME-2, NAME-3, ... if runs start in the same second."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        path = parent / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            path.mkdir()
            break
    return path


def versions() -> dict[str, str | None]:
    """Versions of the libraries a run depends on; None for one that is not installed."""
    found: dict[str, str | None] = {"ddmd-mpi": _version("ddmd-mpi"), "python": platform.python_version()}
    found |= {name: _version(name) for name in LIBRARIES}
    found["tensorflow"] = _version("tensorflow") or _version("tensorflow-cpu")
    return found


def _version(name: str) -> str | None:
    from importlib import metadata  # a hundredth of a second that one rank spends for all

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def environment(ranks: list[dict[str, Any]], mpi: str) -> dict[str, Any]:
    """The content of ``environment.json``."""
    return {
        "format": RECORD_FORMAT,
        "versions": {**versions(), "mpi": mpi},
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "command": sys.argv,
        "started": time.time(),
        "job": os.environ.get(JOB_VARIABLE) or None,
        "ranks": ranks,
    }
