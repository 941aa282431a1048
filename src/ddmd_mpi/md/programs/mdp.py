"""The input of GROMACS's runs, mdp: what the settings of a simulation mean there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...config.dynamics import SimulationSection

PERIODIC_CUTOFF_NM = 1.0
#: A molecule without a box lies in one that none of its images can be seen in: for molecules so much longer than the
#: start, and that many nm.
STRETCH, MARGIN_NM, EDGES = 2.0, 2.0, 2.1
#: OpenMM's dielectric constant beyond a cutoff, and how far beyond it pairs are listed.
REACTION_FIELD, BUFFER_NM = 78.5, 0.2
#: Water: bar⁻¹; ps.
COMPRESSIBILITY, TAU_P = 4.5e-5, 5.0
#: A minimum: the largest force, kJ/mol/nm, and how long to look for it.
MINIMUM_FORCE, MOST_ITERATIONS = 100.0, 5000
LARGEST_SEED = 2_000_000_000


class Settings(NamedTuple):
    """How a system is run besides ``[simulation]``: in a box, else in a vacuum; its length, nm; further entries."""

    periodic: bool
    length_nm: float
    extra: tuple[str, ...] = ()

    @property
    def reach_nm(self) -> float:
        """What replaces a cutoff if there is none."""
        return STRETCH * self.length_nm + MARGIN_NM

    def box(self, box_nm: np.ndarray) -> np.ndarray:
        """The box of the run, nm, shape (3, 3)."""
        return np.asarray(box_nm, float) if self.periodic else np.eye(3) * EDGES * self.reach_nm


def dynamics(simulation: SimulationSection, settings: Settings, draw: bool, seed: int) -> dict[str, object]:
    """The entries of a run.

    Parameters
    ----------
    draw
        Whether velocities are drawn.
    """
    every, seed = simulation.steps_per_report, 1 + seed % LARGEST_SEED
    values = {
        "integrator": "sd" if simulation.friction_per_ps else "md",
        "dt": f"{simulation.timestep_fs * 1e-3:.9f}",
        "nsteps": every * simulation.reports_per_segment,
        "tc-grps": "System",
        "tau-t": 1.0 / simulation.friction_per_ps if simulation.friction_per_ps else -1,
        "ref-t": simulation.temperature_kelvin,
        "ld-seed": seed,
        "gen-vel": "yes" if draw else "no",
        "gen-temp": simulation.temperature_kelvin,
        "gen-seed": seed,
        "continuation": "no" if draw else "yes",
        "nstxout": every,
        "nstvout": every,
        "nstfout": 0,
        "nstxout-compressed": 0,
        "nstlog": every,
        "nstenergy": every,
        "nstcalcenergy": every,
        **interactions(simulation, settings),
    }
    if settings.periodic and simulation.pressure_bar:
        values |= {
            "pcoupl": "C-rescale",
            "ref-p": simulation.pressure_bar,
            "tau-p": TAU_P,
            "compressibility": COMPRESSIBILITY,
        }
    return values


def minimisation(simulation: SimulationSection, settings: Settings) -> dict[str, object]:
    """The entries of a minimisation."""
    return {
        "integrator": "steep",
        "emtol": MINIMUM_FORCE,
        "nsteps": simulation.minimize_iterations or MOST_ITERATIONS,
        "nstlog": 100,
        "nstenergy": 100,
        **interactions(simulation, settings),
    }


def interactions(simulation: SimulationSection, settings: Settings) -> dict[str, object]:
    """What acts between the atoms: PME in a box; a vacuum, with a reaction field beyond a cutoff."""
    cutoff_nm = simulation.nonbonded_cutoff_nm
    values: dict[str, object] = {
        "constraints": "h-bonds",
        "pbc": "xyz",
        "coulomb-modifier": "none",
        "vdw-modifier": "none",
    }
    if settings.periodic:
        cutoff_nm = cutoff_nm or PERIODIC_CUTOFF_NM
        return {**values, "coulombtype": "PME", "rcoulomb": cutoff_nm, "rvdw": cutoff_nm, "DispCorr": "EnerPres"}
    # Pairs are listed by distance: nothing moves far enough between two lists to be missed in a vacuum.
    values |= {"verlet-buffer-tolerance": -1, "nstlist": 20}
    if cutoff_nm is None:
        reach = f"{settings.reach_nm:.3f}"
        return {**values, "coulombtype": "cut-off", "rcoulomb": reach, "rvdw": reach, "rlist": reach}
    field = {"coulombtype": "reaction-field", "epsilon-rf": REACTION_FIELD}
    return {**values, **field, "rcoulomb": cutoff_nm, "rvdw": cutoff_nm, "rlist": cutoff_nm + BUFFER_NM}


#: What the extra input may set in place of what is written here.
OPEN = {"rlist", "nstlist", "verlet-buffer-tolerance", "dispcorr", "tau-p", "compressibility", "nstenergy", "emtol"}
OPEN |= {"coulomb-modifier", "vdw-modifier"}
#: Not written here, but determined by other settings.
TAKEN = {"tinit", "init-step", "tcoupl", "gen-vel", "simulation-part", "mass-repartition-factor"}


def reserved() -> set[str]:
    """Entries that other settings decide."""
    names, simulation = set(TAKEN), SimulationSection()
    for settings in (Settings(True, 1.0), Settings(False, 1.0)):
        names |= dynamics(simulation, settings, True, 1).keys() | minimisation(simulation, settings).keys()
    return {plain(name) for name in names | {"epsilon-rf"}} - OPEN


def plain(name: str) -> str:
    """The name of an entry as grompp compares it."""
    return name.strip().lower().replace("_", "-")


def entries(lines: Sequence[str]) -> dict[str, str]:
    """Extra input as entries by name."""
    return {plain(name): value.strip() for name, _, value in (line.partition("=") for line in lines)}


def mdp(values: Mapping[str, object], extra: Sequence[str]) -> str:
    """The file mdp; what the extra input sets it sets alone."""
    merged = {plain(name): value for name, value in values.items()} | entries(extra)
    return "".join(f"{name} = {value}\n" for name, value in merged.items())
