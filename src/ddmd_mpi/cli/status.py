"""What ``ddmd-mpi status`` reads."""

from __future__ import annotations

import time
from pathlib import Path

from ..errors import RunDirectoryError
from ..rundir.files import parse_record, read_bytes, reason


def read_status(directory: Path) -> dict:
    """The live view that a run leaves in its directory, which can be shown."""
    from ..monitor.progress import line, screen

    try:
        view = parse_record(read_bytes(directory / "status.json"))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(
            f"{directory} has no readable status ({reason(error)}): name a run directory"
        ) from error
    try:
        view["done"], time.time() - view["time"], screen(view), line(view)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RunDirectoryError(
            f"{directory} is not a run directory: its status.json was written by another program"
        ) from error
    return view
