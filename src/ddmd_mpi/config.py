"""The settings of a run: TOML -> validated and frozen, with complete defaults per use case.

The resolved settings of every run are written back to its ``config.toml``.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from .errors import ConfigError
from .files import MOST_LEVELS, check_levels, read_text
from .sections import OF_OPENMM, Config

#: Settings that are paths, or lists of them.
PATHS = (("system", "start"), ("system", "target"), ("system", "topology"), ("system", "parameters"),
         ("streams", "adios2_xml"), ("training", "initial_weights"), ("emulation", "trajectory"))
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
    for assignment in assignments:
        assigned = parse_assignment(assignment)
        make_absolute(assigned, Path.cwd())
        overlay(settings, assigned)
    settings.setdefault("run", {}).setdefault("usecase", usecase)
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
        settings = _parsed(read_text(file))
    except OSError as error:
        raise ConfigError(f"cannot read the config file {file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    make_absolute(settings, file.resolve().parent)
    return settings


def _parsed(text: str) -> dict[str, Any]:
    """What TOML says; a ValueError if it is none, or nested too deeply."""
    try:
        found = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    check_levels(found)
    return found


def make_absolute(settings: dict[str, Any], directory: Path) -> None:
    """Take relative paths in `settings` as relative to `directory`; what OpenMM brings keeps its name."""
    for section, key in PATHS:
        _resolve(settings.get(section), (key,), directory)
    system = settings.get("system")
    rows = system.get("complexes") if isinstance(system, dict) else None
    for row in rows if isinstance(rows, list) else ():
        _resolve(row, ROW_PATHS, directory)
    for table in (system, *(rows if isinstance(rows, list) else ())):
        if isinstance(table, dict) and isinstance(table.get("force_field"), list):
            table["force_field"] = [_force_field(name, directory) for name in table["force_field"]]


def _resolve(table: Any, keys: tuple[str, ...], directory: Path) -> None:
    for key in keys if isinstance(table, dict) else ():
        if key in table:
            table[key] = _resolved(table[key], directory)


def _resolved(value: Any, directory: Path) -> Any:
    if isinstance(value, list):
        return [_resolved(v, directory) for v in value]
    return str(directory / value) if isinstance(value, str) and not value.startswith(OF_OPENMM) else value


def _force_field(name: Any, directory: Path) -> Any:
    """A force field that lies beside the config is that file; any other name is one of OpenMM's own."""
    return str(directory / name) if isinstance(name, str) and (directory / name).is_file() else name


def parse_assignment(text: str) -> dict[str, Any]:
    """``section.key=value`` as nested settings; a value that is not TOML is taken as a string."""
    name, equals, value = text.partition("=")
    keys = name.strip().split(".")
    if not equals or not 2 <= len(keys) <= MOST_LEVELS or not all(keys):
        raise ConfigError(f"--set {text!r}: section.key=value is expected, for example --set run.seed=7")
    try:
        parsed = _parsed(f"v = {value}")["v"]
    except ValueError:
        parsed = value.strip()
    for key in reversed(keys):
        parsed = {key: parsed}
    return parsed


def overlay(base: dict[str, Any], top: dict[str, Any]) -> None:
    """Overwrite `base` by `top`, table by table."""
    for key, value in top.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            overlay(base[key], value)
        else:
            base[key] = value


def validate(settings: dict[str, Any]) -> Config:
    """The frozen settings, or a :class:`ConfigError` of one sentence about the first thing that is wrong."""
    try:
        return Config(**settings)
    except ValidationError as error:
        raise ConfigError(_sentence(error.errors()[0], settings)) from None


def _sentence(problem: dict[str, Any], settings: dict[str, Any]) -> str:
    """One sentence about one pydantic problem: where, what was expected, what was got, the cure."""
    location, where = [str(k) for k in problem["loc"]], _where(problem["loc"], settings)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
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
        row = value[key] if isinstance(value, list) and isinstance(key, int) and key < len(value) else None
        if isinstance(row, dict):
            table, own = _joined(location[:i]), _joined(location[i + 1 :])
            owner, name = f"row {key + 1} of {table}", row.get("name")
            if table == "system.complexes" and isinstance(name, str):
                owner = f"complex {name} ({owner})"
            return f"{own} of {owner}" if own else owner
        value = value.get(key) if isinstance(value, dict) else None
    return _joined(location)


def _joined(location: tuple[str | int, ...]) -> str:
    """Keys with dots between them, without those by which pydantic tells the types of a setting apart."""
    others = ("literal[", "constrained", "function-", "int", "float")
    return ".".join(key for key in map(str, location) if not key.startswith(others))


def _known_keys(location: list[str]) -> list[str]:
    """Names that a section knows."""
    model: Any = Config
    for key in location:
        if key.isdigit():  # a row of a table
            continue
        annotation = model.model_fields[key].annotation if key in getattr(model, "model_fields", {}) else None
        annotation = next(iter(get_args(annotation)), annotation)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return sorted(model.model_fields)


def to_toml(config: Config) -> str:
    """The complete settings as TOML; :func:`load` of it gives the same settings. What is not set is a comment."""
    settings = config.model_dump(mode="json")
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
