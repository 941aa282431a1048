"""AMBER's sander: its input, and its frames (NetCDF with velocities)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...config.dynamics import SimulationSection
from ...errors import EngineError
from ..prepared import State
from . import netcdf
from .child import Tail
from .engine import Start

NAME = "amber"
KJ_PER_KCAL = 4.184
ANGSTROM_PER_NM = 10.0
KCAL_PER_ANGSTROM = 1.0 / (KJ_PER_KCAL * ANGSTROM_PER_NM)
#: Å: no cutoff; and that up to which pairs count for the effective radii, 25 Å by default.
NO_CUTOFF, NO_RADIUS_CUTOFF = 9999.0, 999.0
PERIODIC_CUTOFF_NM = 1.0
BAROSTAT_STEPS = 25
#: OpenMM's criterion of a minimum, kJ/mol/nm (root mean square of the force), and how long to look for it.
MINIMUM_FORCE, MOST_CYCLES = 10.0, 100_000
LARGEST_SEED = 900_000_000
#: Beyond it sander prints no number of a step.
MOST_STEPS = 99_999_999
#: Files of a run, in its working directory.
INPUT, TOPOLOGY, BEGIN, END, FRAMES, MDOUT = "mdin", "prmtop", "start.nc", "end.nc", "frames.nc", "mdout"
ARGUMENTS = ("-O", "-i", INPUT, "-o", MDOUT, "-p", TOPOLOGY, "-c", BEGIN, "-r", END, "-x", FRAMES, "-inf", "mdinfo")
_STEP = re.compile(r"NSTEP =\s*(\d+)\s.*?EPtot\s*=\s*(\S+)\n", re.DOTALL)
KEY = re.compile(r"([A-Za-z_]\w*)\s*(?:\([^)]*\)\s*)?=")


class Settings(NamedTuple):
    """How a system is run besides ``[simulation]``: in a box, else in implicit solvent or a vacuum; extra input."""

    periodic: bool
    vacuum: bool
    extra: tuple[str, ...] = ()


def dynamics(simulation: SimulationSection, settings: Settings, start: bool, seed: int) -> dict[str, object]:
    """The namelist &cntrl of a run.

    Parameters
    ----------
    start
        Whether it draws velocities.
    """
    every, reports = simulation.steps_per_report, reports_per_run(simulation)
    values = {
        "imin": 0,
        "irest": 0 if start else 1,
        "ntx": 1 if start else 5,
        "nstlim": every * reports,
        "dt": f"{simulation.timestep_fs * 1e-3:.9f}",
        "ntc": 2,
        "ntf": 2,
        "ntt": 3 if simulation.friction_per_ps else 0,
        "gamma_ln": simulation.friction_per_ps,
        "temp0": simulation.temperature_kelvin,
        "tempi": simulation.temperature_kelvin,
        "ig": 1 + seed % LARGEST_SEED,
        "ntpr": every,
        "ntwx": every,
        "ntwv": -1,
        "ioutfm": 1,
        "ntxo": 2,
        "ntwr": every * reports,
        "iwrap": 0,
        **interactions(simulation, settings),
    }
    if settings.periodic and simulation.pressure_bar:
        pressure = {"ntp": 1, "barostat": 2, "mcbarint": BAROSTAT_STEPS, "pres0": simulation.pressure_bar}
        values |= {"ntb": 2, **pressure}
    return values


def minimisation(simulation: SimulationSection, settings: Settings) -> dict[str, object]:
    """The namelist &cntrl of a minimisation, to OpenMM's criterion."""
    cycles = simulation.minimize_iterations or MOST_CYCLES
    return {
        "imin": 1,
        "maxcyc": cycles,
        "ncyc": min(cycles, 10),
        "drms": f"{MINIMUM_FORCE * KCAL_PER_ANGSTROM:.6f}",
        "ntc": 1,
        "ntf": 1,
        "ntpr": 100,
        "ntxo": 2,
        **interactions(simulation, settings),
    }


def interactions(simulation: SimulationSection, settings: Settings) -> dict[str, object]:
    """What acts between the atoms: PME in a box; OBC2 without its surface term, or a vacuum."""
    cutoff_nm = simulation.nonbonded_cutoff_nm
    if settings.periodic:
        return {"ntb": 1, "cut": (cutoff_nm or PERIODIC_CUTOFF_NM) * ANGSTROM_PER_NM}
    cut = NO_CUTOFF if cutoff_nm is None else cutoff_nm * ANGSTROM_PER_NM
    model = {"igb": 6} if settings.vacuum else {"igb": 5, "rgbmax": NO_RADIUS_CUTOFF}
    return {"ntb": 0, "cut": cut, **model}


