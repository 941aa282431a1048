"""Starts for new systems: an unfolded one from a folded one, and either in a box of water."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from ..config.dynamics import SimulationSection
from ..errors import InputError
from . import complexes
from .molecule_files import MoleculeFiles
from .molecules import Molecule, build_molecule
from .trusted_files import load_force_field
from .velocities import draw_velocities, inverse_masses

HOT_KELVIN = 500.0
HOT_PS = 100.0
#: Up to this many atoms the entire time is affordable on one core; pairs, and so the cost, grow with the square.
HOT_ATOMS = 200
SHORTEST_PS = 5.0
TIMESTEP_FS, HYDROGEN_AMU = 4.0, 3.0
PADDING_NM, LARGEST_BOX_NM = 1.0, 50.0


def unfolding_ps(n_atoms: int) -> float:
    """How long to run at 500 K: 100 ps, and less for large systems."""
    return float(np.clip(HOT_PS * (HOT_ATOMS / n_atoms) ** 2, SHORTEST_PS, HOT_PS).round())


def unfold(molecule: Molecule, seed: int) -> np.ndarray:
    """Positions, nm, after a run at 500 K from the molecule's own, minimised before and after.

    Raises
    ------
    InputError
        If the molecule cannot be run.
    """
    finished = molecule.files.topology is not None and molecule.files.topology.suffix.lower() == ".xml"
    settings = SimulationSection(
        timestep_fs=2.0 if finished else TIMESTEP_FS,
        hydrogen_mass_amu=None if finished else HYDROGEN_AMU,
        report_interval_ps=1.0,
        segment_ps=1.0,
        pressure_bar=0.0,
    )
    system = build_molecule(molecule, settings)
    ps = unfolding_ps(len(molecule.positions_nm))
    n_steps = round(ps * 1000 / settings.timestep_fs)
    try:
        return hot_run(system, molecule.positions_nm, n_steps, settings.timestep_fs, seed)
    except openmm.OpenMMException as error:
        raise InputError(
            f"{molecule.files.coordinates} cannot be run at {HOT_KELVIN:g} K ({error}): give a start "
            "of your own and --target"
        ) from error


def hot_run(system: openmm.System, positions: np.ndarray, n_steps: int, timestep_fs: float, seed: int) -> np.ndarray:
    """Positions, nm, after `n_steps` at 500 K from `positions` and a minimisation."""
    integrator = openmm.LangevinMiddleIntegrator(HOT_KELVIN, 1.0, timestep_fs * 1e-3)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("CPU" if system.getNumParticles() > 30 else "Reference")
    properties = {"Threads": "1", "DeterministicForces": "true"} if platform.getName() == "CPU" else {}
    context = openmm.Context(system, integrator, platform, properties)
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    draw_velocities(context, HOT_KELVIN, seed, inverse_masses(system))
    integrator.step(n_steps)
    openmm.LocalEnergyMinimizer.minimize(context)
    found = context.getState(getPositions=True).getPositions(asNumpy=True)
    return np.asarray(found.value_in_unit(unit.nanometer))


def in_water(
    topology: app.Topology, positions_nm: np.ndarray, force_field: list[str]
) -> tuple[app.Topology, np.ndarray]:
    """The molecule in a cube of TIP3P water, 1 nm around it, with the ions that make it neutral: always the same.

    Raises
    ------
    InputError
        If the cube would be larger than any that can be simulated.
    """
    edge = np.ptp(positions_nm, axis=0).max() + 2 * PADDING_NM
    if edge > LARGEST_BOX_NM:
        raise InputError(
            f"a box of water around it would be {edge:.0f} nm wide, and {LARGEST_BOX_NM:g} nm at most are "
            "made: correct the positions that lie far out, or use --solvent implicit"
        )
    alone = complexes.Atoms(topology, positions_nm)
    return complexes.solvated(alone, load_force_field(tuple(force_field)), padding_nm=PADDING_NM)


def molecule_of(topology: app.Topology, positions_nm: np.ndarray, force_field: list[str], path: Path) -> Molecule:
    """A molecule without a box under a force field; `path` is its name in messages."""
    return Molecule(MoleculeFiles(path, force_field=tuple(force_field)), topology, positions_nm, None)
