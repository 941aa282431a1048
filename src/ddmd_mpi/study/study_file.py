"""The file of a study: which arms, seeds and systems, and for how long. :func:`read_study` checks all of it."""

from __future__ import annotations

import copy
import difflib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from ..config import loader, usecases
from ..config.imports import place_of
from ..config.strategies import BUILT_IN, GROUP
from ..config.values import Bounds, Count, File, Name, Positive, Section
from ..errors import ConfigError

#: Settings that the study itself gives to every trial.
OWN_SETTINGS = {
    ("run", "seed"): "seeds",
    ("run", "duration"): "aggregate_ns",
    ("run", "usecase"): "systems",
    ("simulation", "walker_length_ns"): "aggregate_ns",
    ("output", "directory"): "the option --output",
}
Settings = dict[str, dict[str, Any]]
Seed = Annotated[int, Bounds(ge=0, le=2**31 - 1)]
Passages = Annotated[list[Positive], Bounds(min_length=1, max_length=9)]


@dataclass(frozen=True, kw_only=True)
class SystemSection(Section):
    """One system, ``[system.NAME]``: what differs from the study's own values."""

    usecase: str | None = None
    config: File | None = None
    aggregate_ns: Positive | None = None
    ranks: Count | None = None
    passages_angstrom: Passages | None = None
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudySection(Section):
    """The keys of the file."""

    title: str = ""
    systems: Annotated[list[Name], Bounds(min_length=1)]
    arms: Annotated[list[Name], Bounds(min_length=1)]
    #: A number N stands for 1 to N.
    seeds: Count | Annotated[list[Seed], Bounds(min_length=1)]
    #: Simulated time of a trial, all walkers together.
    aggregate_ns: Positive
    #: The arm that the others are compared with.
    reference: str | None = None
    ranks: Count = 4
    at_once: Count = 1
    #: Words before the program's own, with {ranks} and {slot}.
    launcher: str | None = None
    passages_angstrom: Passages = field(default_factory=lambda: [3.0, 2.0, 1.5])
    #: Whether trajectories, archives and models of finished trials stay.
    keep_runs: bool = True
    settings: Settings = field(default_factory=dict)
    arm: dict[Name, Settings] = field(default_factory=dict)
    system: dict[Name, SystemSection] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """A system of a study, complete."""

    name: str
    usecase: str
    config: Path | None
    aggregate_ns: float
    n_ranks: int
    passages_angstrom: tuple[float, ...]
    settings: Settings


@dataclass(frozen=True)
class Study:
    """A study as its file describes it, checked.

    Parameters
    ----------
    text
        The file itself.
    arms
        Settings of each arm, by its name.
    """

    name: str
    title: str
    text: str
    systems: tuple[System, ...]
    arms: dict[str, Settings]
    seeds: tuple[int, ...]
    reference: str
    at_once: int
    launcher: str | None
    keep_runs: bool

    def settings(self, system: System, arm: str) -> Settings:
        """What a trial changes of its use case: settings of the system and of the study, then those of the arm."""
        merged: Settings = {}
        for settings in (system.settings, self.arms[arm]):
            loader.overlay(merged, copy.deepcopy(settings))
        return merged


def read_study(path: Path) -> Study:
    """The study that a file describes.

    Raises
    ------
    ConfigError
        If it cannot be read, or a key, an arm or a system is unknown; the nearest known one is named.
    """
    try:
        return _study(path)
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if str(path) in message else f"{path}: {message}") from error


