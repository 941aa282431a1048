"""One run of NAMD: its configuration and restart files, and its frames, which it streams by IMDv3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...config.dynamics import SimulationSection
from ...errors import EngineError
from ...structure import ANGSTROM_PER_NM
from ..imd.client import Receiver, free_port
from ..maxwell import inverse, maxwell
from .child import LOG
from .engine import Start
from .namd_files import configuration, read_positions, write_box, write_positions, write_velocities
from .streamed import LoggedEnergies, StreamedOutput

NAME = "namd"
KJ_PER_KCAL = 4.184
PERIODIC_CUTOFF_NM, NO_CUTOFF_NM = 1.0, 100.0
CHARMM_CUTOFF_NM, CHARMM_SWITCH_NM = 1.2, 1.0
#: Å that pairs may come nearer until their list is made again.
PAIR_MARGIN = 1.5
MOST_ITERATIONS = 1000
LARGEST_SEED = 2_000_000_000
#: Files of a run, in its working directory.
INPUT, BEGIN, END = "run.namd", "start", "end"


class System(NamedTuple):
    """What NAMD reads of a topology, and how it is run: entries that name its files, in a box, in implicit solvent."""

    files: dict[str, object]
    periodic: bool
    implicit: bool


def interactions(simulation: SimulationSection, system: System) -> dict[str, object]:
    """What acts between the atoms: PME in a box, with a plain cutoff or CHARMM's; GBIS (OBC2) or a vacuum without."""
    switched = system.periodic and simulation.nonbonded_cutoff_nm is None and "paraTypeCharmm" in system.files
    default = CHARMM_CUTOFF_NM if switched else PERIODIC_CUTOFF_NM
    cutoff = ANGSTROM_PER_NM * (simulation.nonbonded_cutoff_nm or (default if system.periodic else NO_CUTOFF_NM))
    values: dict[str, object] = {
        "switching": "on" if switched else "off",
        **({"switchdist": f"{ANGSTROM_PER_NM * CHARMM_SWITCH_NM:g}"} if switched else {}),
        "cutoff": f"{cutoff:g}",
        "pairlistdist": f"{cutoff + PAIR_MARGIN:g}",
    }
    values |= {"nonbondedFreq": 1, "fullElectFrequency": 1, "stepspercycle": 20, "wrapAll": "off", "wrapWater": "off"}
    if system.periodic:
        values |= {"PME": "yes", "PMEGridSpacing": 1.0, "LJCorrection": "yes"}
    elif system.implicit:
        values |= {"GBIS": "on", "solventDielectric": 78.5, "ionConcentration": 0.0, "sasa": "off"}
        values |= {"alphaCutoff": f"{cutoff:g}"}
    return values


def dynamics(simulation: SimulationSection, system: System, seed: int, port: int, n_steps: int) -> dict[str, object]:
    """The entries of a run."""
    every, kelvin = simulation.steps_per_report, simulation.temperature_kelvin
    values = {
        **system.files,
        "binCoordinates": f"{BEGIN}.coor",
        "binVelocities": f"{BEGIN}.vel",
        **({"extendedSystem": f"{BEGIN}.xsc"} if system.periodic else {}),
        **interactions(simulation, system),
        "timestep": f"{simulation.timestep_fs:.9g}",
        "rigidBonds": "all",
        "rigidTolerance": 1e-6,
        "useSettle": "on",
        "seed": 1 + seed % LARGEST_SEED,
    }
    if simulation.friction_per_ps:
        values |= {"langevin": "on", "langevinTemp": f"{kelvin:.9g}", "langevinHydrogen": "on"}
        values |= {"langevinDamping": f"{simulation.friction_per_ps:.9g}"}
    if system.periodic and simulation.pressure_bar:
        values |= {"useGroupPressure": "yes", "useFlexibleCell": "no", "langevinPiston": "on"}
        values |= {"langevinPistonTarget": f"{simulation.pressure_bar:.9g}", "langevinPistonTemp": f"{kelvin:.9g}"}
        values |= {"langevinPistonPeriod": 200, "langevinPistonDecay": 100}
    values |= {"IMDon": "yes", "IMDport": port, "IMDfreq": every, "IMDwait": "yes", "IMDignore": "yes", "IMDversion": 3}
    sent = {"Time": "yes", "BoxDimensions": "yes", "Positions": "yes", "Velocities": "yes"}
    values |= {f"IMDsend{what}": yes for what, yes in (sent | {"Energies": "no", "Forces": "no"}).items()}
    values |= {"IMDwrapPositions": "no", "outputEnergies": every, "outputName": END, "binaryOutput": "yes"}
    return values | {"firstTimestep": 0, "run": n_steps}


