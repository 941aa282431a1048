"""Files that this program did not write itself: regular, of a size that can be, and shallow.

What is wrong is an OSError with a reason as ``strerror``, or a ValueError, so that a reader names it as it names a file
that is missing or damaged.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

#: Bytes that are read at most of a text that is read whole, and of a molecule's file: ten million lines and more.
MOST_TEXT = 64_000_000
MOST_MOLECULE = 1_000_000_000
#: Tables and lists within each other.
MOST_LEVELS = 64


def check_regular(path: Path, most: int) -> int:
    """Size of a regular file; what a name stands for that is none may never end, or wait for ever.

    Raises
    ------
    OSError
        If there is no such file, it is a directory, a pipe or a device, or larger than `most` bytes.
    """
    try:
        found = os.stat(path)
    except ValueError as error:  # a name with a null byte
        raise FileNotFoundError(errno.ENOENT, "no file can have this name", str(path)) from error
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a directory, a pipe or a device, and not a regular file", str(path))
    if found.st_size > most:
        raise OSError(errno.EFBIG, f"it has {found.st_size} bytes, and {most} at most are expected", str(path))
    return found.st_size


def read_bytes(path: Path, most: int = MOST_TEXT) -> bytes:
    """A whole regular file.

    Raises
    ------
    OSError
        As :func:`check_regular`.
    """
    check_regular(path, most)
    with path.open("rb") as file:
        return file.read(most)


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """A whole regular file in UTF-8.

    Raises
    ------
    OSError
        As :func:`check_regular`.
    ValueError
        If it is no UTF-8.
    """
    return read_bytes(path, most).decode()


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The object that JSON says.

    Raises
    ------
    ValueError
        If it is none, or nested too deeply.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    check_levels(found)
    return found


def check_levels(value: object) -> None:
    """Raise a ValueError if tables and lists lie too deeply in each other."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MOST_LEVELS:
            raise ValueError("it is nested too deeply")
        below = []
        for table in level:
            if isinstance(table, dict):
                below += [v for v in table.values() if isinstance(v, dict | list)]
            elif isinstance(table, list):
                below += [v for v in table if isinstance(v, dict | list)]
        level = below


def reason(error: Exception) -> str:
    """Why a file cannot be read."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def is_whole(value: object, least: int = 0) -> bool:
    """Whether a value of JSON is an integer of 64 bits, `least` or more."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63
