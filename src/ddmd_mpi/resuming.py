"""Going on with a run: its settings, its newest whole checkpoint, and what a kill has left half written."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from . import config as configuration
from .checkpoints import Manifest, Store
from .errors import ConfigError, RunDirectoryError
from .files import parse_object, read_bytes
from .rundir import cut_torn_line, write_text
from .sections import Config

#: A view that has not been renewed for so long is that of a run that ended; a younger one is watched.
SILENT_SECONDS = 60.0
#: Names of what is being written: those of the files to come, hidden, and the process's number.
UNFINISHED = re.compile(r"\..+\.\d+")
WATCH_SECONDS, LOOK_SECONDS = 3.0, 0.1
#: Of an archive that was not closed: ADIOS2 shall write nothing there.
PROFILE = "profiling.json"
#: What must stay as it was: frames before and after would not be of the same system, or not in the same files.
FIXED = {
    "run": ("usecase", "mode"),
    "system": ("name", "model", "start", "target", "topology", "parameters", "solvent", "box_nm", "descriptor",
               "force_field", "site", "complexes"),
    "simulation": ("engine", "timestep_fs", "report_interval_ps", "hydrogen_mass_amu", "trajectory_format"),
    "features": ("cutoff_angstrom", "order_parameters"),
    "training": ("model",),
}


def find(directory: Path, assignments: tuple[str, ...]) -> tuple[Config, Manifest]:
    """The settings of a run, overlaid by `assignments`, and its newest whole checkpoint.

    Raises
    ------
    RunDirectoryError
        If `directory` is none of a run, or the run is still alive.
    ConfigError
        If a setting is to change that must not.
    CheckpointError
        If there is no whole checkpoint.
    """
    file = directory / "config.toml"
    if not file.is_file():
        raise RunDirectoryError(f"{directory} is no run directory: it has no config.toml; name the one that the run "
                                "printed at its begin or its end")
    refuse_strangers(directory)
    usecase = configuration.usecase_of(file) or ""
    before = configuration.load(usecase, file)
    config = configuration.load(usecase, file, assignments)
    for section, keys in FIXED.items():
        for key in keys:
            old, new = (getattr(getattr(c, section), key) for c in (before, config))
            if old != new:
                change = "" if isinstance(old, list) else f" was {old} and"
                aim = "change" if isinstance(old, list) else f"become {new}"
                raise ConfigError(f"{section}.{key}{change} cannot {aim} where a run goes on: leave it as it is, or "
                                  "start a new run")
    refuse_if_alive(directory)
    manifest = Store(directory).newest(lambda error: sys.stderr.write(f"ddmd-mpi: skipped: {error}\n"))
    return config, manifest


def refuse_strangers(directory: Path) -> None:
    """Refuse a run directory of which something is a link out of it, or neither a file nor a directory.

    Raises
    ------
    RunDirectoryError
        Naming it: a run that goes on writes into these files.
    """
    inside = directory.resolve()
    for where, directories, files in os.walk(directory):
        for path in (Path(where) / name for name in (*directories, *files)):
            if path.is_symlink() and os.readlink(path) == os.devnull and path.name == PROFILE:
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise RunDirectoryError(f"{path} is a link to {os.readlink(path)}, and a run writes into its directory "
                                        "only: put there what it leads to")
            if not path.is_symlink() and not path.is_file() and not path.is_dir():
                raise RunDirectoryError(f"{path} is a pipe or a device: take it out of the run directory")


def refuse_if_alive(directory: Path, silent_after: float = SILENT_SECONDS, watch: float = WATCH_SECONDS) -> None:
    """Refuse a run whose live view is being renewed.

    Raises
    ------
    RunDirectoryError
    """
    view = read_view(directory)
    if view is None or view.get("done") or time.time() - view["time"] > silent_after:
        return
    deadline = time.monotonic() + watch
    while time.monotonic() < deadline:
        newer = read_view(directory)
        if newer is not None and newer["time"] != view["time"]:
            raise RunDirectoryError(f"the run in {directory} is still alive: wait for its end, or stop it first "
                                    "(a signal to mpiexec, scancel, bkill, qdel)")
        time.sleep(LOOK_SECONDS)


def read_view(directory: Path) -> dict[str, Any] | None:
    """The live view in ``status.json``; None if there is none that can be read."""
    try:
        view = parse_object(read_bytes(directory / "status.json"))
        return view if isinstance(view["time"], float) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def reopen(directory: Path) -> int:
    """Clear away what a kill left half written; returns the number of this session, 1 for the first that goes on.

    Raises
    ------
    RunDirectoryError
        If the directory cannot be written to.
    """
    session = len(list(directory.glob("environment.[0-9]*.json"))) + 1
    try:
        for name in ("environment.json", "config.toml"):
            kept = directory / name.replace(".", f".{session - 1:04d}.")
            if (directory / name).exists():
                write_text(kept, (directory / name).read_text())
        if (directory / "streams").exists():
            shutil.rmtree(directory / "streams", ignore_errors=True)
            (directory / "streams").mkdir()
        for path in [p for p in directory.rglob(".*") if UNFINISHED.fullmatch(p.name)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for pattern in ("*.jsonl", "checkpoints/*.jsonl", "events/*.jsonl"):
            for path in directory.glob(pattern):
                cut_torn_line(path)
    except OSError as error:
        raise RunDirectoryError(f"the run directory {directory} cannot be gone on with: {error.strerror}") from error
    return session