def _study(path: Path) -> Study:
    given = loader.read_toml(path)
    directory = path.resolve().parent
    found = loader.validate_section(StudySection, given)
    _check_names("arm", found.arms, found.arm, _is_strategy, BUILT_IN)
    _check_names("system", found.systems, found.system, usecases().__contains__, usecases())
    reference = found.reference or ("none" if "none" in found.arms else found.arms[0])
    if reference not in found.arms:
        raise ConfigError(f"reference {reference} is not an arm of this study{nearest(reference, found.arms)}")
    _check_launcher(found.launcher)
    return Study(
        name=path.stem,
        title=found.title or path.stem,
        text=path.read_text(encoding="utf-8"),
        systems=tuple(_system(name, found, directory) for name in found.systems),
        arms={name: _arm(name, found, directory) for name in found.arms},
        seeds=_seeds(found.seeds),
        reference=reference,
        at_once=found.at_once,
        launcher=found.launcher,
        keep_runs=found.keep_runs,
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the known one that is most like it, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f": did you mean {near[0]}?" if near else f": choose from {', '.join(known)}"


def _is_strategy(name: str) -> bool:
    return name in BUILT_IN or place_of(name, GROUP) is not None


def _check_names(kind: str, names: list[str], tables: Iterable[str], built_in: Any, known: Iterable[str]) -> None:
    """Raise a ConfigError for a name that says nothing, one given twice, or a table that no name asks for."""
    what = {"arm": "a strategy", "system": "a use case"}[kind]
    for name in names:
        if name not in tables and not built_in(name):
            cure = nearest(name, [*tables, *known])
            raise ConfigError(f"{kind} {name} is not {what} and has no table [{kind}.{name}]{cure}")
        if names.count(name) > 1:
            raise ConfigError(f"{kind} {name} is listed twice: remove one of them from {kind}s")
    for name in tables:
        if name not in names:
            raise ConfigError(f"the table [{kind}.{name}] is of no {kind} in {kind}s{nearest(name, names)}")


def _check_launcher(launcher: str | None) -> None:
    if launcher is None:
        return
    try:
        words = shlex.split(launcher.format(ranks=1, slot=0))
    except (LookupError, ValueError) as error:
        raise ConfigError(f"launcher {launcher!r} may contain {{ranks}} and {{slot}} only ({error})") from error
    if not words or "{ranks}" not in launcher:
        raise ConfigError(f"launcher {launcher!r} must say {{ranks}}, for example srun --exact -n {{ranks}}")


def _system(name: str, study: StudySection, directory: Path) -> System:
    own = study.system.get(name, SystemSection())
    config = None if own.config is None else directory / own.config
    usecase = own.usecase or (loader.usecase_of(config) if config is not None else None) or name
    if config is None and usecase not in usecases():
        raise ConfigError(f"system {name} has neither usecase nor config{nearest(usecase, usecases())}")
    settings: Settings = {}
    for given in (own.settings, study.settings):
        loader.overlay(settings, _checked(copy.deepcopy(given), directory))
    return System(
        name=name,
        usecase=usecase,
        config=config,
        aggregate_ns=own.aggregate_ns or study.aggregate_ns,
        n_ranks=own.ranks or study.ranks,
        passages_angstrom=tuple(sorted(own.passages_angstrom or study.passages_angstrom, reverse=True)),
        settings=settings,
    )


def _arm(name: str, study: StudySection, directory: Path) -> Settings:
    """The settings of an arm: the strategy of its name, if it is one, and its table."""
    settings: Settings = {"steering": {"strategy": name}} if _is_strategy(name) else {}
    loader.overlay(settings, _checked(study.arm.get(name, {}), directory))
    return settings


def _checked(settings: Settings, directory: Path) -> Settings:
    """The settings with absolute paths; a ConfigError if they name what the study itself sets."""
    for (section, key), cure in OWN_SETTINGS.items():
        if key in settings.get(section, {}):
            raise ConfigError(f"{section}.{key} is set by the study itself: leave it out, and use {cure}")
    loader.make_absolute(settings, directory)
    return settings


def _seeds(seeds: int | list[int]) -> tuple[int, ...]:
    found = tuple(range(1, seeds + 1)) if isinstance(seeds, int) else tuple(seeds)
    if len(set(found)) < len(found):
        raise ConfigError("a seed is listed twice: the seeds of a study are different numbers")
    return found
