"""Which engine moves the walkers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..sections import Config
from .emulated import EmulatedEngine, motion
from .engine import OpenMMEngine, State, check_platform
from .seeds import engine_seed
from .structures import Structures
from .systems import build_system


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


def check_engine(config: Config, structures: Structures, gpu: int | None) -> str:
    """Name of the platform on which the engine of the config runs here.

    Raises
    ------
    DDMDError
        If it cannot run, as far as that is known before a system is built.
    """
    if config.simulation.engine == "emulated":
        motion(structures, config.simulation, config.emulation)
        return EmulatedEngine.platform
    return check_platform(config.simulation, gpu, len(structures.positions_nm))


def engine_maker(
    config: Config, structures: Structures, gpu: int | None, session: int = 0
) -> Callable[[int], Engine]:
    """A function that makes the engine of a walker; what the walkers of a rank can share is made once, now."""
    simulation, seed = config.simulation, config.run.seed
    if simulation.engine == "emulated":
        return lambda walker: EmulatedEngine(
            structures, simulation, config.emulation, engine_seed(seed, walker, session))
    model = build_system(structures, simulation, config.system)
    return lambda walker: OpenMMEngine(
        structures, simulation, config.system, engine_seed(seed, walker, session), gpu, model)
