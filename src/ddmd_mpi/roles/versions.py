"""The saved versions of the model: numbered, the best of them kept on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ..errors import ModelError
from ..files import parse_object, read_bytes
from ..model import ModelWeights


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
        self._losses = dict(found(directory))  # of the versions that are there
        self.newest = max(self._losses, default=0)
        self.newest_round = round_of(directory, self.newest) if self.newest else 0

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
    """The versions that are there, with their validation losses."""
    for path in sorted(directory.glob("v*/metadata.json")):
        try:
            metadata = parse_object(read_bytes(path))
            yield int(metadata["version"]), float(metadata["validation_loss"])
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise strange(path, error) from error


def round_of(directory: Path, version: int) -> int:
    """The round of training that a version came from; 0 where it does not say."""
    path = directory / f"v{version:06d}" / "metadata.json"
    try:
        return int(parse_object(read_bytes(path)).get("round", 0))
    except (OSError, TypeError, ValueError) as error:
        raise strange(path, error) from error


def strange(path: Path, error: Exception) -> ModelError:
    """What is wrong with metadata that are none."""
    return ModelError(f"{path} is no metadata of a model of this run ({error!r}): take {path.parent} away")
