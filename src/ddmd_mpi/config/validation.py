"""Validates settings; each error is one sentence. The only module that imports pydantic."""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from ..errors import ConfigError
from .values import Section

S = TypeVar("S", bound=Section)


_adapter = cache(TypeAdapter)


def validated(kind: type[S], settings: dict[str, Any]) -> S:
    """The settings, or one section of them, as `kind`; a :class:`ConfigError` about the first thing that is wrong."""
    try:
        return cast(S, _adapter(kind).validate_python(settings))  # type: ignore[arg-type]  # classes are hashable
    except ValidationError as error:
        problems = error.errors()
        unknown = [p for p in problems if p["type"] == "unexpected_keyword_argument"]  # says more than what is missing
        raise ConfigError(_sentence(kind, (unknown or problems)[0], settings)) from None


def _sentence(kind: type[Section], problem: ErrorDetails, settings: dict[str, Any]) -> str:
    """One sentence about one pydantic problem: where, what was expected, what was got, the cure."""
    location, where = [str(k) for k in problem["loc"]], _where(problem["loc"], settings)
    if problem["type"] == "unexpected_keyword_argument":
        known = _known_keys(kind, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.4)
        cure = f"known are {', '.join(known)}"
        if near:
            cure = f"did you mean {_where((*problem['loc'][:-1], near[0]), settings)}?"
        return f"unknown setting {where}: {cure}"
    if problem["type"] == "missing":
        return f"the setting {where} is missing: add it to the config file"
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], dict):  # Keys that do not fit each other: the message names them.
        return f"settings{f' of {where}' if where else ''}: {message}"
    return f"setting {where}: {message[0].lower()}{message[1:]} (got {problem['input']!r})"


def _where(location: tuple[str | int, ...], settings: dict[str, Any]) -> str:
    """The place of a setting, as section.key; rows of tables are counted from 1, and named."""
    value: Any = settings
    for i, key in enumerate(location):
        is_row = isinstance(value, list) and isinstance(key, int) and key < len(value)
        if isinstance(key, int) and is_row and isinstance(row := value[key], dict):
            table, own = _joined(location[:i]), _joined(location[i + 1 :])
            owner, name = f"row {key + 1} of {table}", row.get("name")
            if table == "system.complexes" and isinstance(name, str):
                owner = f"complex {name} ({owner})"
            return f"{own} of {owner}" if own else owner
        value = value.get(key) if isinstance(value, dict) else None
    return _joined(location)


def _joined(location: tuple[str | int, ...]) -> str:
    """Keys with dots between them, without those by which pydantic tells the types of a setting apart."""
    others = ("literal[", "constrained", "function-")
    return ".".join(key for key in map(str, location) if not key.startswith(others) and key not in ("int", "float"))


def _known_keys(kind: type[Section], location: list[str]) -> list[str]:
    """Names that a section of `kind` knows, or one inside it."""
    section: Any = kind
    keys = iter(location)
    for key in keys:
        if key.isdigit():  # a row of a table
            continue
        annotation = get_type_hints(section).get(key)
        if get_origin(annotation) is dict:  # the next key is a name
            next(keys, None)
        section = next((a for a in (*get_args(annotation), annotation) if is_dataclass(a)), None)
        if section is None:
            return []
    return sorted(field.name for field in fields(section))
