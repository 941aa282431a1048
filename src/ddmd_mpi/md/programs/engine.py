"""A walker in a separate program, which runs while frames are read from the files that it writes.

The program runs a segment at a time. A state that is set ends it and starts it again from there.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ...config.dynamics import SimulationSection
from ...config.schema import FaultsSection
from ...errors import EngineError
from ..prepared import AnyParticles, State
from .child import LOG, Child, Patience, last_lines

#: Between two checks for a frame, where the engine itself waits for it.
POLL_SECONDS = 0.005
#: Elsewhere: at least, at most, and as a part of the time that a report takes.
SHORTEST_PAUSE, LONGEST_PAUSE, PAUSE_OF_REPORT = 0.01, 0.1, 0.05
SEED_PRIME = 1_000_003


class Start(NamedTuple):
    """Where a program starts: positions (n_atoms, 3) nm; velocities nm/ps or None; box (3, 3) nm or zero."""

    positions: np.ndarray
    velocities: np.ndarray | None
    box: np.ndarray


class Output(Protocol):
    """What one start of a program writes."""

    def begun(self) -> bool:
        """Whether it has finished its setup and takes steps."""

    def frame(self, index: int) -> State | None:
        """Its frame number `index`, from 0; None if it is not complete yet. Indices ascend from call to call."""


class Program(Protocol):
    """The input of one program, and what it writes; all files lie in its working directory.

    Attributes
    ----------
    name
        Of the engine.
    log
        File with the reason why it ended.
    n_reports
        Frames of a run.
    """

    name: str
    log: str
    n_reports: int

    def run(self, directory: Path, start: Start | None, seed: int) -> list[str]:
        """Write the input of a run; the command. Without a start, continue where the last run ended."""

    def output(self, directory: Path) -> Output:
        """What the run writes."""

    def minimise(self, directory: Path, start: Start) -> list[str]:
        """Write the input of a minimisation; the command."""

    def minimised(self, directory: Path) -> np.ndarray:
        """Positions after the minimisation, nm, shape (n_atoms, 3)."""


class ProgramEngine:
    """One walker in a program; the methods are those of :class:`..openmm_engine.OpenMMEngine`, and :meth:`poll`.

    Its states are those of the reports, ``simulation.report_interval_ps`` apart, counted from the state that was set.

    Parameters
    ----------
    program
        What moves it.
    structures, simulation, faults
        The molecule and its settings.
    seed
        Of all random numbers.
    scratch
        The program's working directory is made in it.
    relaxed
        The minimised start by engine, nm: the first engine of a topology sets it, the others use it.
    waiting
        Called repeatedly while :meth:`advance` waits: a program may set up slowly.
    """

    def __init__(
        self,
        program: Program,
        structures: AnyParticles,
        simulation: SimulationSection,
        faults: FaultsSection,
        seed: int,
        scratch: Path,
        relaxed: dict[str, np.ndarray] | None = None,
        waiting: Callable[[], object] = lambda: None,
    ):
        self.platform, self.n_atoms = program.name, len(structures.positions_nm)
        self._program, self._structures, self._simulation = program, structures, simulation
        self._relaxed = {} if relaxed is None else relaxed
        self._seed, self._faults, self._waiting = seed, faults, waiting
        self._patience = Patience(faults.hang_after, faults.start_within)
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            self._directory = Path(tempfile.mkdtemp(prefix=f"{program.name}-", dir=scratch))
        except OSError as error:
            raise EngineError(f"no directory for {program.name} can be made in {scratch}: {error.strerror}") from error
        self._child: Child | None = None
        # Of the child, while there is one.
        self._output: Output
        # Whether it has set up.
        self._begun = False
        # Where the next child begins; None where the last one has ended.
        self._start: Start | None = None
        self._run_seed = 0
        # Frames of the present child that have been taken.
        self._taken = 0
        # When the last of them was taken, and how long it took, s.
        self._reported, self._report_s = 0.0, 0.0
        # Steps since the last report that have been asked for.
        self._ahead = 0
        self._state: State | None = None

    def start(self, seed: int, stop: Callable[[], bool] | None = None) -> None:
        """Put the walker at the start, minimised if the config asks for it, with velocities drawn from `seed`.

        Parameters
        ----------
        stop
            Called repeatedly: whether to stop the minimisation early.
        """
        positions, box = np.asarray(self._structures.positions_nm, np.float64), self._structures.box_nm
        if self._simulation.minimize:
            found = self._relaxed.get(self.platform)
            positions = self._minimise(positions, box, stop) if found is None else found
        self.set_state(positions, None, box, seed)

    def set_state(
        self,
        positions: np.ndarray,
        velocities: np.ndarray | None = None,
        box: np.ndarray | None = None,
        seed: int | None = None,
    ) -> None:
        """Continue from another state: the program is ended; see :meth:`OpenMMEngine.set_state`.

        The next :meth:`poll` or :meth:`advance` starts it again, in the calling thread; it dies with that thread.
        """
        self._stop()
        box = np.zeros((3, 3)) if box is None or not self._structures.periodic else np.asarray(box, np.float64)
        if np.shape(positions) != (self.n_atoms, 3):
            raise EngineError(f"a state of {len(positions)} atoms cannot be set: the topology has {self.n_atoms}")
        if seed is not None:
            velocities = None  # the program draws them
            self._run_seed = seed
        self._start = Start(np.asarray(positions, np.float64), velocities, box)
        self._ahead = 0
        unknown = np.full((self.n_atoms, 3), np.nan, np.float32)
        self._state = State(
            np.asarray(positions, np.float32),
            unknown if velocities is None else np.asarray(velocities, np.float32),
            np.asarray(box, np.float32),
            float("nan"),
        )

    def poll(self) -> bool:
        """Whether the next report has arrived and become the state; starts the program if it is not running.

        Raises
        ------
        EngineError
            If the program has ended too early, hangs, or writes output that cannot be read.
        """
        child = self._child
        if child is not None and self._taken == self._program.n_reports:
            self._finish(child)
        elif child is not None:
            return self._take(child)
        if self._child is None:
            self._launch()
        return False

    @property
    def pause_s(self) -> float:
        """Seconds until the next :meth:`poll` is worth its cost, which the program pays on the same core."""
        # A program that has ended must not wait for the next start, nor one that has set up for a connection.
        if not self._begun or self._taken == self._program.n_reports:
            return SHORTEST_PAUSE
        usual = max(self._report_s, time.monotonic() - self._reported)
        return min(LONGEST_PAUSE, max(SHORTEST_PAUSE, PAUSE_OF_REPORT * usual))

    def advance(self, n_steps: int) -> None:
        """Integrate `n_steps` steps: return once the report that they reach is there, or the program takes steps."""
        self._ahead += n_steps
        while self._child is None or not self._begun or self._ahead >= self._simulation.steps_per_report:
            if not self.poll():
                self._waiting()
                time.sleep(POLL_SECONDS)

    def state(self) -> State:
        """The last report; before the first one, the state that was set, with NaN as energy and drawn velocities."""
        if self._state is None:
            raise EngineError(f"{self.platform} has no state yet")
        return self._state

    def snapshot(self) -> dict[str, np.ndarray]:
        """What a later session needs to resume: the last report, without velocities if they are still to be drawn."""
        state = self.state()
        velocities = {"velocities": state.velocities} if np.isfinite(state.velocities).all() else {}
        return {"positions": state.positions, **velocities, "box": state.box}

    def restore(self, snapshot: dict[str, np.ndarray], seed: int) -> None:
        """Continue from a snapshot, with noise from `seed`."""
        self.set_state(snapshot["positions"], snapshot.get("velocities"), snapshot["box"])
        self._run_seed = seed

    def free(self) -> None:
        """End the program and remove its working directory."""
        with suppress(EngineError):
            self._stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _launch(self) -> None:
        """Start the program for a segment."""
        # The thermostat must not repeat its noise in the next segment.
        self._run_seed += 1
        seed = self._seed * SEED_PRIME + self._run_seed
        try:
            command = self._program.run(self._directory, self._start, seed)
        except OSError as error:
            raise EngineError(f"the input of {self.platform} cannot be written: {error}") from error
        self._start, self._taken, self._begun = None, 0, False
        self._output = self._program.output(self._directory)
        self._child = Child(command, self._directory, self._simulation.threads)
        self._reported = time.monotonic()
        self._patience.begin()

    def _take(self, child: Child) -> bool:
        """Take the next frame, if it has arrived."""
        # A program may end between a look at its files and one at itself.
        code = child.exit_code
        self._begun = self._begun or self._output.begun()
        frame = self._output.frame(self._taken)
        if frame is None:
            if code is not None:
                raise self._failure(f"ended with exit code {code} after {self._taken} reports")
            self._look(child)
            return False
        self._patience.reported()
        self._report_s, self._reported = time.monotonic() - self._reported, time.monotonic()
        self._taken += 1
        self._ahead = max(0, self._ahead - self._simulation.steps_per_report)
        if frame.positions.shape != (self.n_atoms, 3):
            raise self._failure(f"has written a frame of {len(frame.positions)} atoms, not of {self.n_atoms}")
        if not all(np.isfinite(a).all() for a in frame):
            raise EngineError(
                "the simulation became unstable (NaN or infinite coordinates): reduce simulation.timestep_fs"
            )
        self._state = frame
        return True

    def _look(self, child: Child) -> None:
        """End the child if it hangs."""
        try:
            self._patience.look(child)
        except EngineError as error:
            self._child = None
            child.end()
            raise self._failure(f"was ended: {error}") from error

    def _finish(self, child: Child) -> None:
        """The program has written its last frame: let it write its final state."""
        code = child.exit_code
        if code is None:
            self._look(child)
            return
        if code:
            raise self._failure(f"ended with exit code {code} after its last report")
        self._child = None

    def _stop(self) -> None:
        """Stop the program."""
        if self._child is not None:
            child, self._child = self._child, None
            child.end()

    def _failure(self, what: str) -> EngineError:
        """An error with the last lines that the program has written."""
        self._stop()
        said = [last_lines(self._directory / name) for name in dict.fromkeys((self._program.log, LOG))]
        return EngineError(f"{self.platform} {what}; its last lines: {' / '.join(s for s in said if s) or 'none'}")

    def _minimise(self, positions: np.ndarray, box: np.ndarray, stop: Callable[[], bool] | None) -> np.ndarray:
        """The minimised start, nm; as it was if it is to stop."""
        self._stop()
        try:
            command = self._program.minimise(self._directory, Start(positions, None, np.asarray(box, np.float64)))
        except OSError as error:
            raise EngineError(f"the input of {self.platform} cannot be written: {error}") from error
        child = self._child = Child(command, self._directory, self._simulation.threads)
        patience = self._patience
        # It gives no reports.
        self._patience = Patience(self._faults.hang_after, float("inf"))
        while (code := child.exit_code) is None:
            if stop is not None and stop():
                self._stop()
                return positions
            self._look(child)
            time.sleep(POLL_SECONDS)
        self._patience = patience
        if code:
            raise self._failure(f"ended with exit code {code} in the minimisation")
        self._child = None
        found = self._program.minimised(self._directory)
        if not np.isfinite(found).all():
            raise EngineError(f"{self.platform} has minimised the start to NaN: correct system.start")
        self._relaxed[self.platform] = found
        return found
