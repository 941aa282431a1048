"""The kinds of values that settings have, with their bounds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

T = TypeVar("T")
Auto = Literal["auto"]
#: Beyond these no number is meant.
LARGEST, MOST = 1e30, 2**31 - 1
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Size = Annotated[int, Field(ge=1, le=65_536)]  # of a layer, or of a pool of threads
Fraction = Annotated[float, Field(ge=0, le=1)]

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


Duration = Annotated[Positive, BeforeValidator(seconds)]
#: What becomes a part of names of files.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


def printable(name: T) -> T:
    """The name of a file, which must not break the lines of a log or lead a terminal astray."""
    if not str(name).isprintable():
        raise ValueError("the name of a file has no control characters")
    return name


File = Annotated[Path, AfterValidator(printable)]
FileName = Annotated[str, AfterValidator(printable)]
