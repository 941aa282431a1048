"""What the hosts of a run must have in common: one program, one MPI, one time, one file system."""

from __future__ import annotations

import os
import time
import uuid
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import LayoutError, RunDirectoryError

#: Clocks may differ by so much: times in the records of one host are compared with those of another.
CLOCK_SECONDS = 30.0
#: A network file system may show a new file on other hosts so much later.
APPEARS_SECONDS, LOOK_SECONDS = 10.0, 0.2
MARKER = ".seen-by-all-hosts-"


class Peer(NamedTuple):
    """A rank as the others must know it."""

    host: str
    program: str  # version and sum of the sources
    mpi: str  # library
    time: float  # Unix time of this host when all ranks had met


def program(version: str, sources: Path = Path(__file__).parent) -> str:
    """The version of this program, and a number for its sources: names and sizes of its modules."""
    sizes = sorted((str(p.relative_to(sources)), p.stat().st_size) for p in sources.rglob("*.py"))
    return f"{version} ({zlib.crc32(repr(sizes).encode()):08x})"


def check_alike(peers: Sequence[Peer]) -> None:
    """Refuse hosts that do not fit.

    Parameters
    ----------
    peers
        All ranks.

    Raises
    ------
    LayoutError
        Naming two hosts, and the cure.
    """
    first = peers[0]
    for peer in peers:
        if peer.program != first.program:
            raise LayoutError(
                f"{first.host} has ddmd-mpi {first.program} and {peer.host} has {peer.program}: install "
                "the same one on all hosts, or start it from a file system that they share"
            )
        if peer.mpi != first.mpi:
            raise LayoutError(
                f"{first.host} has {first.mpi} and {peer.host} has {peer.mpi}: load the same MPI on all hosts"
            )
    slow, fast = min(peers, key=lambda p: p.time), max(peers, key=lambda p: p.time)
    if fast.time - slow.time > CLOCK_SECONDS:
        raise LayoutError(
            f"the clock of {fast.host} is {fast.time - slow.time:.0f} s ahead of that of {slow.host}: "
            f"set them by one time server (NTP); up to {CLOCK_SECONDS:.0f} s are allowed"
        )


def mark(directory: Path) -> Path:
    """Make a file in a run directory by which other hosts know it from another one of the same name."""
    marker = directory / f"{MARKER}{uuid.uuid4().hex}"
    marker.touch()
    return marker


def check_sees(marker: Path, inputs: Iterable[Path], host: str, maker: str, seconds: float = APPEARS_SECONDS) -> None:
    """Refuse a run directory, or input files, that one host alone sees.

    Parameters
    ----------
    marker
        What :func:`mark` has made on the host `maker`.
    inputs
        Files that all hosts read.
    host
        This one.
    seconds
        How long to wait for them.

    Raises
    ------
    RunDirectoryError
        Naming both hosts, the path, and the cure.
    """
    deadline = time.monotonic() + seconds
    for path in (marker, *inputs):
        while not path.exists():
            if time.monotonic() > deadline:
                raise _unseen(path, marker, host, maker)
            if path.parent.is_dir():
                os.listdir(path.parent)  # lets a network file system look again
            time.sleep(LOOK_SECONDS)


def _unseen(path: Path, marker: Path, host: str, maker: str) -> RunDirectoryError:
    if path != marker:
        return RunDirectoryError(
            f"{host} does not see {path}, which {maker} does: all hosts read the input files, so "
            "put them on a file system that they share"
        )
    return RunDirectoryError(
        f"{host} does not see the run directory {marker.parent} of {maker}: all hosts write their "
        "trajectories, archives and checkpoints there, so name one on a file system that they "
        "share with --output"
    )


def input_files(settings: object) -> list[Path]:
    """The files that settings (tables, lists and values) name by absolute paths, as far as this host has them."""
    if isinstance(settings, dict):
        return [path for value in settings.values() for path in input_files(value)]
    if isinstance(settings, list | tuple):
        return [path for value in settings for path in input_files(value)]
    if isinstance(settings, Path) or (isinstance(settings, str) and settings.startswith("/")):
        return [Path(settings)] if Path(settings).is_absolute() and Path(settings).is_file() else []
    return []
