"""HDF5 files that are there whole or not at all, and say what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .. import __version__
from ..disk import written
from ..errors import StreamError
from ..frames import Field
from ..rundir import write_durably

#: Attributes of every file.
FORMAT = {"program": "ddmd-mpi", "version": 1}
#: The file format of HDF5 1.10, in which the structure of a file is checksummed, though not its numbers.
LIBRARY = "v110"
#: HDF5 enlarges a file in memory by so many bytes at a time.
GROWTH = 1 << 20


def write(path: Path, identity: Mapping[str, Any], fill: Callable[[h5py.File], None]) -> int:
    """Put a new HDF5 file at `path`: on the disk when this returns, and until then not there. Returns its bytes.

    HDF5 makes it in memory and never has a file open on the disk: so a full disk is a plain error of plain output,
    after which nothing is half written, and nothing half closed.

    Parameters
    ----------
    identity
        Attributes that :func:`reading` asks for: texts and numbers.
    fill
        Makes the datasets, and further attributes.

    Raises
    ------
    DiskError
        If the disk refuses.
    """
    with h5py.File(path.name, "w", driver="core", backing_store=False, block_size=GROWTH, libver=LIBRARY) as file:
        file.attrs.update({name: fixed(value) for name, value in {**FORMAT, **identity}.items()})
        file.attrs["program_version"] = __version__
        fill(file)
        file.flush()
        image = file.id.get_file_image()
    with written(path):
        for directory in (path.parent.parent, path.parent):  # the run directory is there, or was deleted for good
            directory.mkdir(exist_ok=True)
        write_durably(path, image)
    return len(image)


def fixed(value: object) -> object:
    """A text as one of fixed length: HDF5 may search for ever for a longer one in a file that is damaged."""
    return np.bytes_(value.encode()) if isinstance(value, str) else value


def describe(dataset: h5py.Dataset, field: Field) -> None:
    """Give a dataset the unit and the meaning of its row in the table of frames."""
    dataset.attrs.update({"unit": field.unit or "1", "meaning": field.meaning})


@contextmanager
def reading(path: Path, identity: Mapping[str, Any]) -> Iterator[h5py.File]:
    """The file at `path`, if it was written with this identity.

    Raises
    ------
    StreamError
        Naming the file: if it is not there, not whole or not the one that is meant, or cannot be read in the block.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            for name, value in {**FORMAT, **identity}.items():
                found = file.attrs.get(name)
                if found != fixed(value):
                    raise StreamError(f"{path} is another file: its {name} is {found} and not {value}")
            yield file
    except FileNotFoundError as error:
        raise StreamError(f"{path} is not there") from error
    except (OSError, LookupError, RuntimeError, ValueError) as error:
        raise StreamError(f"{path} cannot be read: {error}") from error
