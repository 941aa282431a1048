"""One run of LAMMPS: its input, and its frames, which it streams by IMDv3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...config.dynamics import SimulationSection
from ...errors import EngineError
from ..imd.client import Receiver, free_port
from ..maxwell import inverse, maxwell
from .child import LOG
from .engine import Start
from .lammps_files import VELOCITY, Input, read_dump, write_dump
from .streamed import LoggedEnergies, StreamedOutput

NAME = "lammps"
KJ_PER_KCAL = 4.184
BAR_PER_ATMOSPHERE = 1.01325
FS_PER_PS = 1000.0
#: Of the barostat, fs.
PRESSURE_DAMPING = 1000.0
LARGEST_SEED = 900_000_000
#: OpenMM's criterion of a minimum, kJ/mol/nm (root mean square of the force), and how long to look for it.
MINIMUM_FORCE, MOST_ITERATIONS = 10.0, 100_000
KCAL_PER_ANGSTROM = 1.0 / (KJ_PER_KCAL * 10.0)
#: Files of a run, in its working directory.
INPUT, BEGIN, END, ENERGIES = "in.lammps", "start.dump", "end.dump", "log.lammps"
#: With a screen: fix imd flushes it at every step, and without one every file that is open.
ARGUMENTS = ("-in", INPUT, "-log", ENERGIES, "-nocite")
#: Over the table of energies in the log.
TITLE = ["Step", "PotEng"]


def dynamics(simulation: SimulationSection, given: Input, seed: int, port: int, n_reports: int) -> list[str]:
    """The commands of a run. Constraints come after what acts on the forces, and before what moves the atoms."""
    every, kelvin = simulation.steps_per_report, simulation.temperature_kelvin
    atmospheres = simulation.pressure_bar / BAR_PER_ATMOSPHERE
    pressed = f"nph iso {atmospheres:.9g} {atmospheres:.9g} {PRESSURE_DAMPING:g}"
    moving = pressed if given.periodic and simulation.pressure_bar else "nve"
    damping = FS_PER_PS / simulation.friction_per_ps if simulation.friction_per_ps else 0.0
    bath = [f"fix ddmd_bath all langevin {kelvin:.9g} {kelvin:.9g} {damping:.9g} {1 + seed % LARGEST_SEED}"]
    return [
        *beginning(given),
        f"timestep {simulation.timestep_fs:.9g}",
        *(bath if damping else []),
        *given.constraints,
        f"fix ddmd_move all {moving}",
        f"fix ddmd_imd all imd {port} trate {every} version 3 unwrap on fscale 0.0 forces off",
        "thermo_style custom step pe",
        "thermo_modify flush yes format 2 %.12g",
        f"thermo {every}",
        f"run {every * n_reports}",
        f"write_dump all custom {END} id xu yu zu vx vy vz modify format float %.12g",
    ]


def minimisation(simulation: SimulationSection, given: Input, n_atoms: int) -> list[str]:
    """The commands of a minimisation, to OpenMM's criterion; without constraints."""
    iterations = simulation.minimize_iterations or MOST_ITERATIONS
    force = MINIMUM_FORCE * KCAL_PER_ANGSTROM * np.sqrt(3 * n_atoms)
    return [
        *beginning(given),
        "thermo 100",
        f"minimize 0.0 {force:.6g} {iterations} {10 * iterations}",
        f"write_dump all custom {END} id xu yu zu vx vy vz modify format float %.12g",
    ]


def beginning(given: Input) -> list[str]:
    """The user's commands, and the state to begin with."""
    box = "yes" if given.periodic else "no"
    return [*given.commands, f"read_dump {BEGIN} 0 x y z vx vy vz box {box} replace yes"]


class Lammps:
    """The program of one topology; see :class:`.engine.Program`.

    Parameters
    ----------
    command
        The program and the arguments before ours.
    given
        The user's input.
    masses
        amu, shape (n_atoms,).
    """

    name, log = NAME, LOG

    def __init__(self, command: Sequence[str], given: Input, masses: np.ndarray, simulation: SimulationSection):
        self._command, self._given = [*command, *ARGUMENTS], given
        self._masses, self._simulation = masses, simulation
        self.n_reports = simulation.reports_per_segment
        self._port = 0

    def run(self, directory: Path, start: Start | None, seed: int) -> list[str]:
        """Write the input of a segment; the command."""
        self._clear(directory)
        if start is None:
            _as_start(directory / END, directory / BEGIN)
        else:
            velocities = start.velocities
            if velocities is None:
                velocities = maxwell(self._simulation.temperature_kelvin, seed, inverse(self._masses))
            write_dump(directory / BEGIN, start.positions, velocities, start.box)
        self._port = free_port()
        commands = dynamics(self._simulation, self._given, seed, self._port, self.n_reports)
        (directory / INPUT).write_text("\n".join([*commands, ""]))
        return self._command

    def output(self, directory: Path) -> StreamedOutput:
        """What the segment sends."""
        return StreamedOutput(
            Receiver(self._port, len(self._masses)),
            self._simulation.steps_per_report,
            self._given.periodic,
            LoggedEnergies(directory / ENERGIES, EnergyTable()).of,
            VELOCITY,
        )

    def minimise(self, directory: Path, start: Start) -> list[str]:
        """Write the input of a minimisation; the command."""
        self._clear(directory)
        write_dump(directory / BEGIN, *start)
        commands = minimisation(self._simulation, self._given, len(self._masses))
        (directory / INPUT).write_text("\n".join([*commands, ""]))
        return self._command

    def minimised(self, directory: Path) -> np.ndarray:
        """Positions after the minimisation, nm, shape (n_atoms, 3)."""
        try:
            return read_dump(directory / END)
        except (OSError, ValueError) as error:
            raise EngineError(f"{NAME} has written no minimised start: {error}") from error

    def _clear(self, directory: Path) -> None:
        """Files of an earlier run must not be mistaken for this one's."""
        for name in (ENERGIES, BEGIN):
            (directory / name).unlink(missing_ok=True)


def _as_start(end: Path, begin: Path) -> None:
    """Make the dump of an end one that a run begins with: at step 0, its unwrapped positions as any others."""
    head, _, rows = end.read_text().partition("ITEM: ATOMS id xu yu zu")
    _, _, bounds = head.partition("ITEM: NUMBER OF ATOMS")
    begin.write_text(f"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS{bounds}ITEM: ATOMS id x y z{rows}")
    end.unlink()


class EnergyTable:
    """Reads the table of energies in the log of LAMMPS, line by line; see :class:`.streamed.LoggedEnergies`."""

    def __init__(self) -> None:
        # The log counts "22 atoms" before the table.
        self._begun = False

    def __call__(self, words: list[str]) -> tuple[int, float] | None:
        """Step and potential energy, kJ/mol."""
        self._begun = self._begun or words == TITLE
        if not self._begun or len(words) != len(TITLE) or not words[0].isdecimal():
            return None
        return int(words[0]), _number(words[1]) * KJ_PER_KCAL


def _number(text: str) -> float:
    """A number; NaN for anything else."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
