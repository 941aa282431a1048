"""The trials of a study: their settings, their directories, and how far each has come."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count
from pathlib import Path
from types import SimpleNamespace

from .. import config as configuration
from ..config.schema import Config
from ..config.strategies import BUILT_IN
from ..errors import ConfigError, DDMDError, RunDirectoryError
from ..layout.plan import machine
from ..prepare import plan_layout
from ..rundir.checkpoints import Store
from ..rundir.disk import write_json
from ..rundir.files import parse_object, read_bytes, sha256_of
from .study_file import Settings, Study, System

#: Longer than any trial: it ends when its walkers have their length.
UNLIMITED = "3650d"
#: Why a run may have ended early although it completed: it can be resumed.
INTERRUPTED = {"walltime", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGTERM", "disk"}
BIND = "simulation.bind="
#: Of a run whose walkers have all failed.
FAILED = "failure"
PS_PER_NS = 1000.0


class State(Enum):
    """How far a trial has come; the value says what is done with it next."""

    FINISHED = "finished"
    NEW = "not started: begins"
    UNFINISHED = "unfinished, with a checkpoint: is resumed"
    LOST = "unfinished, without a checkpoint: begins again"


@dataclass(frozen=True)
class Trial:
    """One arm on one system with one seed.

    Parameters
    ----------
    directory
        Holds the run directory ``run``, the output of the program ``output.txt``, and ``result.npz``.
    n_walkers
        Walkers of the run.
    assignments
        Its settings, as ``section.key=value``.
    digest
        SHA-256 of all its settings, with the content of the input files in place of their names.
    """

    system: System
    arm: str
    seed: int
    directory: Path
    n_walkers: int
    assignments: tuple[str, ...]
    digest: str

    @property
    def name(self) -> str:
        """How messages name it."""
        return f"{self.system.name}, arm {self.arm}, seed {self.seed}"

    @property
    def run(self) -> Path:
        """Its run directory."""
        return self.directory / "run"

    @property
    def options(self) -> list[str]:
        """The options of ``ddmd-mpi`` that begin it."""
        config = [] if self.system.config is None else ["--config", str(self.system.config)]
        return ["--usecase", self.system.usecase, *config, *_sets(self.assignments), "--output", str(self.run)]

    @property
    def options_to_resume(self) -> list[str]:
        """The options that resume it: whether it binds may differ from how it began."""
        return ["--resume", str(self.run), *_sets(text for text in self.assignments if text.startswith(BIND))]

    @property
    def checkpoint(self) -> int:
        """The number of its newest checkpoint, 0 if there is none."""
        return max(Store(self.run).numbers(), default=0)

    def summary(self) -> dict[str, object]:
        """Its run's ``summary.json``, empty if there is none."""
        return _object(self.run / "summary.json")

    def state(self) -> State:
        """How far it has come."""
        summary = self.summary()
        if summary.get("completed") is True and summary.get("stop_reason") not in {*INTERRUPTED, FAILED}:
            return State.FINISHED
        if self.checkpoint:
            return State.UNFINISHED
        return State.LOST if self.run.exists() else State.NEW

    def clear(self) -> None:
        """Make its directory as if it had not begun."""
        shutil.rmtree(self.run, ignore_errors=True)
        (self.directory / "result.npz").unlink(missing_ok=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        write_json(self.directory / "settings.json", {"digest": self.digest, "assignments": self.assignments})

    def put_aside(self) -> Path:
        """Rename its run directory, so that it can begin again; the new name."""
        names = (self.directory / f"run-given-up-{i}" for i in count(1))
        new = next(name for name in names if not name.exists())
        self.run.rename(new)
        return new

    def check_settings(self) -> None:
        """Raise a RunDirectoryError if it was begun with other settings."""
        before = _object(self.directory / "settings.json").get("digest", self.digest)
        if before != self.digest:
            raise RunDirectoryError(
                f"{self.directory} was begun with other settings than the study has now: choose another --output, or "
                "delete it"
            )


def plan(study: Study, output: Path) -> list[Trial]:
    """All trials, seed after seed: arms take turns, so that a change of the machine's load hits all of them.

    Raises
    ------
    DDMDError
        If the settings of an arm are invalid.
    """
    found = [(system, arm, *_resolved(study, system, arm)) for system in study.systems for arm in study.arms]
    return [
        _trial(system, arm, settings, config, seed, output)
        for seed in study.seeds
        for system, arm, settings, config in found
    ]


def _resolved(study: Study, system: System, arm: str) -> tuple[Settings, Config]:
    """What the trials of an arm on a system are given, and their settings, checked as a run would."""
    settings = study.settings(system, arm)
    try:
        config = configuration.load(system.usecase, system.config, tuple(assigned(settings)))
        if config.steering.strategy not in BUILT_IN:
            from ..steering.plugins import check_own

            check_own(config)
    except DDMDError as error:
        raise ConfigError(f"arm {arm} on {system.name}: {error}") from error
    # Trials side by side would bind to the same cores; their number is no setting, and may change.
    if study.at_once > 1 and study.launcher is None:
        settings.setdefault("simulation", {}).setdefault("bind", False)
    return settings, config


def _trial(system: System, arm: str, settings: Settings, config: Config, seed: int, output: Path) -> Trial:
    nodes, gpus = machine(system.n_ranks)
    n_walkers = plan_layout(config, SimpleNamespace(nodes=nodes, gpus_per_node=gpus), None).n_walkers
    own: Settings = {
        "run": {"seed": seed, "duration": UNLIMITED},
        "simulation": {"walker_length_ns": system.aggregate_ns / n_walkers},
    }
    return Trial(
        system=system,
        arm=arm,
        seed=seed,
        directory=output / "trials" / system.name / arm / f"seed-{seed:04d}",
        n_walkers=n_walkers,
        assignments=(*assigned(settings), *assigned(own)),
        digest=digest(config, {**own, "ranks": {"all": system.n_ranks}}),
    )


def assigned(settings: Settings) -> Iterator[str]:
    """Settings as ``section.key=value``."""
    for section, table in settings.items():
        for key, value in table.items():
            yield f"{section}.{key}={configuration.toml_value(value)}"


def _sets(assignments: Iterable[str]) -> list[str]:
    return [word for text in assignments for word in ("--set", text)]


def digest(config: Config, own: Settings) -> str:
    """SHA-256 of settings; a file counts by its content, so that the name of its directory does not."""
    plain = config.plain()
    for table, keys in configuration.file_tables(plain):
        for key in keys:
            table[key] = configuration.map_strings(table[key], _content)
    return hashlib.sha256(json.dumps([plain, own], sort_keys=True).encode()).hexdigest()


def _content(path: str) -> str:
    return sha256_of(Path(path)) if Path(path).is_file() else path


def _object(path: Path) -> dict[str, object]:
    try:
        return parse_object(read_bytes(path))
    except (OSError, ValueError):
        return {}
