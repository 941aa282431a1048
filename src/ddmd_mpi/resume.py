"""Resuming a run: its settings, its newest complete checkpoint, and what a kill left half written."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__
from . import config as configuration
from .config import relative
from .config.identity import check_inputs, unchanged
from .config.schema import Config
from .errors import CheckpointError, ConfigError, RunDirectoryError
from .faults.processes import suspended_in
from .monitor.summary import record_of
from .rundir.checkpoints import Store
from .rundir.disk import cut_torn_line, write_text
from .rundir.files import parse_object, read_bytes
from .rundir.manifest import Manifest

#: A view that has not been renewed for so long is that of a run that ended; a younger one is watched.
SILENT_SECONDS = 60.0
#: Names of what is being written: those of the files to come, hidden, and the process's number.
UNFINISHED = re.compile(r"\..+\.\d+")
WATCH_SECONDS, LOOK_SECONDS = 3.0, 0.1
RECORDED = re.compile(r"sim-(\d+)\.segments\.jsonl")
#: Of an archive that was not closed: ADIOS2 must write nothing there.
PROFILE = "profiling.json"


@dataclass(frozen=True)
class Resumed:
    """A run that is resumed.

    Parameters
    ----------
    directory
        The run directory.
    config
        The settings of this session.
    manifest
        The newest complete checkpoint.
    n_walkers
        Walkers that there are.
    more_walkers
        Whether ``simulation.walkers_per_rank`` was set for this session.
    """

    directory: Path
    config: Config
    manifest: Manifest
    n_walkers: int
    more_walkers: bool


def find(directory: Path, assignments: tuple[str, ...]) -> Resumed:
    """The settings of a run, overlaid by `assignments`, and its newest complete checkpoint.

    Raises
    ------
    RunDirectoryError
        If `directory` is not a run directory, the run is still alive, or an input file is not what it was.
    ConfigError
        If a setting differs from that of the checkpoint, and must not.
    CheckpointError
        If there is no complete checkpoint.
    """
    file = directory / "config.toml"
    if not file.is_file():
        raise RunDirectoryError(
            f"{directory} is not a run directory: it has no config.toml; name the one that the run "
            "printed when it started or ended"
        )
    refuse_strangers(directory)
    config = configuration.load_run(file, assignments)
    refuse_if_alive(directory)
    manifest = Store(directory, record_of).newest(lambda error: sys.stderr.write(f"ddmd-mpi: skipped: {error}\n"))
    before = settings_of(manifest, directory)
    records, named = manifest.about.get("inputs", {}), assigned(assignments)
    check_inputs(directory, records)
    now = unchanged(relative(config, directory.resolve()), relative(before, directory), directory, records, named)
    resumed = configuration.absolute(now, directory)
    more = before.simulation.walkers_per_rank != resumed.simulation.walkers_per_rank
    return Resumed(
        directory,
        resumed,
        manifest,
        max(manifest.about["n_walkers"], n_recorded(directory)),
        more or "simulation.walkers_per_rank" in named,
    )


def settings_of(manifest: Manifest, directory: Path) -> Config:
    """The settings of the session that wrote a checkpoint.

    Raises
    ------
    CheckpointError
        If this version of the program does not know them.
    """
    try:
        return configuration.absolute(manifest.about.get("settings", {}), directory)
    except ConfigError as error:
        version = manifest.about.get("program_version", "another version")
        raise CheckpointError(
            f"the checkpoint {manifest.number} in {directory} was written by ddmd-mpi {version} and "
            f"this is {__version__}, which does not know its settings ({error}): resume with that "
            "version, or start a new run"
        ) from error


def assigned(assignments: tuple[str, ...]) -> set[str]:
    """The settings, as section.key, that the command line names."""
    return {
        f"{section}.{key}"
        for text in assignments
        for section, table in configuration.parse_assignment(text).items()
        for key in table
    }


def n_recorded(directory: Path) -> int:
    """Walkers that have files: more than a checkpoint knows if a kill came before the first one of those added."""
    found = (RECORDED.fullmatch(path.name) for path in directory.glob("trajectories/sim-*.segments.jsonl"))
    return max((int(match[1]) + 1 for match in found if match), default=0)


def refuse_strangers(directory: Path) -> None:
    """Refuse a run directory of which something is a link out of it, or neither a file nor a directory.

    Raises
    ------
    RunDirectoryError
        Naming it: a resumed run writes into these files.
    """
    inside = directory.resolve()
    for where, directories, files in os.walk(directory):
        for path in (Path(where) / name for name in (*directories, *files)):
            if path.is_symlink() and os.readlink(path) == os.devnull and path.name == PROFILE:
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise RunDirectoryError(
                    f"{path} is a link to {os.readlink(path)}, and a run writes into its directory "
                    "only: move its target there"
                )
            if not path.is_symlink() and not path.is_file() and not path.is_dir():
                raise RunDirectoryError(f"{path} is a pipe or a device: take it out of the run directory")


def refuse_if_alive(directory: Path, silent_after: float = SILENT_SECONDS, watch: float = WATCH_SECONDS) -> None:
    """Refuse a run whose live view is being renewed, and one that is suspended on this host.

    Raises
    ------
    RunDirectoryError
    """
    suspended = suspended_in(directory)
    if suspended:
        raise RunDirectoryError(
            f"the run in {directory} is suspended: its processes "
            f"{', '.join(map(str, suspended))} are stopped; "
            "let them continue (kill -CONT, fg, scontrol resume), or kill them first"
        )
    view = read_view(directory)
    if view is None or view.get("done") or time.time() - view["time"] > silent_after:
        return
    deadline = time.monotonic() + watch
    while time.monotonic() < deadline:
        newer = read_view(directory)
        if newer is not None and newer["time"] != view["time"]:
            raise RunDirectoryError(
                f"the run in {directory} is still alive: wait for its end, or stop it first "
                "(a signal to mpiexec, scancel, bkill, qdel)"
            )
        time.sleep(LOOK_SECONDS)


def read_view(directory: Path) -> dict[str, Any] | None:
    """The live view in ``status.json``; None if there is no readable one."""
    try:
        view = parse_object(read_bytes(directory / "status.json"))
        return view if isinstance(view["time"], float) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def reopen(directory: Path) -> int:
    """Clear away what a kill left half written; returns the number of this session, 1 for the first resumed one.

    Raises
    ------
    RunDirectoryError
        If the directory cannot be written to.
    """
    session = len(list(directory.glob("environment.[0-9]*.json"))) + 1
    try:
        kept = directory / f"environment.{session - 1:04d}.json"
        if (directory / "environment.json").exists():
            write_text(kept, (directory / "environment.json").read_text())
        if (directory / "streams").exists():
            shutil.rmtree(directory / "streams", ignore_errors=True)
            (directory / "streams").mkdir()
        for path in [p for p in directory.rglob(".*") if UNFINISHED.fullmatch(p.name)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for pattern in ("*.jsonl", "checkpoints/*.jsonl", "events/*.jsonl"):
            for path in directory.glob(pattern):
                cut_torn_line(path)
    except OSError as error:
        raise RunDirectoryError(f"cannot resume in {directory}: {error.strerror}") from error
    return session
