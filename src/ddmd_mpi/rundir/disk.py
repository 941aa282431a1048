"""Writing to a disk that may refuse: what is guaranteed is complete or absent, and what is not may be missing.

A record that the run promises (trajectories, decisions, archive, checkpoints) raises a :class:`.errors.DiskError`,
which stops the run cleanly. What only tells of it (live view, spans, progress) is :class:`BestEffort`.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import DiskError, RunDirectoryError
from .files import parse_record, read_bytes, reason

TAIL_BYTES = 1 << 16
MAX_LINES = 4_000_000_000  # bytes

log = logging.getLogger(__name__)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the system refuses in the block into a :class:`.errors.DiskError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror or error}") from error


def append_whole(file: IO[bytes], content: bytes) -> int:
    """Append to an unbuffered file, all or nothing; where it starts.

    A disk that gets full takes the part that still fits.

    Raises
    ------
    OSError
        The file is then as long as before.
    """
    start, done = file.seek(0, os.SEEK_END), 0
    try:
        while done < len(content):
            done += file.write(content[done:])
    except OSError:
        with suppress(OSError):
            file.truncate(start)
        raise
    return start


class LineFile:
    """A text file that takes each line completely or not at all, and has it when :meth:`write` returns.

    Raises
    ------
    DiskError
        From every method but :meth:`cut`, if the disk refuses.
    """

    def __init__(self, path: Path, mode: str = "a"):
        self.path = path
        with disk_errors(path):
            self._file = path.open(f"{mode}b", buffering=0)

    def write(self, text: str) -> int:
        """Append text; the size of the file before."""
        with disk_errors(self.path):
            return append_whole(self._file, text.encode())

    def cut(self, size: int) -> None:
        """Remove what was written after `size`."""
        with suppress(OSError):
            self._file.truncate(size)

    def sync(self) -> None:
        """Bring everything to the disk."""
        with disk_errors(self.path):
            os.fsync(self._file.fileno())
        check_linked(self._file, self.path)

    def free(self) -> None:
        """Close the file."""
        with disk_errors(self.path):
            self._file.close()


def check_linked(file: IO[bytes], path: Path) -> None:
    """Raise a DiskError for an open file that no directory holds any more: nobody will find what is written to it."""
    if not os.fstat(file.fileno()).st_nlink:
        raise DiskError(f"{path} cannot be written: it was deleted during the run")


class BestEffort:
    """What the run can do without: a write that fails is left out and warned of once, and the next one is tried again.

    Parameters
    ----------
    level
        Of the warning.

    Attributes
    ----------
    left_out
        Number of writes that failed, by what was to be written.
    """

    def __init__(self, level: int = logging.WARNING):
        self.left_out: Counter[str] = Counter()
        self._level = level
        self._refused: set[str] = set()

    @contextmanager
    def write(self, what: str) -> Iterator[None]:
        """Write `what` in the block."""
        try:
            yield
        except (OSError, DiskError) as error:
            if not self.left_out[what]:
                log.log(self._level, "the run continues without %s: %s", what, reason(error))
            self.left_out[what] += 1
            self._refused.add(what)
            return
        if what in self._refused:
            self._refused.discard(what)
            log.warning("%s: written again; %d writes were left out so far", what, self.left_out[what])


def inode(directory: Path) -> int | None:
    """Number of a directory on its file system, None if it is not there: another one in its place has another."""
    try:
        return directory.stat().st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_text(path: Path, text: str) -> None:
    """Replace `path` atomically: a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Create or replace `path` atomically; the content and the name are on the disk when this returns."""
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


def read_lines(path: Path, *, strict: bool = True) -> list[dict[str, Any]]:
    """The records of a file of JSON lines, none if there is no such file; a last line that is incomplete is left out.

    Parameters
    ----------
    strict
        Whether any other line must be valid; else those that are not are left out, and a file that cannot be read has
        none.

    Raises
    ------
    RunDirectoryError
        If one is not, or the file cannot be read.
    """
    found: list[dict[str, Any]] = []
    number = 0
    try:
        *lines, last = read_bytes(path, MAX_LINES).split(b"\n")
        for number, line in enumerate(lines if strict else (*lines, last), 1):  # noqa: B007 - named below
            with nullcontext() if strict else suppress(ValueError):
                found.append(parse_record(line))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        if strict:
            raise RunDirectoryError(f"{path} cannot be read (line {number}): {reason(error)}") from error
    return found


def cut_torn_line(path: Path) -> None:
    """Cut off what a kill has left behind the last complete line of a file."""
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
    """An append-only file of JSON lines, each complete or absent. A context manager.

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
