"""``ddmd-mpi init``: an editable copy of a use case."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import config as configuration
from .errors import RunDirectoryError


def initialise(directory: Path, usecase: str) -> list[Path]:
    """Write the complete settings of a use case and its structures into a new directory; the files written.

    Raises
    ------
    RunDirectoryError
        If the directory holds anything already, or cannot be written.
    """
    settings = configuration.load(usecase)
    try:
        if directory.exists() and any(directory.iterdir()):
            raise RunDirectoryError(f"the directory {directory} is not empty: name a new one")
        directory.mkdir(parents=True, exist_ok=True)
        written = [shutil.copy(path, directory / path.name) for path in (settings.system.start, settings.system.target)]
        text = configuration.to_toml(settings)
        for path in (settings.system.start, settings.system.target):
            text = text.replace(f'"{path}"', f'"{path.name}"')
        file = directory / "config.toml"
        file.write_text(f"# Every setting of the use case {usecase}; paths are relative to this file.\n\n{text}")
    except OSError as error:
        raise RunDirectoryError(f"cannot write into {directory}: {error.strerror}") from error
    return [file, *map(Path, written)]
