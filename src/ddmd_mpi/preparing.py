"""Everything that can be refused before a run starts: settings, layout, molecules, the run directory."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import __version__, resuming, rundir
from . import config as configuration
from .checkpoints import Store
from .disk import written
from .errors import ConfigError, DDMDError, LayoutError
from .sections import Config
from .stopping import BEGIN_VARIABLE, begin, job_end, time_left


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


def prepare(options: Options, world: object) -> tuple:
    """Settings, layout, facts and the fresh run directory: everything that can be refused is refused here.

    Runs on rank 0, before any role starts.
    """
    from .md.engines import check_engine
    from .parallel.stages import PLANS
    from .roles.context import Facts

    started, manifest = time.time(), None
    if options.resume is None:
        config = options.load()
    else:
        config, manifest = resuming.find(options.resume.absolute(), options.assignments)
    plan = PLANS[config.run.mode]
    layout = plan(world.nodes, world.gpus_per_node, config.ranks, config.simulation.walkers_per_rank,
                  manifest and manifest.about["n_walkers"])
    if layout.n_walkers < 2 and config.steering.strategy != "none":
        raise LayoutError("one walker cannot be steered: set simulation.walkers_per_rank to 2 or more")
    end, begun = job_end(os.environ, started), begin(os.environ, started)
    left_s, reason = time_left(config.run.duration, config.run.margin, end, begun, started)
    if left_s <= 0 and reason == "duration":
        raise ConfigError(f"run.duration has been over for {-left_s:.0f} s, counted from {BEGIN_VARIABLE}: raise it, "
                          "or unset that variable")
    if left_s <= 0:
        raise ConfigError(f"the job ends in {end - started:.0f} s and run.margin is {config.run.margin:.0f} s: lower "
                          "run.margin, or correct DDMD_MPI_END_TIME")
    directory = options.resume.absolute() if manifest else fresh_directory(options, config)
    try:
        found = found_topologies(config, None if manifest else directory / "topology")
        check_ligands(config, layout.n_walkers)
        check_engine(config, max(found.atoms_of), next((g for g in layout.gpu if g is not None), None))
        session = resuming.reopen(directory) if manifest else 0
        with written(directory / "config.toml"):
            rundir.write_text(directory / "config.toml", configuration.to_toml(config))
    except DDMDError:
        if manifest is None:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    names = tuple(p.name for p in config.features.order_parameters)
    about = {"program_version": __version__, "system": config.system.name, "n_walkers": layout.n_walkers}
    return config, layout, Facts(max(found.atoms_of), len(found.target_nm), names, directory, started, about, session,
                                 manifest, Store(directory).last_number, end, *found, begun=begun)


def fresh_directory(options: Options, config: Config) -> Path:
    """The directory of a new run."""
    return rundir.create(options.output or config.output.directory, config.run.usecase, config.run.mode)


def check_ligands(config: Config, n_walkers: int) -> None:
    """Raise a LayoutError if the walkers cannot be given to the complexes as the settings ask."""
    n, settings = len(config.system.complexes), config.steering
    if n_walkers < n:
        raise LayoutError(f"{n} complexes need at least {n} walkers and there are {n_walkers}: use more ranks, or set "
                          f"simulation.walkers_per_rank higher")
    if n and n * settings.walkers_per_ligand_min > n_walkers:
        raise LayoutError(f"{n} complexes of {settings.walkers_per_ligand_min} walkers at least need more than the "
                          f"{n_walkers} walkers: set steering.walkers_per_ligand_min lower")
    if n and settings.walkers_per_ligand_max is not None and n * settings.walkers_per_ligand_max < n_walkers:
        raise LayoutError(f"{n} complexes of {settings.walkers_per_ligand_max} walkers at most have no place for "
                          f"{n_walkers} walkers: set steering.walkers_per_ligand_max higher")


class Found(NamedTuple):
    """What the topologies are like."""

    atoms_of: tuple[int, ...]
    target_nm: np.ndarray


def found_topologies(config: Config, directory: Path | None) -> Found:
    """Check every topology and write it into `directory`; None where it lies there already."""
    from .md.engines import check_motion
    from .md.topologies import check_topologies
    from .md.trajectory import write_topology

    atoms_of, target_nm = [], None
    for topology in check_topologies(config):
        check_motion(config, topology.structures)
        if directory is not None:
            path = directory / f"{topology.name}.pdb"
            with written(path):
                write_topology(topology.structures, path)
                if topology.pose is not None:
                    rundir.write_json(path.with_suffix(".json"), topology.atoms())
        atoms_of.append(topology.n_atoms)
        target_nm = topology.structures.target_nm
    return Found(tuple(atoms_of), target_nm)
