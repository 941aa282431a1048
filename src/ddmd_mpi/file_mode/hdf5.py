"""HDF5 files that are complete or absent, and say what they hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .. import __version__
from ..errors import StreamError
from ..frames.block import Field
from ..rundir.disk import disk_errors, write_durably
from ..rundir.files import check_regular, reason

#: Attributes of every file.
FORMAT = {"program": "ddmd-mpi", "version": 1}
#: The file format of HDF5 1.10, in which the structure of a file is checksummed, though not its numbers.
LIBRARY = "v110"
#: HDF5 enlarges a file in memory by this many bytes at a time.
GROWTH = 1 << 20
MAX_BYTES = 1 << 40


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
    with disk_errors(path):
        for directory in (path.parent.parent, path.parent):  # the run directory is there, or was deleted for good
            directory.mkdir(exist_ok=True)
        write_durably(path, image)
    return len(image)


def fixed(value: object) -> object:
    """A text as one of fixed length: HDF5 may search forever for a longer one in a file that is damaged."""
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
        Naming the file: if it is missing, incomplete, not the one that is meant, or cannot be read in the block.
    """
    try:
        check_regular(path, MAX_BYTES)
        with h5py.File(path, "r", locking=False) as file:
            for name, value in {**FORMAT, **identity}.items():
                found = file.attrs.get(name)
                if found != fixed(value):
                    raise StreamError(f"{path} is not the expected file: its {name} is {found} and not {value}")
            yield file
    except FileNotFoundError as error:
        raise StreamError(f"{path} is not there") from error
    except (OSError, LookupError, RuntimeError, ValueError) as error:
        raise StreamError(f"{path} cannot be read: {reason(error)}") from error


def column(file: h5py.File, name: str, shown: Collection[str] = ()) -> h5py.Dataset:
    """A dataset whose numbers lie in the file itself, or of a virtual one in the files `shown`.

    HDF5 follows links to other files, reads raw bytes of any file, inflates, and fills up what was never written.

    Parameters
    ----------
    shown
        Names of other files, as they stand in this one.

    Raises
    ------
    ValueError
        If it is not such a dataset, or announces more bytes than there are.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"its {name} is missing, or a link to another file")
    dataset, path = file[name], Path(file.filename)
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.hasobject or dataset.external:
        raise ValueError(f"its {name} is not a dataset of numbers in the file")
    sources = {source.file_name for source in dataset.virtual_sources()} if dataset.is_virtual else set()
    if dataset.chunks is not None or not sources <= set(shown):
        raise ValueError(f"its {name} is compressed, or refers to other files")
    files = [path.parent / source for source in sources] or [path]
    if dataset.nbytes > sum(file.stat().st_size for file in files if file.exists()):
        raise ValueError(f"its {name} announces {dataset.nbytes} bytes, which the file does not have")
    return dataset