#: What the extra input may set in place of what is written here.
OPEN = {"igb", "rgbmax"}


def reserved() -> set[str]:
    """Names in &cntrl that other settings decide."""
    simulation = SimulationSection()
    names: set[str] = set()
    for settings in (Settings(True, False), Settings(False, False)):
        names |= dynamics(simulation, settings, True, 1).keys() | minimisation(simulation, settings).keys()
    return (names | {"ntr", "t", "ntwe", "ntwprt", "ntpr", "numexchg", "ipi", "ntwf"}) - OPEN


def namelist(values: dict[str, object], extra: Sequence[str]) -> str:
    """The file mdin; what the extra input sets it sets alone."""
    own = {name.lower() for line in extra for name in KEY.findall(line)}
    lines = [f"  {name}={value}," for name, value in values.items() if name not in own]
    return "\n".join(["ddmd-mpi", " &cntrl", *lines, *(f"  {line.rstrip().rstrip(',')}," for line in extra), " /", ""])


def reports_per_run(simulation: SimulationSection) -> int:
    """Frames of one start of the program: a segment's."""
    return min(simulation.reports_per_segment, max(1, MOST_STEPS // simulation.steps_per_report))


class Sander:
    """The program of one topology; see :class:`.engine.Program`.

    Parameters
    ----------
    command
        The program and the arguments before ours.
    prmtop
        With the masses that are simulated.
    """

    name, log = NAME, MDOUT

    def __init__(self, command: Sequence[str], prmtop: Path, simulation: SimulationSection, settings: Settings):
        self._command, self._prmtop = [*command, *ARGUMENTS], prmtop
        self._simulation, self._settings = simulation, settings
        self.n_reports = reports_per_run(simulation)

    def run(self, directory: Path, start: Start | None, seed: int) -> list[str]:
        """Write the input of a segment; the command."""
        self._clear(directory)
        if start is None:
            (directory / END).replace(directory / BEGIN)
        else:
            netcdf.write_restart(directory / BEGIN, *start)
        values = dynamics(self._simulation, self._settings, start is not None and start.velocities is None, seed)
        (directory / INPUT).write_text(namelist(values, self._settings.extra))
        return self._command

    def output(self, directory: Path) -> Output:
        """What the segment writes."""
        return Output(directory, self._simulation.steps_per_report)

    def minimise(self, directory: Path, start: Start) -> list[str]:
        """Write the input of a minimisation; the command."""
        self._clear(directory)
        netcdf.write_restart(directory / BEGIN, *start)
        (directory / INPUT).write_text(namelist(minimisation(self._simulation, self._settings), self._settings.extra))
        return self._command

    def minimised(self, directory: Path) -> np.ndarray:
        """Positions after the minimisation, nm, shape (n_atoms, 3)."""
        try:
            return netcdf.read_restart(directory / END)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineError(f"{NAME} has written no minimised start: {error}") from error

    def _clear(self, directory: Path) -> None:
        """Files of an earlier run must not be mistaken for this one's."""
        for name in (FRAMES, MDOUT, BEGIN, "mdinfo"):
            (directory / name).unlink(missing_ok=True)
        if not (directory / TOPOLOGY).exists():
            (directory / TOPOLOGY).symlink_to(self._prmtop)


class Output:
    """What one run of sander writes.

    A frame counts once ``mdout`` shows its step, which sander writes after it. The energy there is that of the
    positions one step before: sander moves the atoms between computing the energy and writing the frame.
    """

    def __init__(self, directory: Path, steps_per_report: int):
        self._frames, self._mdout, self._every = directory / FRAMES, Tail(directory / MDOUT), steps_per_report
        self._text = ""
        self._energy: dict[int, float] = {}

    def begun(self) -> bool:
        """Whether the trajectory has its head: sander opens it once it has set up."""
        try:
            return self._frames.stat().st_size > 0
        except OSError:
            return False

    def frame(self, index: int) -> State | None:
        """Frame number `index`, None if it is not whole yet."""
        step = (index + 1) * self._every
        if step not in self._energy:
            self._look()
        if step not in self._energy:
            return None
        frame = netcdf.read_frame(self._frames, index, self._energy[step])
        if frame is not None:
            del self._energy[step]
        return frame

    def _look(self) -> None:
        """Read on in mdout: the first energy of a step is its own, what follows at the end are averages."""
        self._text += "".join(f"{line}\n" for line in self._mdout.lines())
        end = 0
        for match in _STEP.finditer(self._text):
            end = match.end()
            self._energy.setdefault(int(match[1]), _number(match[2]) * KJ_PER_KCAL)
        self._text = self._text[end:]


def _number(text: str) -> float:
    """A number of Fortran's; NaN for asterisks."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
