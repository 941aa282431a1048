"""Engines of the user's own, by ``module:Class`` or entry point; guarded, because their code may do anything."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import imports
from ..config.dynamics import SimulationSection, SystemSection
from ..config.imports import described
from ..errors import ConfigError, EngineError
from .engines import BUILT_IN
from .prepared import AnyParticles, State

if TYPE_CHECKING:
    import openmm

GROUP = "ddmd_mpi.engines"
#: What an engine must have.
METHODS = ("start", "set_state", "advance", "state", "snapshot", "restore", "free")


@dataclass(frozen=True)
class EngineSetup:
    """What an engine of the user's own is made with.

    Parameters
    ----------
    structures
        The molecule: start (nm), masses (amu), box (nm).
    simulation, system
        The sections of the settings; ``simulation.temperature_kelvin``, ``timestep_fs`` and so on.
    options
        ``engine.options``: the engine's own settings.
    seed
        Of all random numbers, >= 1; another one for each walker and session.
    gpu
        Index of the GPU on this node, None for none.
    scratch
        Directory for files: in the run directory, or ``engine.scratch``; it may have to be made.
    system_of
        Gives the OpenMM System that the settings describe.
    """

    structures: AnyParticles
    simulation: SimulationSection
    system: SystemSection
    options: dict[str, Any]
    seed: int
    gpu: int | None
    scratch: Path
    system_of: Callable[[], openmm.System]


def find(name: str) -> type:
    """The class of an engine of the user's own.

    Raises
    ------
    ConfigError
        If there is no such engine, or it lacks something.
    """
    return _checked(name, imports.find("simulation.engine", name, GROUP, BUILT_IN, ConfigError))


def _checked(name: str, found: object) -> type:
    if not inspect.isclass(found):
        raise ConfigError(f"simulation.engine {name} is not a class (got {found!r}): see docs/engines.md")
    missing = [method for method in METHODS if not callable(getattr(found, method, None))]
    if missing:
        raise ConfigError(f"simulation.engine {name} lacks {', '.join(missing)}: see docs/engines.md")
    return found


class GuardedEngine:
    """An engine of the user's own, whose errors are failures of its walker, and whose states are checked.

    Parameters
    ----------
    name
        As the settings name it.
    make
        Its class.
    setup
        What it is made with.
    """

    def __init__(self, name: str, make: Callable[[EngineSetup], Any], setup: EngineSetup):
        self.platform = name
        self.n_atoms = setup.structures.n_atoms
        # States that were set with velocities and no seed: each gets another one.
        self._unseeded = 0
        with self._guarded("in its constructor"):
            self._engine = make(setup)

    def start(self, seed: int, stop: Callable[[], bool] | None = None) -> None:
        """Put the walker on the start, with velocities from `seed`; `stop` may be asked whether to hurry."""
        with self._guarded("in start"):
            self._engine.start(seed, stop)

    def set_state(
        self,
        positions: np.ndarray,
        velocities: np.ndarray | None = None,
        box: np.ndarray | None = None,
        seed: int | None = None,
    ) -> None:
        """Continue from another state; see :meth:`.openmm_engine.OpenMMEngine.set_state`."""
        if seed is None:
            self._unseeded += 1
            seed = self._unseeded
        else:
            velocities = None  # they are to be drawn
        with self._guarded("in set_state"):
            self._engine.set_state(positions, velocities, box, seed)

    def advance(self, n_steps: int) -> None:
        """Integrate `n_steps` steps."""
        with self._guarded("in advance"):
            self._engine.advance(n_steps)

    def state(self) -> State:
        """The current state, checked: of the right shape and finite."""
        with self._guarded("in state"):
            *found, energy = self._engine.state()
            positions, velocities, box = (np.asarray(a, np.float32) for a in found)
            state = State(positions, velocities, box, float(energy))
        atoms = (self.n_atoms, 3)
        shapes = positions.shape, velocities.shape, box.shape
        if shapes != (atoms, atoms, (3, 3)):
            raise EngineError(f"the engine {self.platform} gives arrays of the shapes {shapes}, not {atoms} and (3, 3)")
        if not all(np.isfinite(a).all() for a in state):
            raise EngineError(
                "the simulation became unstable (NaN or infinite coordinates): reduce simulation.timestep_fs"
            )
        return state

    def snapshot(self) -> dict[str, np.ndarray]:
        """Arrays for a later session; "positions" is one of them."""
        with self._guarded("in snapshot"):
            found = {name: np.asarray(array) for name, array in self._engine.snapshot().items()}
        if "positions" not in found:
            raise EngineError(f"the snapshot of the engine {self.platform} has no positions")
        return found

    def restore(self, snapshot: dict[str, np.ndarray], seed: int) -> None:
        """Go on from a snapshot."""
        with self._guarded("in restore"):
            self._engine.restore(snapshot, seed)

    def free(self) -> None:
        """Let it release what it holds."""
        with self._guarded("in free"):
            self._engine.free()

    @contextmanager
    def _guarded(self, where: str) -> Iterator[None]:
        try:
            yield
        except EngineError:
            raise
        except (Exception, SystemExit) as error:
            raise EngineError(f"the engine {self.platform} failed {where}: {described(error)}") from error
