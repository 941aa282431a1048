"""Versioned weights of a model: one buffer for a stream, one directory for the disk. NumPy and JSON, no pickle."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from ..rundir.files import is_whole, parse_object, read_bytes
from ..rundir.npz import read_npz

MAGIC = b"DDMDW001"
ALIGNMENT = 64
#: Dtypes of weights: numbers of at most 16 bytes.
NUMBERS = re.compile(r"[<>|=][biufc](1|2|4|8|16)")
UNREADABLE = (OSError, LookupError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class ModelWeights:
    """The arrays of one model version.

    Parameters
    ----------
    version
        Counted from 1.
    arrays
        In the model's own order.
    metadata
        What JSON can hold: samples, epochs, losses, architecture, time of creation.
    """

    version: int
    arrays: list[np.ndarray]
    metadata: dict[str, Any] = field(default_factory=dict)

    def pack(self) -> np.ndarray:
        """One uint8 buffer: magic, size of the header (int64), header (JSON), arrays."""
        arrays = [np.asarray(a, order="C") for a in self.arrays]
        forms = [{"dtype": a.dtype.str, "shape": a.shape} for a in arrays]
        header = json.dumps({"version": self.version, "metadata": self.metadata, "arrays": forms}).encode()
        start = len(MAGIC) + 8
        spans = _spans(start + len(header), [a.nbytes for a in arrays])
        buffer = np.zeros(spans[-1][1] if spans else start + len(header), np.uint8)
        buffer[: start + len(header)] = np.frombuffer(MAGIC + len(header).to_bytes(8, "little") + header, np.uint8)
        for (first, last), array in zip(spans, arrays, strict=True):
            buffer[first:last] = array.reshape(-1).view(np.uint8)
        return buffer

    @staticmethod
    def unpack(buffer: np.ndarray) -> ModelWeights:
        """The weights packed in `buffer`; the arrays are views of it.

        Raises
        ------
        ModelError
            If the buffer does not hold whole weights of this format.
        """
        start = len(MAGIC) + 8
        if len(buffer) < start or bytes(buffer[: len(MAGIC)]) != MAGIC:
            raise ModelError(f"not packed weights of a model ({len(buffer)} bytes)")
        header_size = int.from_bytes(bytes(buffer[len(MAGIC) : start]), "little")
        try:
            header = parse_object(bytes(buffer[start : start + header_size]))
            version, metadata = _identity(header["version"], header["metadata"])
            forms = [_form(array) for array in header["arrays"]]
        except UNREADABLE as error:
            raise ModelError(f"the packed weights of a model are damaged: {error}") from error
        spans = _spans(start + header_size, [dtype.itemsize * prod(shape) for dtype, shape in forms])
        nbytes = spans[-1][1] if spans else start + header_size
        if nbytes != len(buffer):
            raise ModelError(f"packed weights of {nbytes} bytes were expected, got {len(buffer)}")
        arrays = [
            buffer[first:last].view(dtype).reshape(shape)
            for (first, last), (dtype, shape) in zip(spans, forms, strict=True)
        ]
        return ModelWeights(version, arrays, metadata)

    def save(self, directory: Path) -> Path:
        """Write ``directory/v000012/{weights.npz, metadata.json}``; it appears whole or not at all. Returns its path.

        Raises
        ------
        ModelError
            If this version is there already, or the disk refuses.
        """
        path = directory / f"v{self.version:06d}"
        unfinished = directory / f".{path.name}.{os.getpid()}"
        try:
            directory.mkdir(exist_ok=True)  # the run directory is there, or was deleted for good
            unfinished.mkdir()
            packed = io.BytesIO()  # NumPy's own file would complain once more when the disk is full
            np.savez(packed, *self.arrays)
            (unfinished / "weights.npz").write_bytes(packed.getbuffer())
            metadata = json.dumps({**self.metadata, "version": self.version}, indent=2)
            (unfinished / "metadata.json").write_text(metadata + "\n")
            unfinished.rename(path)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise ModelError(f"cannot write model version {self.version} to {path}: {error.strerror}") from error
        return path

    def check(self, architecture: dict[str, Any], path: Path) -> None:
        """Refuse weights that are not those of a model of `architecture`.

        Raises
        ------
        ModelError
            Naming what differs.
        """
        theirs, ours = self.metadata.get("architecture", {}), json.loads(json.dumps(architecture))
        differ = [
            f"{key} is {theirs.get(key)} there and {ours.get(key)} here"
            for key in sorted({*theirs, *ours})
            if theirs.get(key) != ours.get(key)
        ]
        if differ:
            raise ModelError(
                f"the weights in {path} are of another architecture: {'; '.join(differ)}; "
                "give weights of the same model, or change [training] to theirs"
            )

    @staticmethod
    def read(path: Path) -> ModelWeights:
        """The weights saved in the directory `path` of one version.

        Raises
        ------
        ModelError
            If there are no readable ones.
        """
        try:
            metadata = parse_object(read_bytes(path / "metadata.json"))
            version, metadata = _identity(metadata.pop("version"), metadata)
            found = read_npz(path / "weights.npz")
            arrays = [found[f"arr_{i}"] for i in range(len(found))]
            if not all(NUMBERS.fullmatch(a.dtype.str) for a in arrays):
                raise ValueError("its weights are not numbers")
            return ModelWeights(version, arrays, metadata)
        except UNREADABLE as error:
            raise ModelError(
                f"cannot read the model in {path}: {error}: is it the directory of one version, "
                "such as RUN/models/v000012?"
            ) from error


def _identity(version: object, metadata: object) -> tuple[int, dict[str, Any]]:
    """Version and metadata, if they are what they should be."""
    if not is_whole(version) or not isinstance(metadata, dict):
        raise ValueError("its version and its metadata are not those of a model")
    return version, metadata


def _form(announced: dict[str, Any]) -> tuple[np.dtype, tuple[int, ...]]:
    """Dtype and shape of an array, if they are such as weights have."""
    text, shape = announced["dtype"], announced["shape"]
    if not NUMBERS.fullmatch(text) or not all(map(is_whole, shape)):
        raise ValueError(f"weights cannot be {text} of shape {shape}")
    return np.dtype(text), tuple(shape)


def check_shapes(arrays: list[np.ndarray], expected: list[tuple[int, ...]]) -> None:
    """Refuse arrays that do not have the `expected` shapes.

    Raises
    ------
    ModelError
    """
    shapes = [tuple(a.shape) for a in arrays]
    if shapes != expected:
        raise ModelError(f"weights of shapes {expected} were expected, got {shapes}: is it another architecture?")


def _spans(start: int, sizes: list[int]) -> list[tuple[int, int]]:
    """Where arrays of these sizes lie behind `start`, each aligned."""
    spans = []
    for size in sizes:
        first = -(-start // ALIGNMENT) * ALIGNMENT
        start = first + size
        spans.append((first, start))
    return spans
