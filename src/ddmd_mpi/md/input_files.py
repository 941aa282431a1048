"""The input files of a run, copied into its directory: a run is what its files hold, wherever they lie.

A copy has the bytes of its source. But many starts become one file, a GROMACS topology is kept as one file with every
``#include`` in its place, and a force field that includes others names their copies. What comes with OpenMM,
or in an installed package, is not copied; its digest is kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from openmm.app.forcefield import _getDataDirectories as data_directories
from openmm.app.gromacstopfile import _defaultGromacsIncludeDir as default_gromacs_directory

from .. import config as configuration
from ..config.schema import Config
from ..errors import InputError
from ..rundir.directory import INPUTS
from ..rundir.disk import disk_errors
from ..rundir.files import MAX_LEVELS, check_regular, reason, sha256_of
from .coordinates import located
from .molecule_files import kind_of
from .starts import pack

#: Where the copies of the rows of the systems table are.
COMPLEXES = "complexes"
#: What is read of a saved version of the model.
OF_VERSION = ("weights.npz", "metadata.json")
#: Before the name of a force field that is not copied.
PACKAGE = "package:"
#: Files that include each other.
MAX_INCLUDES = 1000
INCLUDE_XML = re.compile(r"""(<Include\b[^>]*?\bfile\s*=\s*)(["'])(.*?)\2""")
INCLUDE_TOP = re.compile(r"""\s*#include\b([^;]*)""")
PIECE_BYTES = 1 << 22
#: Gives what a copy holds, if it is not what its source holds.
Content = Callable[[], str | bytes]


def keep_inputs(
    config: Config, directory: Path, known: dict[str, dict[str, Any]] | None = None
) -> tuple[Config, dict[str, dict[str, Any]]]:
    """Copy the input files of a run into ``DIRECTORY/inputs``; those that lie there already stay.

    Parameters
    ----------
    known
        Records of an earlier session.

    Returns
    -------
    config : Config
        The settings, naming the copies.
    records : dict
        By path relative to `directory`: ``sha256``, ``source`` and the ``setting`` that first named the file. A force
        field that is not copied is ``package:NAME``.

    Raises
    ------
    DiskError
        If the disk refuses.
    InputError
        If a file is no longer there, or a topology's includes have no end.
    """
    copies, settings = Copies(directory, known or {}), config.plain()
    for table, keys in configuration.file_tables(settings):
        section = next((name for name, of_section in settings.items() if of_section is table), None)
        copies.owner = section or f"complex {table['name']}"
        copies.place = PurePosixPath() if section else PurePosixPath(COMPLEXES, table["name"])
        if table.get("topology") is not None and kind_of(Path(table["topology"])) == "GROMACS":
            table["topology"] = copies.keep_gromacs(Path(table["topology"]), [Path(p) for p in table["parameters"]])
            table["parameters"] = []
        if section == "system" and table["starts"] is not None:
            table["starts"] = copies.keep_starts(located(Path(table["starts"])))
        for key in keys:
            table[key] = copies.keep_all(key, table[key])
        if table.get("force_field"):
            table["force_field"] = [copies.keep_force_field(name) for name in table["force_field"]]
    return configuration.validate(settings), copies.records


class Copies:
    """The directory of copies.

    Attributes
    ----------
    records
        See :func:`keep_inputs`.
    owner, place
        The section or row whose files are kept, and the sub-directory for them.
    """

    def __init__(self, directory: Path, known: dict[str, dict[str, Any]]):
        self.records = dict(known)
        self.owner, self.place = "", PurePosixPath()
        self._directory, self._inputs = directory, directory / INPUTS
        self._copies: dict[Path, Path] = {}  # by source
        self._taken = {COMPLEXES}

    def keep_all(self, key: str, value: Any) -> Any:
        """The copies of what a setting names: a path, a list of paths, or nothing."""
        return configuration.map_strings(value, lambda path: str(self._keep(key, located(Path(path)))))

    def keep_gromacs(self, topology: Path, parameters: list[Path]) -> str:
        """The copy of a GROMACS topology, complete in itself."""
        return str(self._keep("topology", topology, lambda: processed(topology, parameters)))

    def keep_starts(self, source: Path) -> str:
        """The copy of the starts of a file or directory."""
        if not source.is_relative_to(self._inputs) and source not in self._copies:
            self._copies[source] = self._new("starts.npz", self.place)
            self._write("starts", source, self._copies[source], lambda: pack(source))
        return str(self._copies.get(source, source))

    def keep_force_field(self, name: str) -> str:
        """The copy of a force field; its own name if it comes in a package."""
        path = packaged(name)
        if path is None:
            return str(self._keep_xml(Path(os.path.abspath(name)))) if Path(name).is_file() else name
        self.records[f"{PACKAGE}{name}"] = {
            "sha256": package_digest(path),
            "source": str(path),
            "setting": f"{self.owner}.force_field",
        }
        return name

    def _keep_xml(self, source: Path) -> Path:
        """The copy of a force field, and those of the files that it includes."""
        if source in self._copies or source.is_relative_to(self._inputs):
            return self._keep("force_field", source)
        target = self._copies[source] = self._new(source.name, PurePosixPath())

        def renamed(found: re.Match[str]) -> str:
            included = beside(source, found[3])
            name = found[3] if included is None else os.path.relpath(self._keep_xml(included), target.parent)
            return f"{found[1]}{found[2]}{name}{found[2]}"

        text = INCLUDE_XML.sub(renamed, _text(source))
        return self._write("force_field", source, target, lambda: text)

    def _keep(self, key: str, source: Path, content: Callable[[], str] | None = None) -> Path:
        """The copy of a file, or of the directory of a version of the model."""
        if source.is_relative_to(self._inputs):
            return source
        if key == "initial_weights" and not all((source / name).is_file() for name in OF_VERSION):
            return source  # the model's own check names what is wrong
        if source not in self._copies:
            target = self._copies[source] = self._new(source.name, self.place)
            for name in OF_VERSION if source.is_dir() else ("",):
                self._write(key, source / name, target / name, content)
        return self._copies[source]

    def _new(self, name: str, place: PurePosixPath) -> Path:
        """A path for a copy, which keeps its name: in a numbered directory if another file has it already."""
        for number in count(1):
            relative = place / name if number == 1 else place / str(number) / name
            if str(relative) not in self._taken and not (self._inputs / relative).exists():
                break
        self._taken.add(str(relative))
        return self._inputs / relative

    def _write(self, key: str, source: Path, target: Path, content: Content | None = None) -> Path:
        """Write a copy, and its record."""
        setting = f"{self.owner}.{key}"
        if not source.is_dir():
            check_readable(source, setting)
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                for piece in _pieces(source) if content is None else (as_bytes(content()),):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        self.records[str(target.relative_to(self._directory))] = {
            "sha256": sha256_of(target),
            "source": str(source),
            "setting": setting,
        }
        return target


def check_packages(records: dict[str, dict[str, Any]]) -> None:
    """Raise an InputError if a force field of a package is not the one that a run started with."""
    for key, record in records.items():
        name = key.removeprefix(PACKAGE)
        path = packaged(name) if key.startswith(PACKAGE) else None
        if path is not None and package_digest(path) != record["sha256"]:
            raise InputError(
                f"the force field {name} of this installation ({path}) differs from the one that the run "
                f"started with ({record['source']}): resume with the same version of OpenMM, or start a "
                "new run"
            )


def packaged(name: str) -> Path | None:
    """The file of a force field that comes with OpenMM or in a package; None for a file of the user's own."""
    if Path(name).is_absolute():
        return None
    own, *others = (Path(d, name) for d in data_directories())
    if own.is_file():
        return own
    return None if Path(name).is_file() else next((path for path in others if path.is_file()), None)


def beside(source: Path, name: str) -> Path | None:
    """The user's own file that a force field includes, as OpenMM looks for it; None for one that a package has."""
    if (source.parent / name).is_file():
        return Path(os.path.abspath(source.parent / name))
    return None if packaged(name) is not None or not Path(name).is_file() else Path(os.path.abspath(name))


@lru_cache(maxsize=64)
def package_digest(path: Path) -> str:
    """SHA-256 of a force field in a package together with all that it includes."""
    digest, waiting = hashlib.sha256(), [path]
    seen: set[Path] = set()
    while waiting and len(seen) < MAX_INCLUDES:
        path = waiting.pop(0)
        if path not in seen:
            seen.add(path)
            digest.update(sha256_of(path).encode())
            for found in INCLUDE_XML.finditer(_text(path)):
                waiting += [p for p in (beside(path, found[3]) or packaged(found[3]),) if p is not None]
    return digest.hexdigest()


def processed(topology: Path, parameters: list[Path]) -> str:
    """The text of a GROMACS topology with every ``#include`` in its place, as ``grompp -pp`` writes it.

    Files are looked for as OpenMM does: in the topology's directory, in that of the parameters, beside the file that
    includes them. An include that is not found stays: it may be one that no ``#ifdef`` lets in.
    """
    directories = (topology.parent, parameters[0] if parameters else Path(default_gromacs_directory()))
    head = f"; {topology.name}, every #include in its place\n"
    return head + "".join(_lines(topology, directories, 0))


def _lines(path: Path, directories: tuple[Path, ...], depth: int) -> Iterator[str]:
    if depth > MAX_LEVELS:
        raise InputError(f"{path} is included at a depth of more than {MAX_LEVELS} files: does it include itself?")
    for line in _text(path).splitlines():
        found = INCLUDE_TOP.match(line)
        name = found[1].strip(' \t"<>') if found else ""
        included = next((d / name for d in (*directories, path.parent) if (d / name).is_file()), None) if name else None
        if included is None:
            yield f"{line}\n"
        else:
            yield from _lines(included, directories, depth + 1)


def check_readable(path: Path, setting: str) -> None:
    """Raise an InputError unless `path`, which a setting names, is a regular file that can be read."""
    try:
        check_regular(path, sys.maxsize)
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{setting} {path} cannot be read: {reason(error)}; correct it") from error


def as_bytes(content: str | bytes) -> bytes:
    """Text as it is written."""
    return content if isinstance(content, bytes) else content.encode(errors="surrogateescape")


def _text(path: Path) -> str:
    """The text of a file; bytes that are no UTF-8 come back as they were when it is written."""
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
