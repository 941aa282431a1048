"""Everything that can be refused before a run starts: settings, layout, molecules, the run directory."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from . import __version__
from . import config as configuration
from . import resume as resuming
from .config.dynamics import EMULATED
from .config.imports import source_of
from .config.schema import Config
from .config.strategies import BUILT_IN, GROUP
from .errors import ConfigError, DDMDError, LayoutError
from .faults.stop import BEGIN_VARIABLE, begin, end_variable, job_end, time_left
from .monitor.progress import Progress
from .rundir.checkpoints import Store
from .rundir.directory import create_run_directory
from .rundir.disk import disk_errors, write_json, write_text
from .rundir.files import sha256_of

if TYPE_CHECKING:
    from .layout.roles import Layout
    from .md.prepared import Prepared
    from .roles.context import RunInfo


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    usecase: str
    file: Path | None = None
    assignments: tuple[str, ...] = ()
    output: Path | None = None
    resume: Path | None = None

    def load(self) -> Config:
        """The resolved settings."""
        return configuration.load(self.usecase, self.file, self.assignments)

    def resumed(self) -> resuming.Resumed | None:
        """The run that is resumed, if one is."""
        return None if self.resume is None else resuming.find(self.resume.absolute(), self.assignments)


@dataclass(frozen=True)
class Plan:
    """What all ranks agree on: the settings, who does what, and what is known of the run."""

    config: Config
    layout: Layout
    info: RunInfo

    def of_rank(self, rank: int) -> Plan:
        """What this rank keeps of it."""
        return replace(self, info=self.info.of_role(self.layout.roles[rank]))


class Places(Protocol):
    """Where ranks run: the node of each, and the GPUs that the ranks of each node see."""

    @property
    def nodes(self) -> tuple[int, ...]: ...
    @property
    def gpus_per_node(self) -> tuple[int, ...]: ...


def prepare(options: Options, world: Places) -> Plan:
    """The plan of the run, and its fresh directory: everything that can be refused is refused here.

    Runs on rank 0, before any role starts.
    """
    from .md.programs.child import clear_scratch
    from .roles.context import RunInfo

    started = time.time()
    resumed = options.resumed()
    config = options.load() if resumed is None else resumed.config
    layout = plan_layout(config, world, resumed)
    end, begun = check_time(config, started)
    directory = resumed.directory if resumed else fresh_directory(options, config)
    announce(config, directory)
    try:
        config, records, found = check_inputs(config, layout, directory, resumed)
        session = resuming.reopen(directory) if resumed else 0
        clear_scratch(directory)
        write_settings(config, directory, session)
    except DDMDError:
        if resumed is None:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    info = RunInfo(
        directory=directory,
        started=started,
        begun=begun,
        job_end=end,
        n_atoms=max(found.atoms_of),
        atoms_of=found.atoms_of,
        n_residues=len(found.target_nm),
        order_parameters=tuple(p.name for p in config.features.order_parameters),
        target_nm=found.target_nm,
        topologies=tuple(topology.for_walkers(layout.n_walkers) for topology in found.prepared),
        about=about(config, directory, layout.n_walkers, records),
        session=session,
        resumed=resumed.manifest if resumed else None,
        last_checkpoint=Store(directory).last_number,
    )
    return Plan(config, layout, info)


def check_inputs(
    config: Config, layout: Layout, directory: Path, resumed: resuming.Resumed | None
) -> tuple[Config, dict[str, dict[str, str]], Found]:
    """Check molecules, engine and model, and keep the input files; settings that name the copies, their records.

    Raises
    ------
    DDMDError
        If they cannot be used.
    """
    from .md.engines import check_engine
    from .md.input_files import check_packages, keep_inputs
    from .roles.audience import check_ports

    records = resumed.manifest.about.get("inputs", {}) if resumed else {}
    check_packages(records)
    found = found_topologies(config, None if resumed else directory / "topology")
    check_ligands(config, layout.n_walkers)
    if config.steering.strategy not in BUILT_IN:
        from .steering.plugins import check_own

        check_own(config)
    check_ports(config.output, layout.n_walkers)
    check_engine(config, max(found.atoms_of), next((g for g in layout.gpu if g is not None), None))
    config, records = keep_inputs(in_place(config), directory, records)
    note_own_code(config, records)
    return config, records, found


def about(config: Config, directory: Path, n_walkers: int, records: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What a checkpoint says of the run."""
    return {
        "program_version": __version__,
        "system": config.system.name,
        "n_walkers": n_walkers,
        "settings": configuration.relative(config, directory),
        "inputs": records,
    }


def announce(config: Config, directory: Path) -> None:
    """Say what is done before the live view: a systems table takes seconds."""
    n_topologies = len(config.system.topologies)
    what = f": checking {n_topologies} topologies" if n_topologies > 1 else ""
    Progress(config.output.progress).announce(f"preparing {config.run.usecase} in {directory}{what}")


def plan_layout(config: Config, world: Places, resumed: resuming.Resumed | None) -> Layout:
    """The layout of the ranks; a resumed run keeps its walkers, and gets more if that was asked for.

    Raises
    ------
    LayoutError
    """
    from .layout.file_mode import PLANS

    per_rank = config.simulation.walkers_per_rank
    known = None if resumed is None or resumed.more_walkers else resumed.n_walkers
    layout = PLANS[config.run.mode](world.nodes, world.gpus_per_node, config.ranks, per_rank, known)
    if resumed is not None and layout.n_walkers < resumed.n_walkers:
        n_walkers = resumed.n_walkers
        n_ranks = len(layout.ranks("simulation"))
        raise LayoutError(
            f"simulation.walkers_per_rank = {per_rank} on {n_ranks} simulation "
            f"rank{'s' if n_ranks > 1 else ''} gives {layout.n_walkers} walkers, and the run has "
            f"{n_walkers}, which it keeps: set it to {-(-n_walkers // n_ranks)} or more, or leave it as "
            "it was"
        )
    if layout.n_walkers < 2 and config.steering.strategy != "none":
        raise LayoutError("one walker cannot be steered: set simulation.walkers_per_rank to 2 or more")
    return layout


