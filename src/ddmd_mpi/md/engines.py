"""Which engine moves the walkers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..sections import Config
from .emulated import EmulatedEngine, motion
from .engine import OpenMMEngine, State, check_platform
from .structures import Structures
from .topologies import Topology


class Engine(Protocol):
    """What a walker asks of its engine; see :class:`.engine.OpenMMEngine`."""

    platform: str

    def start(self, seed: int) -> None: ...
    def set_state(
        self, positions: np.ndarray, velocities: np.ndarray | None = None, box: np.ndarray | None = None, seed: int = 1
    ) -> None: ...
    def advance(self, n_steps: int) -> None: ...
    def state(self) -> State: ...
    def snapshot(self) -> dict[str, np.ndarray]: ...
    def restore(self, snapshot: dict[str, np.ndarray], seed: int) -> None: ...
    def free(self) -> None: ...


def check_engine(config: Config, n_atoms: int, gpu: int | None) -> str:
    """Name of the platform on which the engine of the config runs topologies of at most `n_atoms` here.

    Raises
    ------
    EngineError
        If the platform that the config names does not work.
    """
    emulated = config.simulation.engine == "emulated"
    return EmulatedEngine.platform if emulated else check_platform(config.simulation, gpu, n_atoms)


def check_motion(config: Config, structures: Structures) -> None:
    """Raise an InputError if an emulated engine has nothing to show of this molecule."""
    if config.simulation.engine == "emulated":
        motion(structures, config.simulation, config.emulation)


def engine_maker(config: Config, gpu: int | None, platform: str) -> Callable[[Topology, int], Engine]:
    """A function that makes an engine for a topology, from a seed; the topology's System is shared."""
    simulation = config.simulation
    if simulation.engine == "emulated":
        return lambda topology, seed: EmulatedEngine(topology.structures, simulation, config.emulation, seed)
    return lambda topology, seed: OpenMMEngine(
        topology.structures, simulation, config.system, seed, gpu, topology.system, platform)
