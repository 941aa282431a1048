"""Reads files that this program did not write itself: regular, of bounded size and depth.

What is wrong is an OSError with a reason as ``strerror``, or a ValueError, so that a reader names it as it names a file
that is missing or damaged.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any, TypeGuard

#: Maximal bytes of a text that is read in one piece, and of a molecule's file: ten million lines and more.
MAX_TEXT = 64_000_000
MAX_MOLECULE = 1_000_000_000
#: Format of a run's records, which environment.json names. Format 1 called the number of a walker ``simulation``.
RECORD_FORMAT = 2
RENAMED = {"simulation": "walker", "source_simulation": "source_walker", "best_simulation": "best_walker"}
#: Tables and lists within each other.
MAX_LEVELS = 64


def check_regular(path: Path, most: int) -> int:
    """Size of a regular file. Reading a pipe or a device may block or never end, so these are rejected.

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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path, most: int = MAX_TEXT) -> bytes:
    """The content of a regular file.

    Raises
    ------
    OSError
        As :func:`check_regular`.
    """
    check_regular(path, most)
    with path.open("rb") as file:
        return file.read(most)


def read_text(path: Path, most: int = MAX_TEXT) -> str:
    """The content of a regular file in UTF-8, without the mark that some editors put before it.

    Raises
    ------
    OSError
        As :func:`check_regular`.
    ValueError
        If it is no UTF-8.
    """
    found = read_bytes(path, most)
    if found.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it is UTF-16: save it as UTF-8")
    return found.decode("utf-8-sig")


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The object that JSON says.

    Raises
    ------
    ValueError
        If it is not one, or nested too deeply.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    check_levels(found)
    return found


def parse_toml(text: str) -> dict[str, Any]:
    """The tables that TOML says.

    Raises
    ------
    ValueError
        If it is not valid, or nested too deeply.
    """
    try:
        found = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    check_levels(found)
    return found


def parse_record(text: str | bytes) -> dict[str, Any]:
    """The record of a run that JSON says, of format 1 or 2, under the names of format 2.

    Raises
    ------
    ValueError
        As :func:`parse_object`.
    """
    return _in_new_words(parse_object(text))


def _in_new_words(record: dict[str, Any]) -> dict[str, Any]:
    named = {RENAMED.get(key, key): value for key, value in record.items()}
    if isinstance(source := named.get("source"), dict):
        named["source"] = _in_new_words(source)
    return named


def check_levels(value: object) -> None:
    """Raise a ValueError if tables and lists lie too deeply in each other."""
    level: list[object] = [value]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_LEVELS:
            raise ValueError("it is nested too deeply")
        below: list[object] = []
        for table in level:
            if isinstance(table, dict):
                below += [v for v in table.values() if isinstance(v, dict | list)]
            elif isinstance(table, list):
                below += [v for v in table if isinstance(v, dict | list)]
        level = below


def reason(error: Exception) -> str:
    """Why a file cannot be read."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def is_whole(value: object, least: int = 0) -> TypeGuard[int]:
    """Whether a value of JSON is an integer of 64 bits, `least` or more."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63