def check_time(config: Config, started: float) -> tuple[float | None, float]:
    """The end of the job, if it is known, and the time from which the duration counts, both Unix times in s.

    Raises
    ------
    ConfigError
        If no time is left.
    """
    end, begun = job_end(os.environ, started), begin(os.environ, started)
    left_s, reason = time_left(config.run.duration, config.run.margin, end, begun, started)
    if left_s <= 0 and reason == "duration":
        raise ConfigError(
            f"run.duration has been over for {-left_s:.0f} s, counted from {BEGIN_VARIABLE}: raise it, "
            "or unset that variable"
        )
    if left_s <= 0 and end is not None:
        raise ConfigError(no_time(end_variable(os.environ, end), end - started, config.run.margin))
    return end, begun


def in_place(config: Config) -> Config:
    """The settings without ``output.directory``: a run directory can be moved, and its settings repeated elsewhere."""
    return replace(config, output=replace(config.output, directory=None))


def note_own_code(config: Config, records: dict[str, dict[str, str]]) -> None:
    """Record the files of the user's own model, strategy and functions, which are not copied; say what changed."""
    named = [
        ("model", config.training.model, "training.model", "ddmd_mpi.models"),
        ("strategy", config.steering.strategy, "steering.strategy", GROUP),
        *(
            ("order parameter", p.function, "features.order_parameters.function", "ddmd_mpi.order_parameters")
            for p in config.features.order_parameters
            if p.function is not None
        ),
    ]
    for kind, name, setting, group in named:
        source = source_of(name, group)
        if source is None:
            continue
        record = {"sha256": sha256_of(source), "source": str(source), "setting": setting}
        before = records.get(f"{kind}:{name}", record)
        if before["sha256"] != record["sha256"]:
            sys.stderr.write(
                f"ddmd-mpi: {setting} {name} ({source}) has changed since the checkpoint: the run is "
                "resumed with it as it is now\n"
            )
        records[f"{kind}:{name}"] = record


def write_settings(config: Config, directory: Path, session: int) -> None:
    """Write ``config.toml``, and as a record of this session ``config.NNNN.toml``."""
    text = configuration.to_toml(config, directory)
    for name in (f"config.{session:04d}.toml", "config.toml"):
        with disk_errors(directory / name):
            write_text(directory / name, text)


def no_time(variable: str, left_s: float, margin: float) -> str:
    """What is wrong with a job that ends `left_s` seconds from now, as `variable` says, within the `margin`, s."""
    if left_s <= 0:
        return (
            f"{variable} says that the job ended {-left_s:.0f} s ago: unset or correct that variable, which may be "
            "left from another job"
        )
    return (
        f"the job ends in {left_s:.0f} s, as {variable} says, and run.margin is {margin:.0f} s: lower run.margin, "
        "or correct that variable"
    )


def fresh_directory(options: Options, config: Config) -> Path:
    """The directory of a new run."""
    return create_run_directory(options.output or config.output.directory, config.run.usecase, config.run.mode)


def check_ligands(config: Config, n_walkers: int) -> None:
    """Raise a LayoutError if the walkers cannot be given to the complexes as the settings ask."""
    n, settings = len(config.system.complexes), config.steering
    if n_walkers < n:
        raise LayoutError(
            f"{n} complexes need at least {n} walkers and there are {n_walkers}: use more ranks, or set "
            f"simulation.walkers_per_rank higher"
        )
    if n and n * settings.walkers_per_ligand_min > n_walkers:
        raise LayoutError(
            f"{n} complexes of {settings.walkers_per_ligand_min} walkers at least need more than the "
            f"{n_walkers} walkers: set steering.walkers_per_ligand_min lower"
        )
    if n and settings.walkers_per_ligand_max is not None and n * settings.walkers_per_ligand_max < n_walkers:
        raise LayoutError(
            f"{n} complexes of {settings.walkers_per_ligand_max} walkers at most have no place for "
            f"{n_walkers} walkers: set steering.walkers_per_ligand_max higher"
        )


@dataclass(frozen=True)
class Found:
    """What the topologies are like."""

    atoms_of: tuple[int, ...]
    target_nm: np.ndarray
    prepared: tuple[Prepared, ...]


def found_topologies(config: Config, directory: Path | None) -> Found:
    """Check every topology, write it into `directory`, None if it lies there already, and prepare it for the ranks.

    Systems of several complexes are not kept: a rank builds those that its walkers come to.
    """
    from .md.engines import check_molecule, is_program, keep_topology
    from .md.structures import write_topology
    from .md.topologies import check_topologies

    emulated = config.simulation.engine in EMULATED
    atoms_of: list[int] = []
    target_nm = np.empty((0, 3))
    prepared: list[Prepared] = []
    for topology in check_topologies(config):
        check_molecule(config, topology.structures)
        if directory is not None:
            path = directory / f"{topology.name}.pdb"
            with disk_errors(path):
                write_topology(topology.structures, path)
                keep_topology(config, topology, directory)
                if topology.pose is not None:
                    write_json(path.with_suffix(".json"), topology.atoms())
        atoms_of.append(topology.n_atoms)
        target_nm = topology.structures.target_nm
        if emulated or not config.system.complexes:
            prepared.append(topology.prepared(simulated=not emulated and not is_program(config)))
    return Found(tuple(atoms_of), target_nm, tuple(prepared))
