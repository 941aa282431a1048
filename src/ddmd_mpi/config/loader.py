"""The settings of a run: TOML -> validated and frozen, with complete defaults per use case.

The resolved settings of every run are written back to its ``config.toml``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ConfigError
from ..rundir.directory import INPUTS
from ..rundir.files import MAX_LEVELS, parse_toml, read_text
from .dynamics import OF_OPENMM
from .schema import Config
from .values import Section

S = TypeVar("S", bound=Section)

#: Settings that are paths, or lists of them.
PATHS = {
    "system": ("start", "starts", "target", "topology", "parameters"),
    "engine": ("input",),
    "streams": ("adios2_xml",),
    "training": ("initial_weights",),
    "emulation": ("trajectory", "markov_model"),
}
#: The same in a row of system.complexes.
ROW_PATHS = ("coordinates", "topology", "parameters", "ligand", "start")


def inputs() -> Path:
    """Directory of the embedded use cases."""
    return Path(str(resources.files("ddmd_mpi.inputs")))


def usecases() -> list[str]:
    """Names of the embedded use cases."""
    return sorted(p.stem for p in inputs().glob("*.toml"))


def load(usecase: str, file: Path | None = None, assignments: tuple[str, ...] = ()) -> Config:
    """The use case's defaults, overlaid by `file`, overlaid by ``section.key=value`` assignments.

    A `file` that names another use case, as ``ddmd-mpi init --pdb`` writes, stands on the defaults of the sections.

    Raises
    ------
    ConfigError
        Unknown use case, unreadable file, unknown key (the nearest known one is named), or a value of the wrong type.
    """
    given = {} if file is None else read_toml(file)
    if usecase in usecases():
        settings = read_toml(inputs() / f"{usecase}.toml")
    elif _name(given) == usecase and "system" in given:
        settings = {}
    else:
        raise ConfigError(f"unknown use case {usecase!r}: choose one of {', '.join(usecases())}")
    overlay(settings, given)
    if isinstance(run := settings.setdefault("run", {}), dict):
        run.setdefault("usecase", usecase)
    return _assigned(settings, assignments)


def load_run(file: Path, assignments: tuple[str, ...] = ()) -> Config:
    """The settings that a run has written, overlaid by assignments: they are complete, whatever a use case says today.

    Raises
    ------
    ConfigError
        As :func:`load`.
    """
    return _assigned(read_toml(file), assignments)


def _assigned(settings: dict[str, Any], assignments: tuple[str, ...]) -> Config:
    """The settings, overlaid by ``section.key=value`` assignments."""
    given: dict[str, Any] = {}
    for assignment in assignments:
        assigned = parse_assignment(assignment)
        make_absolute(assigned, Path.cwd())
        overlay(given, assigned)
    overlay(settings, given)
    return validate(settings)


def _name(settings: dict[str, Any]) -> object:
    """The use case that settings name."""
    run = settings.get("run")
    return run.get("usecase") if isinstance(run, dict) else None


def usecase_of(file: Path) -> str | None:
    """The use case that a config file names, None for none.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    name = _name(read_toml(file))
    return name if isinstance(name, str) else None


