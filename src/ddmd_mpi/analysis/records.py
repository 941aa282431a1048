"""The records of a run directory as they lie on disk: files may be missing, and the last line of any half written."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..rundir import disk
from ..rundir.files import parse_object, parse_toml, read_bytes

Record = dict[str, Any]


def table(value: Any) -> Record:
    """The value if it is a table, else an empty one."""
    return value if isinstance(value, dict) else {}


def number(value: Any) -> float:
    """The value as a float, NaN if it is not a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan


def column(records: Iterable[Record], *keys: str) -> np.ndarray:
    """The number at ``record[key][key]...`` of every record, NaN if it is missing, shape (n_records,)."""

    def value(record: Any) -> float:
        for key in keys:
            record = table(record).get(key)
        return number(record)

    return np.array([value(r) for r in records], dtype=float)


def is_span(event: Record) -> bool:
    """Whether a line of events is a complete span."""
    return (
        isinstance(event.get("name"), str)
        and isinstance(event.get("role"), str)
        and isinstance(event.get("rank"), int)
        and number(event.get("end")) >= number(event.get("start"))
    )


def declared_parameters(settings: Record) -> list[Record]:
    """The tables of ``features.order_parameters``."""
    declared = table(settings.get("features")).get("order_parameters")
    return [table(p) for p in declared] if isinstance(declared, list) else []


def parameter_names(settings: Record) -> list[str]:
    """The names of ``features.order_parameters``."""
    return [p["name"] for p in declared_parameters(settings) if isinstance(p.get("name"), str) and p["name"]]


def read_toml(path: Path) -> Record:
    """Tables of a TOML file, empty if it is missing or half written."""
    try:
        return parse_toml(read_bytes(path).decode(errors="replace"))
    except (OSError, ValueError):
        return {}


def read_json(path: Path) -> Record:
    """The object in a JSON file, empty if it is missing or half written."""
    try:
        return parse_object(read_bytes(path).decode(errors="replace"))
    except (OSError, ValueError):
        return {}


def read_lines(paths: Iterable[Path]) -> list[Record]:
    """The records in files of JSON lines, one file after the other, without the lines that are incomplete."""
    return [record for path in sorted(paths) for record in disk.read_lines(path, strict=False) if record]


def read_csv(path: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV file of numbers; what is not a number is NaN, a row that is incomplete is left out."""
    try:
        lines = read_bytes(path, disk.MAX_LINES).decode(errors="replace").split("\n")[:-1]
    except OSError:
        lines = []
    names = lines[0].strip().split(",") if lines else []
    rows = [line for line in lines[1:] if line.count(",") == len(names) - 1]
    try:
        values = np.loadtxt(rows, delimiter=",", ndmin=2) if rows else np.empty((0, len(names)))
    except ValueError:
        values = np.array([[_float(cell) for cell in row] for row in csv.reader(rows)])
    return dict(zip(names, values.T, strict=True))


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan
