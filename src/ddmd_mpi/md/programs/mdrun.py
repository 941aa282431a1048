"""GROMACS's grompp and mdrun: their input, and the frames (TRR) and energies (log) of a run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...config.dynamics import SimulationSection
from ...errors import EngineError
from ...structure.periodic import make_whole, molecules_of
from ..prepared import State
from . import trr
from .child import Tail
from .engine import Start
from .mdp import Settings, dynamics, mdp, minimisation

NAME = "gromacs"
#: Files of a run, in its working directory.
INPUT, BEGIN, RUN, FRAMES, LOG = "run.mdp", "start.trr", "run.tpr", "frames.trr", "md.log"
#: A run starts despite this many warnings of grompp; errors are errors.
WARNINGS = "10000"
#: Columns of the log.
WIDTH = 15


class Files(NamedTuple):
    """Of a topology: the top, a gro with the names of its atoms, and pairs of atoms that lie in one molecule."""

    top: Path
    gro: Path
    pairs: np.ndarray


def grompp(gmx: str, files: Files) -> list[str]:
    """The command that makes a run's input, in its working directory."""
    given = ["-f", INPUT, "-c", str(files.gro), "-p", str(files.top), "-t", BEGIN, "-o", RUN]
    return [gmx, "-quiet", "-nobackup", "grompp", *given, "-maxwarn", WARNINGS]


class Mdrun:
    """The programs of one topology; see :class:`.engine.Program`.

    Parameters
    ----------
    gmx
        Path of GROMACS's program.
    arguments
        Of mdrun besides its files.
    files
        Of the topology, with the masses that are simulated.
    """

    name, log = NAME, LOG

    def __init__(
        self,
        gmx: str,
        arguments: Sequence[str],
        files: Files,
        n_atoms: int,
        simulation: SimulationSection,
        settings: Settings,
    ):
        self._files, self._simulation, self._settings = files, simulation, settings
        self.n_reports = simulation.reports_per_segment
        self._images = Images(files.pairs, n_atoms)
        mdrun = [gmx, "-quiet", "-nobackup", "mdrun", "-s", RUN, "-o", FRAMES, "-g", LOG, "-cpt", "-1", *arguments]
        # Of steps that go wrong no pictures are kept.
        script = f"{shlex.join(grompp(gmx, files))} && GMX_SUPPRESS_DUMP=1 exec {shlex.join(mdrun)}"
        self._command = ["/bin/sh", "-c", script]

    def run(self, directory: Path, start: Start | None, seed: int) -> list[str]:
        """Write the input of a segment; the command."""
        if start is None:
            # grompp takes the last frame.
            (directory / FRAMES).replace(directory / BEGIN)
        else:
            self._begin(directory, start)
        draw = start is not None and start.velocities is None
        return self._write(directory, dynamics(self._simulation, self._settings, draw, seed))

    def output(self, directory: Path) -> Output:
        """What the segment writes."""
        return Output(directory, self._simulation.steps_per_report, self._images, self._settings.periodic)

    def minimise(self, directory: Path, start: Start) -> list[str]:
        """Write the input of a minimisation; the command."""
        self._begin(directory, start)
        return self._write(directory, minimisation(self._simulation, self._settings))

    def minimised(self, directory: Path) -> np.ndarray:
        """Positions after the minimisation, nm, shape (n_atoms, 3)."""
        reader, last = trr.Reader(directory / FRAMES), None
        while (frame := reader.read()) is not None:
            last = frame
        if last is None:
            raise EngineError(f"{NAME} has written no minimised start")
        return self._images.follow(last.positions, last.box)

    def _begin(self, directory: Path, start: Start) -> None:
        self._images.before = np.asarray(start.positions, float)
        trr.write_frame(directory / BEGIN, start.positions, start.velocities, self._settings.box(start.box))

    def _write(self, directory: Path, values: Mapping[str, object]) -> list[str]:
        # Files of an earlier run must not be mistaken for this one's.
        for name in (FRAMES, LOG, RUN):
            (directory / name).unlink(missing_ok=True)
        (directory / INPUT).write_text(mdp(values, self._settings.extra))
        return self._command


class Images:
    """Puts molecules together again, near where they were: mdrun moves atoms across the box one by one.

    Parameters
    ----------
    pairs
        Atoms of one molecule, shape (n, 2).

    Attributes
    ----------
    before
        Positions of the frame before, nm, shape (n_atoms, 3).
    """

    def __init__(self, pairs: np.ndarray, n_atoms: int):
        self._pairs = pairs
        self.before = np.zeros((n_atoms, 3))
        molecules = molecules_of(n_atoms, pairs)
        # Of each atom the first one of its molecule.
        self._anchors = np.unique(molecules, return_index=True)[1][molecules]

    def follow(self, positions: np.ndarray, box: np.ndarray) -> np.ndarray:
        """The positions of the next frame, nm, shape (n_atoms, 3), of whole molecules."""
        box = box.astype(float)
        found = make_whole(positions.astype(float), self._pairs, box)
        jumps = np.rint((found - self.before)[self._anchors] @ np.linalg.inv(box))
        self.before = found - jumps @ box
        return self.before


class Output:
    """What one run of mdrun writes: frames, the first of which is the start, and a log with their energies.

    Parameters
    ----------
    images
        Puts the molecules together.
    periodic
        Whether frames have a box.
    """

    def __init__(self, directory: Path, steps_per_report: int, images: Images, periodic: bool):
        self._path, self._log, self._every = directory / FRAMES, Tail(directory / LOG), steps_per_report
        self._images, self._periodic = images, periodic
        self._reader = trr.Reader(self._path)
        self._next: trr.Frame | None = None
        self._energies = Energies()

    def begun(self) -> bool:
        """Whether the start has been written, after which it steps."""
        try:
            return self._path.stat().st_size > 0
        except OSError:
            return False

    def frame(self, index: int) -> State | None:
        """Frame number `index`, None if it is not whole yet."""
        step = (index + 1) * self._every
        while self._next is None or self._next.step < step:
            self._next = self._reader.read()
            if self._next is None:
                return None
        self._energies.add(self._log.lines())
        if step not in self._energies.of_step:
            return None
        frame, energy = self._next, self._energies.of_step.pop(step)
        if frame.velocities is None:
            raise EngineError(f"the trajectory {self._path} has no velocities")
        positions, box = frame.positions, frame.box
        if np.isfinite(positions).all() and positions.shape == self._images.before.shape:
            positions = self._images.follow(positions, box).astype(np.float32)
        return State(positions, frame.velocities, box if self._periodic else np.zeros_like(box), energy)


class Energies:
    """Potential energies, kJ/mol, by step, from the lines of a log as they come.

    Below a line ``Step Time`` stands a step, and some lines below that a value below the word Potential. The first
    energy of a step is its own; what follows at the end are averages.
    """

    def __init__(self) -> None:
        self.of_step: dict[int, float] = {}
        self._step = -1
        self._above = ""

    def add(self, lines: Iterable[str]) -> None:
        """The next lines of the log."""
        for line in lines:
            if re.fullmatch(r"\s+Step\s+Time\s*", self._above):
                self._step = int(line.split()[0])
            end = self._above.find("Potential") + len("Potential")
            if end >= WIDTH and end % WIDTH == 0 and self._step >= 0:
                self.of_step.setdefault(self._step, float(line[end - WIDTH : end]))
                self._step = -1
            self._above = line