def read_toml(file: Path) -> dict[str, Any]:
    """Settings of a TOML file; relative paths in it are relative to the file."""
    try:
        settings = parse_toml(read_text(file))
    except OSError as error:
        raise ConfigError(f"cannot read the config file {file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    make_absolute(settings, file.resolve().parent)
    return settings


def make_absolute(settings: dict[str, Any], directory: Path) -> None:
    """Take relative paths in `settings` as relative to `directory`; what OpenMM brings keeps its name."""
    for table, keys in file_tables(settings):
        for key in keys:
            table[key] = map_strings(
                table[key], lambda path: path if path.startswith(OF_OPENMM) else str(directory / path)
            )
        if isinstance(table.get("force_field"), list):
            table["force_field"] = [_force_field(name, directory) for name in table["force_field"]]


def relative(config: Config, directory: Path) -> dict[str, Any]:
    """The settings as JSON has them; paths of copies in the run directory are relative to it."""
    inside = directory / INPUTS
    return _moved(
        config.plain(),
        lambda path: str(Path(path).relative_to(directory)) if Path(path).is_relative_to(inside) else path,
    )


def absolute(settings: dict[str, Any], directory: Path) -> Config:
    """The inverse of :func:`relative`, for a run directory that may have moved; raises a ConfigError as a load does."""
    return validate(
        _moved(copy.deepcopy(settings), lambda path: str(directory / path) if path.startswith(f"{INPUTS}/") else path)
    )


def _moved(settings: dict[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    """The settings with every path moved, those of force fields included."""
    for table, keys in file_tables(settings):
        for key in (*keys, *({"force_field"} & table.keys())):
            table[key] = map_strings(table[key], move)
    return settings


def file_tables(settings: dict[str, Any]) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """The tables in `settings` that name files, and those of their keys that do; ``force_field`` holds names, too."""
    for section, keys in PATHS.items():
        table = settings.get(section)
        if isinstance(table, dict):
            yield table, tuple(key for key in keys if key in table)
    system = settings.get("system")
    rows = system.get("complexes") if isinstance(system, dict) else None
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict):
            yield row, tuple(key for key in ROW_PATHS if key in row)


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A string, or a list of them, changed; any other value as it is."""
    if isinstance(value, list):
        return [map_strings(v, change) for v in value]
    return change(value) if isinstance(value, str) else value


def _force_field(name: Any, directory: Path) -> Any:
    """A force field that lies beside the config is that file; any other name is one of OpenMM's own."""
    return str(directory / name) if isinstance(name, str) and (directory / name).is_file() else name


def parse_assignment(text: str) -> dict[str, Any]:
    """``section.key=value`` as nested settings; a value that is not TOML is taken as a string."""
    name, equals, value = text.partition("=")
    keys = name.strip().split(".")
    if not equals or not 2 <= len(keys) <= MAX_LEVELS or not all(keys):
        raise ConfigError(f"--set {text!r}: section.key=value is expected, for example --set run.seed=7")
    try:
        parsed = parse_toml(f"v = {value}")["v"]
    except ValueError:
        parsed = value.strip()
    for key in reversed(keys):
        parsed = {key: parsed}
    return parsed


def overlay(base: dict[str, Any], top: dict[str, Any]) -> None:
    """Overwrite `base` by `top`, table by table; the options of a strategy are not those of another one."""
    if "strategy" in top and base.get("strategy", top["strategy"]) != top["strategy"]:
        base.pop("options", None)
    for key, value in top.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            overlay(base[key], value)
        else:
            base[key] = value


def validate(settings: dict[str, Any]) -> Config:
    """The frozen settings, or a :class:`ConfigError` of one sentence about the first thing that is wrong."""
    return validate_section(Config, settings)


def validate_section(kind: type[S], settings: dict[str, Any]) -> S:
    """The same for one section, :class:`Config` or another."""
    # Imports pydantic, which ranks that are sent their settings do without.
    from .validation import validated

    return validated(kind, settings)


def to_toml(config: Config, directory: Path | None = None) -> str:
    """The complete settings as TOML; :func:`load` of it gives the same settings. What is not set is a comment.

    Parameters
    ----------
    directory
        Where the file will lie: paths into it are written relative to it.
    """
    settings = config.plain() if directory is None else relative(config, directory)
    return "\n".join(f"[{name}]\n{_table(table)}" for name, table in settings.items())


def _table(table: dict[str, Any]) -> str:
    return "".join(f"# {key} =\n" if v is None else f"{key} = {toml_value(v)}\n" for key, v in table.items())


def toml_value(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):  # a row a line
        return "[\n" + "".join(f"  {toml_value(v)},\n" for v in value) + "]"
    if isinstance(value, list):
        return f"[{', '.join(toml_value(v) for v in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml_value(k)} = {toml_value(v)}' for k, v in value.items() if v is not None)}}}"
    return repr(value)
