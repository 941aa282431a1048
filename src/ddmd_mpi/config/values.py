"""The kinds of values that settings have, with their bounds.

pydantic reads the bounds, on the rank that validates: the markers here need no import of it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sized
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

T = TypeVar("T")
Schema = dict[str, Any]


class Bounds:
    """Bounds of a type, by their names in pydantic's core schema: ``gt``, ``le``, ``pattern``, ``max_length``, ..."""

    def __init__(self, **bounds: object):
        self.bounds = bounds

    def __get_pydantic_core_schema__(self, source: object, handler: Callable[[object], Schema]) -> Schema:
        return {**handler(source), **self.bounds}


@dataclass(frozen=True)
class Check:
    """A function that a value must pass, and that may change it: ``before`` pydantic takes the value, or ``after``."""

    function: Callable[[Any], Any]
    when: Literal["before", "after"] = "after"

    def __get_pydantic_core_schema__(self, source: object, handler: Callable[[object], Schema]) -> Schema:
        function = {"type": "no-info", "function": self.function}
        return {"type": f"function-{self.when}", "function": function, "schema": handler(source)}


Auto = Literal["auto"]
#: Beyond these no number is meant.
LARGEST, MOST, MOST_NAMES = 1e30, 2**31 - 1, 65_535
Positive = Annotated[float, Bounds(gt=0, le=LARGEST, allow_inf_nan=False)]
NonNegative = Annotated[float, Bounds(ge=0, le=LARGEST, allow_inf_nan=False)]
Count = Annotated[int, Bounds(ge=1, le=MOST)]
Size = Annotated[int, Bounds(ge=1, le=65_536)]  # of a layer, or of a pool of threads
Fraction = Annotated[float, Bounds(ge=0, le=1)]

_DURATION = re.compile(r"(?P<n>\d+(\.\d+)?)\s*(?P<unit>s|sec|min|m|h|d)?$")
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, None: 1}


def seconds(text: object) -> object:
    """A duration such as ``90``, ``"90s"``, ``"3min"``, ``"12h"`` or ``"2d"`` in seconds."""
    match = _DURATION.match(text.strip()) if isinstance(text, str) else None
    if match:
        return float(match["n"]) * _SECONDS[match["unit"]]
    if isinstance(text, str):
        raise ValueError("a duration such as 90s, 3min, 12h or 2d is expected")
    return text


Duration = Annotated[Positive, Check(seconds, "before")]
#: What becomes a part of names of files.
Name = Annotated[str, Bounds(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
#: What is built in, or the user's own: its entry point, or module:attribute.
PlugIn = Annotated[str, Bounds(pattern=r"^[A-Za-z_][\w.-]*(:[A-Za-z_]\w*)?$")]


def printable(name: T) -> T:
    """The name of a file, which must not break the lines of a log or lead a terminal astray."""
    if not str(name).isprintable():
        raise ValueError("a file name must not contain control characters")
    return name


def some(names: Sized) -> Sized:
    """One name, or a list with at least one and not too many."""
    if not 1 <= len(names) <= MOST_NAMES:
        raise ValueError(f"one to {MOST_NAMES:,} names, or a selection, are expected")
    return names


File = Annotated[Path, Check(printable)]
FileName = Annotated[str, Check(printable)]


def interface(text: str) -> str:
    """A network interface by its name, or by the IPv4 network of its address."""
    if "/" not in text:
        if not re.fullmatch(r"[A-Za-z0-9_.:@-]{1,15}", text) or re.fullmatch(r"[\d.]+|.*:.*:.*", text):
            raise ValueError("give the name of an interface such as ib0, or an IPv4 network such as 10.1.0.0/16")
        return text
    try:
        return str(ipaddress.IPv4Network(text, strict=False))
    except ValueError as error:
        raise ValueError(f"{text} is not an IPv4 network such as 10.1.0.0/16") from error


Interface = Annotated[str, Check(interface)]


@dataclass(frozen=True, kw_only=True)
class Section:
    """Base of every section, a frozen dataclass. What checks several keys together is its ``__post_init__``."""

    #: A key that a section does not know is an error.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def plain(self) -> dict[str, Any]:
        """The settings as JSON has them: paths are strings."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Section):
        return value.plain()
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
