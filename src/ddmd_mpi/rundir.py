"""The run directory: made fresh, and every file that others read is replaced whole."""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from .disk import LineFile
from .errors import RunDirectoryError
from .files import parse_object, read_bytes, reason

SUBDIRECTORIES = ("topology", "trajectories", "models", "events", "logs", "checkpoints")
OF_MODE = {"stream": ("frames", "streams"), "file": ("segments", "restarts")}
TAIL_BYTES = 1 << 16
MOST_LINES = 4_000_000_000  # bytes
LIBRARIES = ("adios2", "h5py", "horovod", "mpi4py", "numpy", "openmm", "scikit-learn", "scipy", "keras", "torch")


def create(requested: Path | None, usecase: str, mode: str = "stream") -> Path:
    """Make a fresh run directory with the sub-directories of `mode`; unasked it is ``runs/USECASE-DATE-TIME``.

    Raises
    ------
    RunDirectoryError
        If the directory holds anything already, or cannot be made: nothing is ever overwritten.
    """
    directory = requested or Path("runs") / f"{usecase}-{time.strftime('%Y%m%d-%H%M%S')}"
    directory = directory.absolute()
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise RunDirectoryError(f"the output directory {directory} is not empty: name a new one with --output")
        for name in (*SUBDIRECTORIES, *OF_MODE[mode]):
            (directory / name).mkdir(parents=True)
    except OSError as error:
        raise RunDirectoryError(f"cannot create the output directory {directory}: {error.strerror}") from error
    return directory


def inode(directory: Path) -> int | None:
    """Number of a directory on its file system, None if it is not there: another one in its place has another."""
    try:
        return directory.stat().st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_text(path: Path, text: str) -> None:
    """Replace `path` whole: a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Make or replace `path` whole; the content and the name are on the disk when this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by the value as JSON."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The values of a file of JSON lines, none if there is no such file; a last line that is not whole is left out.

    Raises
    ------
    RunDirectoryError
        If a line is none.
    """
    if not path.exists():
        return []
    number = 0
    try:
        found = []
        for number, line in enumerate(read_bytes(path, MOST_LINES).split(b"\n")[:-1], 1):  # noqa: B007 - named below
            found.append(parse_object(line))
        return found
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"{path} cannot be read (line {number}): {reason(error)}") from error


def cut_torn_line(path: Path) -> None:
    """Cut off what a kill has left behind the last whole line of a file."""
    with path.open("r+b") as file:
        end = position = file.seek(0, 2)
        while position:
            start = max(0, position - TAIL_BYTES)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            position = start
            if newline >= 0:
                break
        whole = position + newline + 1 if end and newline >= 0 else 0
        if whole < end:
            file.truncate(whole)


class Lines:
    """An append-only file of JSON lines, each whole or not there. A context manager.

    Raises
    ------
    DiskError
        If the disk refuses.
    """

    def __init__(self, path: Path):
        self._file = LineFile(path)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()

    def append(self, value: dict[str, Any]) -> None:
        """Write one line."""
        self._file.write(json.dumps(value) + "\n")

    def sync(self) -> None:
        """Bring the lines to the disk."""
        self._file.sync()

    def free(self) -> None:
        """Close the file."""
        self._file.free()


def versions() -> dict[str, str | None]:
    """Versions of the libraries a run depends on; None for one that is not installed."""
    found: dict[str, str | None] = {"ddmd-mpi": _version("ddmd-mpi"), "python": platform.python_version()}
    found |= {name: _version(name) for name in LIBRARIES}
    found["tensorflow"] = _version("tensorflow") or _version("tensorflow-cpu")
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def environment(ranks: list[dict[str, Any]], mpi: str) -> dict[str, Any]:
    """The content of ``environment.json``."""
    return {
        "versions": {**versions(), "mpi": mpi},
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "command": sys.argv,
        "started": time.time(),
        "ranks": ranks,
    }
