"""``ddmd-mpi report``: the page of a run, and what it needs."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..report import CURE, lacking


def write(
    directory: Path, version: int | None = None, reference: Path | None = None, topology: Path | None = None
) -> list[Path]:
    """Write the report of a run and return what was written; see :class:`.report.write.Wanted`.

    Raises
    ------
    InputError
        If a library is missing, or what was asked for does not exist.
    """
    if missing := lacking():
        raise InputError(f"a report needs {' and '.join(missing)}, not installed here: {CURE}")
    try:
        from ..report.write import Wanted, write_report
    except UnicodeDecodeError as error:
        raise InputError(
            "matplotlib cannot read a matplotlibrc that is not UTF-8 (in the "
            "working directory, at $MATPLOTLIBRC, or in ~/.config/matplotlib): save it as UTF-8, or "
            "delete it"
        ) from error
    return write_report(directory, Wanted(version, reference, topology))
