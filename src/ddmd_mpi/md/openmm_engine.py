"""Molecular dynamics in this process: one engine per walker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import openmm
from openmm import unit

from ..config.dynamics import SimulationSection, SystemSection
from ..errors import EngineError
from .coordinates import box_array
from .molecules import seed_barostat
from .prepared import Particles, State
from .structures import Structures, build_system
from .velocities import draw_velocities, inverse_masses, redraw_velocities

CONSTRAINT_TOLERANCE = 1e-5
REFERENCE_PARTICLES = 30  # up to here the Reference platform is faster than the CPU platform
ACCELERATED = ("CUDA", "HIP", "OpenCL")
VELOCITY_UNIT = unit.nanometer / unit.picosecond


def check_platform(simulation: SimulationSection, gpu: int | None, n_particles: int = 1000) -> str:
    """Name of the platform for a system of `n_particles`: tried by a real context of one particle.

    Raises
    ------
    EngineError
        If the platform that the config names does not work here.
    """
    if simulation.platform != "auto":
        _try_platform(simulation.platform, simulation, gpu)
        return simulation.platform
    if n_particles <= REFERENCE_PARTICLES:
        return "Reference"
    for name in ACCELERATED:
        try:
            _try_platform(name, simulation, gpu)
        except EngineError:
            continue
        return name
    _try_platform("CPU", simulation, gpu)
    return "CPU"


def _try_platform(name: str, simulation: SimulationSection, gpu: int | None) -> None:
    probe = openmm.System()
    probe.addParticle(1.0)
    try:
        platform = openmm.Platform.getPlatformByName(name)
        openmm.Context(probe, openmm.VerletIntegrator(0.001), platform, _properties(name, simulation, gpu))
    except openmm.OpenMMException as error:
        raise EngineError(
            f"the OpenMM platform {name} does not work here ({_why(name, error)}): {_cure(name)}"
        ) from error


def _why(name: str, error: openmm.OpenMMException) -> str:
    """What OpenMM says, and where it has looked for a platform that it does not have."""
    there = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    if name in there:
        return str(error)
    failures = "; ".join(" ".join(failure.split()) for failure in openmm.Platform.getPluginLoadFailures())
    return f"none of the plugins in {openmm.Platform.getDefaultPluginsDirectory()} has it{failures and ': '}{failures}"


def _cure(name: str) -> str:
    return (
        "unset OPENMM_PLUGIN_DIR, or install OpenMM again"
        if name == "CPU"
        else "set simulation.platform to auto or CPU"
    )


def _properties(name: str, simulation: SimulationSection, gpu: int | None) -> dict[str, str]:
    """Properties of the platform: threads on CPU, precision and device on a GPU."""
    if name == "CPU":
        return {"Threads": str(simulation.threads)}
    if name in ACCELERATED:
        device = {} if gpu is None else {"DeviceIndex": str(gpu)}
        return {"Precision": simulation.precision, **device}
    return {}


class OpenMMEngine:
    """One walker in OpenMM: Langevin dynamics (BAOAB) with bonds to hydrogen constrained.

    Parameters
    ----------
    structures, simulation, system
        The molecule and its settings.
    seed
        Seed of the thermostat's noise, >= 1.
    gpu
        Index of the GPU on this node, None for the platform's own choice.
    model
        The system of :func:`build_system`, which the walkers of a rank may share; None to build it of Structures.
    platform
        Name of a platform that is known to work; None to look for one.
    relaxed
        The minimised start by platform, nm: what the first engine of a topology finds, the others take.

    Raises
    ------
    EngineError
        If the platform does not work or the system cannot be run on it.
    InputError
        If the force field does not know the molecule.
    """

    def __init__(
        self,
        structures: Structures | Particles,
        simulation: SimulationSection,
        system: SystemSection,
        seed: int,
        gpu: int | None = None,
        model: openmm.System | None = None,
        platform: str | None = None,
        relaxed: dict[str, np.ndarray] | None = None,
    ):
        self._relaxed = {} if relaxed is None else relaxed
        self._structures, self._simulation = structures, simulation
        self.n_atoms = len(structures.positions_nm)
        self.platform = platform or check_platform(simulation, gpu, self.n_atoms)
        if model is None:
            if isinstance(structures, Particles):
                raise EngineError("particles alone do not say what acts between them: give the system, too")
            model = build_system(structures, simulation, system)
        self._periodic = model.usesPeriodicBoundaryConditions()
        self._inverse_mass = inverse_masses(model)
        self._integrator = openmm.LangevinMiddleIntegrator(
            simulation.temperature_kelvin, simulation.friction_per_ps, simulation.timestep_fs * 1e-3
        )
        self._integrator.setConstraintTolerance(CONSTRAINT_TOLERANCE)
        self._integrator.setRandomNumberSeed(seed)
        seed_barostat(model, seed)
        try:
            self._context = openmm.Context(
                model,
                self._integrator,
                openmm.Platform.getPlatformByName(self.platform),
                _properties(self.platform, simulation, gpu),
            )
        except openmm.OpenMMException as error:
            raise EngineError(f"OpenMM cannot run this system on {self.platform}: {error}") from error

    def start(self, seed: int, stop: Callable[[], bool] | None = None) -> None:
        """Put the walker on the start, minimised when the config asks for it, with velocities from `seed`.

        Parameters
        ----------
        stop
            Called in every iteration of the minimiser: whether to stop early.
        """
        relaxed = self._relaxed.get(self.platform)
        with _engine_errors("start"):
            if self._periodic:
                self._context.setPeriodicBoxVectors(*self._structures.box_nm.astype(np.float64))
            self._context.setPositions(self._structures.positions_nm if relaxed is None else relaxed)
            if self._simulation.minimize and relaxed is None:
                self._minimise(stop)
            draw_velocities(self._context, self._simulation.temperature_kelvin, seed, self._inverse_mass)

    def _minimise(self, stop: Callable[[], bool] | None) -> None:
        openmm.LocalEnergyMinimizer.minimize(
            self._context, maxIterations=self._simulation.minimize_iterations, reporter=stop and _Until(stop)
        )
        if stop is None or not stop():
            found = self._context.getState(getPositions=True)
            self._relaxed[self.platform] = found.getPositions(asNumpy=True).value_in_unit(unit.nanometer)

    def set_state(
        self,
        positions: np.ndarray,
        velocities: np.ndarray | None = None,
        box: np.ndarray | None = None,
        seed: int | None = None,
    ) -> None:
        """Continue from another state.

        Parameters
        ----------
        positions
            nm, shape (n_atoms, 3).
        velocities
            Those of the state, nm/ps, shape (n_atoms, 3); None if they are not known.
        box
            Box vectors, nm, shape (3, 3); read for periodic systems only.
        seed
            Draw new velocities from it. None to copy those of the state.
        """
        with _engine_errors("restart"):
            if self._periodic and box is not None:
                vectors = box_array(box)
                if vectors is None:
                    raise EngineError("the state of a periodic system has no box")
                self._context.setPeriodicBoxVectors(*vectors)
            self._context.setPositions(np.asarray(positions, np.float64))
            self._context.applyConstraints(CONSTRAINT_TOLERANCE)
            if velocities is not None:
                self._context.setVelocities(np.asarray(velocities, np.float64))
                self._context.applyVelocityConstraints(CONSTRAINT_TOLERANCE)
            if velocities is None or seed is not None:
                draw = draw_velocities if velocities is None else redraw_velocities
                draw(self._context, self._simulation.temperature_kelvin, seed or 0, self._inverse_mass)

    def advance(self, n_steps: int) -> None:
        """Integrate `n_steps` steps."""
        with _engine_errors("integration"):
            self._integrator.step(n_steps)

    def state(self) -> State:
        """The current state, checked to be finite: ask once per report."""
        with _engine_errors("report"):
            found = self._context.getState(getPositions=True, getVelocities=True, getEnergy=True)
            energy = found.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
            positions = found.getPositions(asNumpy=True).value_in_unit(unit.nanometer).astype(np.float32)
            velocities = found.getVelocities(asNumpy=True).value_in_unit(VELOCITY_UNIT).astype(np.float32)
            box = np.zeros((3, 3), np.float32)
            if self._periodic:
                box[:] = found.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)
        if not (np.isfinite(energy) and np.isfinite(positions).all() and np.isfinite(velocities).all()):
            raise EngineError(
                "the simulation became unstable (NaN or infinite coordinates): reduce simulation.timestep_fs"
            )
        return State(positions, velocities, box, float(energy))

    def snapshot(self) -> dict[str, np.ndarray]:
        """All that a later session needs to continue.

        Returns
        -------
        dict of ndarray
            positions (n_atoms, 3) nm, velocities (n_atoms, 3) nm/ps, box (3, 3) nm or zero, float64, which any platform
            takes; and OpenMM's own checkpoint, bytes, which holds the random numbers too, with the platform and the
            version that it is bound to.

        Raises
        ------
        EngineError
            If the state is not finite.
        """
        self.state()
        with _engine_errors("checkpoint"):
            found = self._context.getState(getPositions=True, getVelocities=True)
            bound = np.frombuffer(self._context.createCheckpoint(), np.uint8)
        box = np.zeros((3, 3))
        if self._periodic:
            box[:] = found.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)
        return {
            "positions": found.getPositions(asNumpy=True).value_in_unit(unit.nanometer),
            "velocities": found.getVelocities(asNumpy=True).value_in_unit(VELOCITY_UNIT),
            "box": box,
            "checkpoint": bound,
            "bound_to": np.array(self._binding()),
        }

    def restore(self, snapshot: dict[str, np.ndarray], seed: int) -> None:
        """Continue from a snapshot: bit by bit where platform and version are the same, else from its state.

        Parameters
        ----------
        seed
            Not used: the thermostat was seeded when the engine was made, another way in every session.
        """
        del seed
        if str(snapshot["bound_to"]) != self._binding() or not self._load(snapshot):
            self.set_state(snapshot["positions"], snapshot["velocities"], snapshot["box"])

    def _load(self, snapshot: dict[str, np.ndarray]) -> bool:
        """Load OpenMM's own checkpoint; whether it is of the state that the snapshot has besides."""
        try:
            self._context.loadCheckpoint(snapshot["checkpoint"].tobytes())
            positions = self.state().positions
        except (openmm.OpenMMException, EngineError, UnicodeDecodeError):  # a message may hold bytes of the checkpoint
            return False
        return bool(np.allclose(positions, snapshot["positions"], atol=1e-4))

    def _binding(self) -> str:
        return f"{self.platform} {openmm.Platform.getOpenMMVersion()} {self.n_atoms}"

    def free(self) -> None:
        """Give the context's memory back."""
        self._context = self._integrator = None


class _Until(openmm.MinimizationReporter):
    """Ends a minimisation at the first iteration at which `stop` is true."""

    def __init__(self, stop: Callable[[], bool]):
        super().__init__()
        self._stop = stop

    def report(self, *_: object) -> bool:
        """Called by the minimiser, with the iteration, the positions, the gradient and some numbers."""
        return bool(self._stop())


@contextmanager
def _engine_errors(where: str) -> Iterator[None]:
    """Turn OpenMM's exceptions into an EngineError that says where."""
    try:
        yield
    except openmm.OpenMMException as error:
        raise EngineError(f"OpenMM failed in the {where}: {error}") from error
