"""``ddmd-mpi init``: an editable copy of a use case."""

from __future__ import annotations

import shutil
from pathlib import Path

from .. import config as configuration
from ..config.dynamics import SystemSection
from ..errors import RunDirectoryError


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
        written, text = [], configuration.to_toml(settings)
        for path in files_of(settings.system):
            written.append(shutil.copy(path, directory / path.name))
            text = text.replace(f'"{path}"', f'"{path.name}"')
        file = directory / "config.toml"
        file.write_text(f"# Every setting of the use case {usecase}; paths are relative to this file.\n\n{text}")
    except OSError as error:
        raise RunDirectoryError(f"cannot write into {directory}: {error.strerror}") from error
    return [file, *map(Path, written)]


def files_of(system: SystemSection) -> list[Path]:
    """The files that a system is made of, without those that come with OpenMM."""
    named = [system.start, system.target, system.topology, *system.parameters, *system.force_field]
    for row in system.complexes:
        named += [row.coordinates, row.topology, *row.parameters, row.ligand, row.start, *(row.force_field or ())]
    return [path for path in dict.fromkeys(Path(n) for n in named if n is not None) if path.is_file()]
