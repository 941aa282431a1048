"""Writing where the disk may refuse: what is promised is there whole or not at all, what is not may be missing.

A record that the run promises (trajectories, decisions, archive, checkpoints) raises a :class:`.errors.DiskError`,
which stops the run in order. What only tells of it (live view, spans, progress) is :class:`Dispensable`.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import DiskError
from .files import reason

log = logging.getLogger(__name__)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Turn what the system refuses in the block into a :class:`.errors.DiskError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror or error}") from error


def append_whole(file: BinaryIO, content: bytes) -> int:
    """Append to an unbuffered file, all or nothing; where it begins.

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
    """A text file that takes each line whole or not at all, and has it when :meth:`write` returns.

    Raises
    ------
    DiskError
        From every method but :meth:`cut`, if the disk refuses.
    """

    def __init__(self, path: Path, mode: str = "a"):
        self.path = path
        with written(path):
            self._file = path.open(f"{mode}b", buffering=0)

    def write(self, text: str) -> int:
        """Append text; the size of the file before."""
        with written(self.path):
            return append_whole(self._file, text.encode())

    def cut(self, size: int) -> None:
        """Take back what was written behind `size`."""
        with suppress(OSError):
            self._file.truncate(size)

    def sync(self) -> None:
        """Bring everything to the disk."""
        with written(self.path):
            os.fsync(self._file.fileno())
        check_linked(self._file, self.path)

    def free(self) -> None:
        """Close the file."""
        with written(self.path):
            self._file.close()


def check_linked(file: BinaryIO, path: Path) -> None:
    """Raise a DiskError for an open file that no directory holds any more: nobody will find what is written to it."""
    if not os.fstat(file.fileno()).st_nlink:
        raise DiskError(f"{path} cannot be written: it was deleted while the run went on")


class Dispensable:
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
        self._level, self._refused = level, set()

    @contextmanager
    def write(self, what: str) -> Iterator[None]:
        """Write `what` in the block."""
        try:
            yield
        except (OSError, DiskError) as error:
            if not self.left_out[what]:
                log.log(self._level, "the run goes on without %s: %s", what, reason(error))
            self.left_out[what] += 1
            self._refused.add(what)
            return
        if what in self._refused:
            self._refused.discard(what)
            log.warning("%s: written again; %d writes were left out so far", what, self.left_out[what])
