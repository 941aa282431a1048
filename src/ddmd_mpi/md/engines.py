"""Which engine moves the walkers."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..config.dynamics import EMULATED, PROGRAMS
from ..config.schema import Config
from .prepared import AnyParticles, Prepared, State

if TYPE_CHECKING:
    from .topologies import Topology
BUILT_IN = ("openmm", *EMULATED, *PROGRAMS)


class Engine(Protocol):
    """What a walker asks of its engine; see :class:`.openmm_engine.OpenMMEngine` and docs/engines.md.

    An engine that is a program has ``poll() -> bool`` besides: see :class:`.programs.engine.ProgramEngine`.
    """

    platform: str
    n_atoms: int

    def start(self, seed: int, stop: Callable[[], bool] | None = None) -> None: ...
    def set_state(
        self,
        positions: np.ndarray,
        velocities: np.ndarray | None = None,
        box: np.ndarray | None = None,
        seed: int | None = None,
    ) -> None: ...
    def advance(self, n_steps: int) -> None: ...
    def state(self) -> State: ...
    def snapshot(self) -> dict[str, np.ndarray]: ...
    def restore(self, snapshot: dict[str, np.ndarray], seed: int) -> None: ...
    def free(self) -> None: ...


def is_program(config: Config) -> bool:
    """Whether the walkers are moved by a separate program."""
    return config.simulation.engine in PROGRAMS


def _program(name: str) -> ModuleType:
    """The module of an engine that is a program, with the functions of :mod:`.programs.amber`."""
    return import_module(f".programs.{name}", __package__)


def check_engine(config: Config, n_atoms: int, gpu: int | None) -> str:
    """Name of the platform on which the engine of the config runs topologies of at most `n_atoms` here.

    Raises
    ------
    EngineError
        If the platform that the config names does not work.
    ConfigError
        If the engine is not here, or cannot honour a setting.
    """
    name = config.simulation.engine
    if name in EMULATED:
        return name
    if is_program(config):
        program = _program(name)
        program.check_settings(config)
        program.find(config.engine)
        return name
    if name != "openmm":
        from .own_engine import find

        find(name)
        return name
    from .openmm_engine import check_platform

    return check_platform(config.simulation, gpu, n_atoms)


def described(config: Config) -> str:
    """The engine of the config with its version and place, as far as it is a program.

    Raises
    ------
    ConfigError
        If the program is not here.
    """
    name = config.simulation.engine
    return str(_program(name).find(config.engine)) if is_program(config) else name


def check_molecule(config: Config, structures: AnyParticles) -> None:
    """Raise an InputError if the engine cannot move this molecule, or has nothing to show of it."""
    if config.simulation.engine in EMULATED:
        from .emulated.engine import motion

        motion(structures, config.simulation, config.emulation)
    elif is_program(config):
        program = _program(config.simulation.engine)
        program.check_settings(config)
        program.check_molecule(config, structures.box_nm)


def keep_topology(config: Config, topology: Topology, directory: Path) -> None:
    """Write what the engine's program reads of a topology into a directory.

    Raises
    ------
    OSError
        If the disk refuses it.
    InputError
        If its file cannot be read.
    """
    if is_program(config):
        _program(config.simulation.engine).keep_topology(config, topology, directory)


def engine_maker(
    config: Config,
    gpu: int | None,
    platform: str,
    directory: Path = Path(),
    waiting: Callable[[], object] = lambda: None,
) -> Callable[[Topology | Prepared, int], Engine]:
    """A function that makes an engine for a topology, from a seed; the topology's System is shared.

    Only the engine that is asked for is imported: a rank with emulated walkers loads neither OpenMM nor SciPy.

    Parameters
    ----------
    directory
        The run directory.
    waiting
        Called repeatedly while a program is waited for.
    """
    simulation = config.simulation
    if simulation.engine in EMULATED:
        from .emulated.engine import EmulatedEngine

        return lambda topology, seed: EmulatedEngine(topology.structures, simulation, config.emulation, seed)
    if is_program(config):
        return _program_engine_maker(config, gpu, directory, waiting)
    if simulation.engine != "openmm":
        return _own_engine_maker(config, gpu, directory)
    from .openmm_engine import OpenMMEngine

    return lambda topology, seed: OpenMMEngine(
        topology.structures, simulation, config.system, seed, gpu, topology.system, platform, topology.relaxed
    )


def _program_engine_maker(
    config: Config, gpu: int | None, directory: Path, waiting: Callable[[], object]
) -> Callable[[Topology | Prepared, int], Engine]:
    from .programs.child import scratch_of
    from .programs.engine import ProgramEngine

    simulation, scratch = config.simulation, scratch_of(config.engine, directory)
    program = _program(simulation.engine).program_maker(config, gpu, (directory / "topology").absolute())

    def make(topology: Topology | Prepared, seed: int) -> Engine:
        structures, relaxed = topology.structures, topology.relaxed
        return ProgramEngine(program(topology), structures, simulation, config.faults, seed, scratch, relaxed, waiting)

    return make


def _own_engine_maker(config: Config, gpu: int | None, directory: Path) -> Callable[[Topology | Prepared, int], Engine]:
    from .own_engine import EngineSetup, GuardedEngine, find
    from .programs.child import scratch_of

    simulation, name = config.simulation, config.simulation.engine
    found, scratch = find(name), scratch_of(config.engine, directory)

    def make(topology: Topology | Prepared, seed: int) -> Engine:
        setup = EngineSetup(
            topology.structures,
            simulation,
            config.system,
            config.engine.options,
            seed,
            gpu,
            scratch,
            lambda: topology.system,
        )
        return GuardedEngine(name, found, setup)

    return make
