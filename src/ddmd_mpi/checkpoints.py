"""The store of checkpoints: what every rank knows, in files that are there whole or not at all. NumPy and JSON only.

    DIR/checkpoints/simulation-0003-000012.npz   a part: what rank 3 knew when checkpoint 12 was asked for
    DIR/checkpoints/manifest-000012.json         checkpoint 12: the newest part of every rank, with sizes and checksums

A part is written under another name, brought to the disk and renamed; the manifest comes last, so a checkpoint that is
named is complete. Parts need not fit each other: whoever goes on from an older one than its neighbours still finds
every record that it wrote since. So a rank that is slow holds up nobody, and its part before stands in for it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .disk import written
from .errors import CheckpointError
from .files import check_regular, is_whole, parse_object, read_bytes
from .npz import MOST_BYTES, read_npz
from .rundir import write_durably
from .totals import record_of

FORMAT = 2
KEEP = 3  # checkpoints
DIGEST_BYTES = 32
VALUES = "values.json"
_MANIFEST = re.compile(r"manifest-(\d{6,})\.json")
_PART = re.compile(r"([a-z]+)-(\d{4,})-(\d{6,})\.npz")
_CHUNK_BYTES = 1 << 22
_UNREADABLE = (OSError, AttributeError, LookupError, TypeError, ValueError)


class Known(dict):
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
        raise CheckpointError(f"the checkpoint {self.path} does not say {name!r}: take its manifest away, and the one "
                              "before it is used")


@dataclass(frozen=True)
class Part:
    """What one rank knows: arrays by name, and whatever JSON can hold."""

    values: dict[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A part as a manifest names it."""

    file: str
    role: str
    rank: int
    nbytes: int
    sha256: str
    walkers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """A complete checkpoint.

    Parameters
    ----------
    number
        Counted over all sessions of the run.
    session
        Which start of the program wrote it, counted from 0.
    about
        What must be the same where the run goes on: mode, system, number of walkers, and more.
    carried
        Sums of the earlier sessions' status records by role and field.
    elapsed_s
        Wall time of all sessions.
    parts
        One of every rank.
    """

    number: int
    session: int
    about: dict[str, Any]
    carried: dict[str, dict[str, Any]]
    elapsed_s: float
    parts: tuple[Entry, ...]
    format: int = FORMAT

    def of_role(self, role: str) -> tuple[Entry, ...]:
        """The parts of a role, by rank."""
        return tuple(sorted((p for p in self.parts if p.role == role), key=lambda p: p.rank))


class Store:
    """The directory of a run's checkpoints."""

    def __init__(self, run_directory: Path):
        self.directory = run_directory / "checkpoints"

    def write_part(self, role: str, rank: int, number: int, part: Part) -> tuple[int, bytes]:
        """Write a part; returns its size and its SHA-256.

        Raises
        ------
        DiskError
            If the disk refuses.
        """
        path = self.directory / part_name(role, rank, number)
        packed = pack(part)
        with written(path):
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
        with written(path):
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
                raise CheckpointError(f"the checkpoint {path} is of format {found['format']} and this program writes "
                                      f"{FORMAT}: go on with the version of ddmd-mpi that began the run")
            parts = tuple(Entry(**{**p, "walkers": tuple(p["walkers"])}) for p in found.pop("parts"))
            if any(not _PART.fullmatch(p.file) for p in parts):
                raise ValueError("it names files of other directories")
            manifest = Manifest(**found, parts=parts)
            check_types(manifest)
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
        """The newest checkpoint that is whole; `skip` is told of each newer one that is not.

        Raises
        ------
        CheckpointError
            If there is none.
        """
        for number in reversed(self.numbers()):
            try:
                manifest = self.read_manifest(number)
                self.verify(manifest.parts)
                return manifest
            except CheckpointError as error:
                skip(error)
        raise CheckpointError(f"there is no whole checkpoint in {self.directory}, so nothing to resume from: start a "
                              "new run with --output")

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
            size = check_regular(path, MOST_BYTES)
            if size != entry.nbytes:
                raise CheckpointError(f"{path} has {size} bytes where {entry.nbytes} were written")
            with path.open("rb") as file:
                while piece := file.read(_CHUNK_BYTES):
                    digest.update(piece)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
        if digest.hexdigest() != entry.sha256:
            raise CheckpointError(f"{path} is damaged: its checksum is not the one that was written down")

    def _names(self) -> list[str]:
        return sorted(os.listdir(self.directory)) if self.directory.is_dir() else []


def check_types(manifest: Manifest) -> None:
    """Raise a ValueError if a manifest does not say what one says."""
    whole = [manifest.number, manifest.session, manifest.about["n_walkers"], *(
        n for p in manifest.parts for n in (p.rank, p.nbytes, *p.walkers))]
    texts = [text for p in manifest.parts for text in (p.role, p.sha256)]
    elapsed = manifest.elapsed_s
    if not (all(map(is_whole, whole)) and all(isinstance(text, str) for text in texts)
            and isinstance(elapsed, int | float) and 0 <= elapsed < math.inf):
        raise ValueError("its numbers are none of a checkpoint")
    for of_role in manifest.carried.values():
        record_of(of_role)


def cure(directory: Path) -> str:
    """How to go on with a run that has failed, "" if there is no checkpoint."""
    numbers = Store(directory).numbers()
    return f"; ddmd-mpi --resume {directory} goes on from checkpoint {numbers[-1]}" if numbers else ""


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
    """The arrays under names that begin with ``prefix/``."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of :func:`prefixed`: the arrays whose names begin so, without the prefix."""
    found = {name.removeprefix(f"{prefix}/"): a for name, a in arrays.items() if name.startswith(f"{prefix}/")}
    return Known(arrays.path, found) if isinstance(arrays, Known) else found
