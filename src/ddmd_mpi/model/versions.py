"""The saved versions of the model: numbered, the best of them kept on disk."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile, ZipFile

from ..rundir.files import parse_object, read_bytes
from . import ModelWeights

#: Directories of versions: no others are touched.
NAMES = "v[0-9][0-9][0-9][0-9][0-9][0-9]*"
log = logging.getLogger(__name__)


class Versions:
    """Directories ``v000001``, ``v000002``, ... under `directory`.

    Parameters
    ----------
    directory
        ``RUN/models``.
    keep
        Versions that stay: the newest, and of the others those with the lowest validation loss.
    """

    def __init__(self, directory: Path, keep: int | Literal["all"]):
        self._directory, self._keep = directory, keep
        clear_away(directory)
        self._losses = dict(found(directory))  # of the versions that are there
        self.newest = max(self._losses, default=0)
        self.newest_round = round_of(directory, self.newest)

    def save(self, weights: ModelWeights) -> None:
        """Write the next version; what is surplus then goes."""
        weights.save(self._directory)
        self.newest = weights.version
        self._losses[weights.version] = weights.metadata["validation_loss"]
        while self._keep != "all" and len(self._losses) > self._keep:
            worst = max((v for v in self._losses if v != self.newest), key=self._losses.__getitem__)
            del self._losses[worst]
            shutil.rmtree(self._directory / f"v{worst:06d}", ignore_errors=True)


def found(directory: Path) -> Iterator[tuple[int, float]]:
    """The versions that are there and whole, with their validation losses."""
    for path in sorted(directory.glob(NAMES)):
        metadata = metadata_of(path)
        if metadata is not None:
            yield int(path.name[1:]), float(metadata["validation_loss"])


def metadata_of(path: Path) -> dict[str, Any] | None:
    """The metadata of a version; None for one that is incomplete, as a machine that went down may leave it."""
    try:
        with ZipFile(path / "weights.npz"):  # its table of contents is its end
            metadata = parse_object(read_bytes(path / "metadata.json"))
        float(metadata["validation_loss"]), int(metadata.get("round", 0))
        return metadata if int(metadata["version"]) == int(path.name[1:]) else None
    except (OSError, ValueError, LookupError, TypeError, BadZipFile):
        return None


def clear_away(directory: Path) -> None:
    """Delete the versions that are incomplete, whose numbers come again."""
    for path in sorted(directory.glob(NAMES)):
        if path.is_dir() and metadata_of(path) is None:
            log.warning("%s is not a complete version of the model: deleted", path)
            shutil.rmtree(path, ignore_errors=True)


def round_of(directory: Path, version: int) -> int:
    """The round of training that a version came from; 0 if it is not there or does not say."""
    return int((metadata_of(directory / f"v{version:06d}") or {}).get("round", 0))
