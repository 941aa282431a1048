"""Archives of NumPy arrays, read so that nothing in them is executed, and nothing takes more memory than the file has.

``numpy.load`` allocates what the head of an array announces, and inflates whatever is compressed. Here the sizes are
compared first; arrays of this program are never compressed.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from .files import check_regular

MAX_BYTES = 1 << 37
HEADS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
#: What a damaged archive makes Python's and NumPy's readers raise.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    OverflowError,
)


def read_npz(path: Path, most: int = MAX_BYTES, only: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an archive by name, as ``numpy.savez`` writes it.

    Parameters
    ----------
    only
        Names of those that are wanted, as far as it has them; None for all.

    Raises
    ------
    OSError
        If the file is missing or is not regular (see :func:`.files.check_regular`).
    ValueError
        If it is damaged, compressed, or holds anything but arrays of plain numbers, bytes and text.
    """
    size = check_regular(path, most)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > size:
                raise ValueError("its arrays are compressed")
            named = {m.filename.removesuffix(".npy"): m for m in members}
            return {name: _array(archive, m) for name, m in named.items() if only is None or name in only}
    except DAMAGE as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array, whose head announces as many bytes as there are."""
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in HEADS:
            raise ValueError(f"{member.filename} is of a version of NumPy's format that is not read: {version}")
        shape, fortran, dtype = HEADS[version](file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, which would have to be unpickled")
        count = math.prod(shape)
        if min(shape, default=0) < 0 or not dtype.itemsize or count * dtype.itemsize != member.file_size - file.tell():
            raise ValueError(f"{member.filename} announces {dtype} of shape {shape} and has other bytes")
        values = np.frombuffer(bytearray(file.read()), dtype) if count else np.empty(0, dtype)
    return values.reshape(shape, order="F" if fortran else "C")
