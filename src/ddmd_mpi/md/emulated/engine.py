"""An engine that costs next to nothing: its frames are made up, recorded or drawn, and it stands in for a GPU.

It computes no forces and takes no time by itself; how long a report takes is its walker's business.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...config.dynamics import EmulationSection, SimulationSection
from ..prepared import AnyParticles, Reports, State
from .markov import MarkovMotion, check_model, read_model
from .recorded import RecordedMotion, read_frames
from .synthetic import GAS_CONSTANT, SyntheticMotion


class EmulatedEngine:
    """One walker without molecular dynamics; the methods are those of :class:`.engine.OpenMMEngine`.

    Parameters
    ----------
    structures, simulation, emulation
        The molecule and its settings; ``emulation.markov_model`` names a Markov model to draw frames from,
        ``emulation.trajectory`` frames to replay, else they are made up.
    seed
        Of all random numbers.

    Raises
    ------
    InputError
        If the trajectory cannot be replayed.
    """

    def __init__(self, structures: AnyParticles, simulation: SimulationSection, emulation: EmulationSection, seed: int):
        self.platform = simulation.engine
        self.n_atoms = len(structures.positions_nm)
        self._steps_per_report, self._seed = simulation.steps_per_report, seed
        self._speed = thermal_speeds(structures, simulation.temperature_kelvin)
        self._motion, self._box = motion(structures, simulation, emulation), structures.box_nm
        self._state: State | None = None
        self._reseed(0)

    def start(self, seed: int, stop: Callable[[], bool] | None = None) -> None:  # noqa: ARG002 - it takes no time
        """Put the walker on the start, or on one of the recorded frames."""
        self._reseed(seed)
        self._motion.begin(self._rng)
        self._show(self._motion.positions(self._rng), None)

    def set_state(
        self,
        positions: np.ndarray,
        velocities: np.ndarray | None = None,
        box: np.ndarray | None = None,  # noqa: ARG002 - the box of the start stays
        seed: int | None = None,
    ) -> None:
        """Continue from another state; see :meth:`.engine.OpenMMEngine.set_state`."""
        if velocities is None or seed is not None:
            self._reseed(seed or 0)
            velocities = None
        positions = np.asarray(positions, np.float32)
        self._motion.take(positions)
        self._show(positions, velocities)

    def advance(self, n_steps: int) -> None:
        """Move as far as `n_steps` steps go."""
        self._motion.advance(n_steps / self._steps_per_report, self._rng)
        self._state = None

    def reports(self, n_reports: int) -> Reports:
        """Move to each of the next reports; of a Markov model only, which draws many of them at once."""
        if not isinstance(self._motion, MarkovMotion):
            raise TypeError("only a Markov model gives many reports at once")
        frames, positions = self._motion.walk(n_reports, self._rng)
        velocities = self._rng.standard_normal(positions.shape, np.float32)
        velocities *= self._speed
        self._show(positions[-1], velocities[-1])
        return Reports(frames, positions, velocities, self._box, np.full(n_reports, self._motion.potential_energy()))

    def number(self, positions: np.ndarray) -> int | None:
        """Which frame of a Markov model these positions are, nm, shape (n_atoms, 3); None for none of them."""
        return self._motion.number(positions) if isinstance(self._motion, MarkovMotion) else None

    def state(self) -> State:
        """The current state."""
        return self._show(self._motion.positions(self._rng), None) if self._state is None else self._state

    def snapshot(self) -> dict[str, np.ndarray]:
        """All that a later session needs to continue; see :meth:`.engine.OpenMMEngine.snapshot`."""
        state = self.state()
        return {"positions": state.positions, "velocities": state.velocities, "box": state.box}

    def restore(self, snapshot: dict[str, np.ndarray], seed: int) -> None:
        """Continue from a snapshot, with noise from `seed`."""
        self._reseed(seed)
        self.set_state(snapshot["positions"], snapshot["velocities"])

    def free(self) -> None:
        """Nothing is held."""

    def _reseed(self, seed: int) -> None:
        self._rng = np.random.default_rng((self._seed, seed))
        self._state = None

    def _show(self, positions: np.ndarray, velocities: np.ndarray | None) -> State:
        """Make the state of these positions, with Maxwell velocities, because there are no others."""
        if velocities is None:
            velocities = self._rng.standard_normal((self.n_atoms, 3), np.float32)
            velocities *= self._speed
        self._state = State(positions, np.asarray(velocities, np.float32), self._box, self._motion.potential_energy())
        return self._state


def motion(
    structures: AnyParticles, simulation: SimulationSection, emulation: EmulationSection
) -> SyntheticMotion | RecordedMotion | MarkovMotion:
    """What moves a walker."""
    if emulation.markov_model is not None:
        model = read_model(emulation.markov_model)
        check_model(model, emulation.markov_model, len(structures.positions_nm), simulation.report_interval_ps)
        return MarkovMotion(model, structures)
    if emulation.trajectory is None:
        return SyntheticMotion(structures, simulation.temperature_kelvin)
    return RecordedMotion(read_frames(emulation.trajectory, len(structures.positions_nm)), structures)


def thermal_speeds(structures: AnyParticles, temperature_kelvin: float) -> np.ndarray:
    """Standard deviation of a velocity component of each atom, nm/ps, shape (n_atoms, 1), float32."""
    return np.sqrt(GAS_CONSTANT * temperature_kelvin / structures.masses).astype(np.float32)[:, None]
