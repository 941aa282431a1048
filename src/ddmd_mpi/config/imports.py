"""Finds what a setting names: an entry point of a group, or ``module:Class``, whose module may raise anything."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from ..errors import DDMDError


def place_of(name: str, group: str) -> tuple[str, str] | None:
    """Module and attribute that a name stands for, without importing anything; None if it stands for nothing."""
    entry = next(iter(metadata.entry_points(group=group, name=name)), None)
    if entry is not None:
        return entry.module, entry.attr
    module, colon, attribute = name.partition(":")
    return (module, attribute) if colon else None


def find(setting: str, name: str, group: str, built_in: tuple[str, ...], failure: type[DDMDError]) -> object:
    """The object that a setting names.

    Parameters
    ----------
    setting, name
        The setting, ``section.key``, and its value.
    group
        Of the entry points that it may name.
    built_in
        Its other values, for the message.
    failure
        Raised if there is no such object, or it cannot be imported.
    """
    place = place_of(name, group)
    if place is None:
        known = ", ".join([*built_in, *sorted(metadata.entry_points(group=group).names)])
        raise failure(f"unknown {setting} {name}: choose one of {known}, or give module:Class")
    module, attribute = place
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        reason = f"{error}; is it installed, or in PYTHONPATH?"
    except AttributeError as error:
        reason = str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code
        reason = described(error)
    raise failure(f"{setting} {name} cannot be imported: {reason}")


def source_of(name: str, group: str) -> Path | None:
    """The file of the user's own code, found without running it; None if the name stands for nothing that is found."""
    place = place_of(name, group)
    if place is None:
        return None
    places: Sequence[str] | None = None
    spec: ModuleSpec | None = None
    for part in place[0].split("."):
        spec = PathFinder.find_spec(part, places)
        if spec is None:
            return None
        places = spec.submodule_search_locations
    return Path(spec.origin) if spec is not None and spec.origin else None


def described(error: BaseException) -> str:
    """The kind of an error of foreign code and what it says, in one line that is not too long."""
    return textwrap.shorten(f"{type(error).__name__}: {error}".rstrip(": "), 250, placeholder=" ...")
