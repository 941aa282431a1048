"""The store of checkpoints: what every rank knows, in files that are complete or absent. NumPy and JSON only.

    DIR/checkpoints/simulation-0003-000012.npz   a part: what rank 3 knew when checkpoint 12 was asked for
    DIR/checkpoints/manifest-000012.json         checkpoint 12: the newest part of every rank, with sizes and checksums

A part is written under another name, synced to disk and renamed; the manifest comes last, so a checkpoint that is
named is complete. Parts need not fit each other: a rank that resumes from an older one than its neighbours still finds
every record that it wrote since. So a rank that is slow holds up nobody, and its part before stands in for it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError
from .disk import disk_errors, write_durably
from .files import check_regular, parse_object, read_bytes
from .manifest import FORMAT, Entry, Manifest, check_types
from .npz import MAX_BYTES, read_npz

KEEP = 3  # checkpoints
DIGEST_BYTES = 32
VALUES = "values.json"
_MANIFEST = re.compile(r"manifest-(\d{6,})\.json")
_PART = re.compile(r"([a-z]+)-(\d{4,})-(\d{6,})\.npz")
_CHUNK_BYTES = 1 << 22
_UNREADABLE = (OSError, AttributeError, LookupError, TypeError, ValueError)


class FormatError(CheckpointError):
    """A checkpoint was written by a version of the program with another format."""


class Known(dict[str, Any]):
    """What a part on the disk says by name, at any depth of tables.

    Raises
    ------
    CheckpointError
        If it is asked for what it does not say.
    """

    def __init__(self, path: Path, said: Mapping[str, Any]):
        super().__init__({k: Known(path, v) if isinstance(v, dict) else v for k, v in said.items()})
        self.path = path

    def __missing__(self, name: str) -> Any:
        raise CheckpointError(
            f"the checkpoint {self.path} does not say {name!r}: remove its manifest to use the one before it"
        )


@dataclass(frozen=True)
class Part:
    """What one rank knows: arrays by name, and whatever JSON can hold."""

    values: dict[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


class Store:
    """The directory of a run's checkpoints.

    Parameters
    ----------
    check_carried
        Raises an exception if what a manifest carries of a role is not a record of one.
    """

    def __init__(self, run_directory: Path, check_carried: Callable[[dict[str, Any]], object] = dict):
        self.directory = run_directory / "checkpoints"
        self._check_carried = check_carried

    def write_part(self, role: str, rank: int, number: int, part: Part) -> tuple[int, bytes]:
        """Write a part; returns its size and its SHA-256.

        Raises
        ------
        DiskError
            If the disk refuses.
        """
        path = self.directory / part_name(role, rank, number)
        packed = pack(part)
        with disk_errors(path):
            write_durably(path, packed)
        return len(packed), hashlib.sha256(packed).digest()

    def read_part(self, entry: Entry, only: Iterable[str] | None = None) -> Part:
        """A part, without pickle.

        Parameters
        ----------
        only
            Names of the arrays that are wanted, as far as it has them; None for all.

        Raises
        ------
        CheckpointError
            If it cannot be read.
        """
        path = self.directory / entry.file
        try:
            arrays = read_npz(path, only=None if only is None else {VALUES, *only})
            values = parse_object(arrays.pop(VALUES).tobytes())
            return Part(Known(path, values), Known(path, arrays))
        except _UNREADABLE as error:
            raise CheckpointError(f"the checkpoint {path} cannot be read: {error}") from error

    def write_manifest(self, manifest: Manifest) -> None:
        """Complete a checkpoint; those that are older than the last few go.

        Raises
        ------
        DiskError
            If the disk refuses.
        """
        path = self.directory / manifest_name(manifest.number)
        with disk_errors(path):
            write_durably(path, (json.dumps(asdict(manifest), indent=1) + "\n").encode())
            self.tidy()

    def read_manifest(self, number: int) -> Manifest:
        """A manifest.

        Raises
        ------
        CheckpointError
            If it is not one of this format.
        """
        path = self.directory / manifest_name(number)
        try:
            found = parse_object(read_bytes(path))
            if found["format"] != FORMAT:
                version = found.get("about", {}).get("program_version", "of another version")
                raise FormatError(
                    f"the checkpoint {path} has format {found['format']} and this program reads format "
                    f"{FORMAT}: resume with the ddmd-mpi {version} that wrote it"
                )
            parts = tuple(Entry(**{**p, "walkers": tuple(p["walkers"])}) for p in found.pop("parts"))
            if any(not _PART.fullmatch(p.file) for p in parts):
                raise ValueError("it names files of other directories")
            manifest = Manifest(**found, parts=parts)
            check_types(manifest)
            for of_role in manifest.carried.values():
                self._check_carried(of_role)
            return manifest
        except _UNREADABLE as error:
            raise CheckpointError(f"the checkpoint {path} cannot be read: {error}") from error

    def numbers(self) -> list[int]:
        """Numbers of the checkpoints with a manifest, oldest first."""
        return sorted(int(m[1]) for m in map(_MANIFEST.fullmatch, self._names()) if m)

    @property
    def last_number(self) -> int:
        """The highest number that any file here bears, 0 for none."""
        return max((*self.numbers(), *(number for *_, number in self.parts())), default=0)

    def parts(self) -> list[tuple[str, int, int]]:
        """Role, rank and number of every part that is here, complete checkpoint or not."""
        return [(m[1], int(m[2]), int(m[3])) for m in map(_PART.fullmatch, self._names()) if m]

    def newest(self, skip: Callable[[CheckpointError], object]) -> Manifest:
        """The newest checkpoint that is complete; `skip` is called for each newer one that is not.

        Raises
        ------
        CheckpointError
            If there is none, or the newest is of another format.
        """
        for number in reversed(self.numbers()):
            try:
                manifest = self.read_manifest(number)
                self.verify(manifest.parts)
                return manifest
            except FormatError:
                raise
            except CheckpointError as error:
                skip(error)
        raise CheckpointError(
            f"there is no complete checkpoint in {self.directory}, so nothing to resume from: start a "
            "new run with --output"
        )

    def verify(self, entries: Iterable[Entry]) -> None:
        """Read every file and compare its size and its checksum.

        Raises
        ------
        CheckpointError
            Naming the first that differs.
        """
        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(self._verify, entries):
                pass

    def tidy(self) -> None:
        """Delete all but the newest manifests, and the older parts that none of those names."""
        numbers = self.numbers()
        try:
            kept = {p.file for n in numbers[-KEEP:] for p in self.read_manifest(n).parts}
        except CheckpointError:  # The parts of a broken one may still be of use to somebody who looks into it.
            return
        for number in numbers[:-KEEP]:
            (self.directory / manifest_name(number)).unlink(missing_ok=True)
        for part in self.parts():
            if part_name(*part) not in kept and part[-1] < numbers[-KEEP:][0]:
                (self.directory / part_name(*part)).unlink(missing_ok=True)

    def _verify(self, entry: Entry) -> None:
        path, digest = self.directory / entry.file, hashlib.sha256()
        try:
            size = check_regular(path, MAX_BYTES)
            if size != entry.nbytes:
                raise CheckpointError(f"{path} has {size} bytes where {entry.nbytes} were written")
            with path.open("rb") as file:
                while piece := file.read(_CHUNK_BYTES):
                    digest.update(piece)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
        if digest.hexdigest() != entry.sha256:
            raise CheckpointError(f"{path} is damaged: its checksum differs from the recorded one")

    def _names(self) -> list[str]:
        return sorted(os.listdir(self.directory)) if self.directory.is_dir() else []


def cure(directory: Path) -> str:
    """How to resume a run that has failed, "" if there is no checkpoint."""
    numbers = Store(directory).numbers()
    return f"; ddmd-mpi --resume {directory} resumes from checkpoint {numbers[-1]}" if numbers else ""


def part_name(role: str, rank: int, number: int) -> str:
    """File name of a part."""
    return f"{role}-{rank:04d}-{number:06d}.npz"


def manifest_name(number: int) -> str:
    """File name of a manifest."""
    return f"manifest-{number:06d}.json"


def pack(part: Part) -> memoryview:
    """A part as the bytes of a NumPy archive.

    Raises
    ------
    CheckpointError
        If an array holds Python objects, which would have to be pickled.
    """
    for name, array in part.arrays.items():
        if array.dtype.hasobject:
            raise CheckpointError(f"the array {name} holds objects and cannot be kept in a checkpoint")
    values = np.frombuffer(json.dumps(part.values).encode(), np.uint8)
    packed = io.BytesIO()
    np.savez(packed, **{VALUES: values}, **part.arrays)
    return packed.getbuffer()


def prefixed(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays under names that start with ``prefix/``."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of :func:`prefixed`: the arrays whose names start so, without the prefix."""
    found = {name.removeprefix(f"{prefix}/"): a for name, a in arrays.items() if name.startswith(f"{prefix}/")}
    return Known(arrays.path, found) if isinstance(arrays, Known) else found