def minimisation(simulation: SimulationSection, system: System) -> dict[str, object]:
    """The entries of a minimisation: this many iterations, since NAMD knows no criterion."""
    return {
        **system.files,
        "binCoordinates": f"{BEGIN}.coor",
        "temperature": 0,
        **({"extendedSystem": f"{BEGIN}.xsc"} if system.periodic else {}),
        **interactions(simulation, system),
        "outputEnergies": 100,
        "outputName": END,
        "binaryOutput": "yes",
        "minimize": simulation.minimize_iterations or MOST_ITERATIONS,
    }


class Namd:
    """The program of one topology; see :class:`.engine.Program`.

    Parameters
    ----------
    command
        The program and the arguments before ours.
    masses
        amu, shape (n_atoms,).
    extra
        Further lines of the configuration.
    """

    name, log = NAME, LOG

    def __init__(
        self,
        command: Sequence[str],
        system: System,
        masses: np.ndarray,
        simulation: SimulationSection,
        extra: tuple[str, ...] = (),
    ):
        self._command, self._system, self._extra = [*command, INPUT], system, extra
        self._masses, self._simulation = masses, simulation
        self.n_reports = simulation.reports_per_segment
        self._port = 0

    def run(self, directory: Path, start: Start | None, seed: int) -> list[str]:
        """Write the files of a segment; the command."""
        if start is None:
            for suffix in ("coor", "vel", *(["xsc"] if self._system.periodic else [])):
                (directory / f"{END}.{suffix}").replace(directory / f"{BEGIN}.{suffix}")
        else:
            self._write(directory, start)
            velocities = start.velocities
            if velocities is None:
                velocities = maxwell(self._simulation.temperature_kelvin, seed, inverse(self._masses))
            write_velocities(directory / f"{BEGIN}.vel", velocities)
        self._port = free_port()
        n_steps = self.n_reports * self._simulation.steps_per_report
        entries = dynamics(self._simulation, self._system, seed, self._port, n_steps)
        last = entries.pop("run")
        (directory / INPUT).write_text(configuration(entries, (*self._extra, f"run {last}")))
        return self._command

    def output(self, directory: Path) -> StreamedOutput:
        """What the segment sends."""
        receiver, energies = Receiver(self._port, len(self._masses)), LoggedEnergies(directory / LOG, EnergyTable())
        every, periodic = self._simulation.steps_per_report, self._system.periodic
        return StreamedOutput(receiver, every, periodic, energies.of)

    def minimise(self, directory: Path, start: Start) -> list[str]:
        """Write the files of a minimisation; the command."""
        self._write(directory, start)
        entries = minimisation(self._simulation, self._system)
        iterations = entries.pop("minimize")
        (directory / INPUT).write_text(configuration(entries, (*self._extra, f"minimize {iterations}")))
        return self._command

    def minimised(self, directory: Path) -> np.ndarray:
        """Positions after the minimisation, nm, shape (n_atoms, 3)."""
        try:
            return read_positions(directory / f"{END}.coor")
        except (OSError, ValueError) as error:
            raise EngineError(f"{NAME} has written no minimised start: {error}") from error

    def _write(self, directory: Path, start: Start) -> None:
        write_positions(directory / f"{BEGIN}.coor", start.positions)
        if self._system.periodic:
            write_box(directory / f"{BEGIN}.xsc", start.box, start.positions.mean(axis=0))


class EnergyTable:
    """Reads what NAMD prints, line by line: names of columns, and numbers; see :class:`.streamed.LoggedEnergies`."""

    def __init__(self) -> None:
        self._column = -1

    def __call__(self, words: list[str]) -> tuple[int, float] | None:
        """Step and potential energy, kJ/mol."""
        if words[:1] == ["ETITLE:"] and "POTENTIAL" in words:
            self._column = words.index("POTENTIAL")
        elif words[:1] == ["ENERGY:"] and 0 < self._column < len(words):
            return int(words[1]), float(words[self._column]) * KJ_PER_KCAL
        return None
