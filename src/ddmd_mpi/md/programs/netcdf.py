"""AMBER's NetCDF files: restart files are written, trajectories read frame by frame while they grow.

The conventions are those of https://ambermd.org/netcdf/nctraj.xhtml; scipy reads and writes the format.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import netcdf_file

from ...errors import EngineError
from ...structure import ANGSTROM_PER_NM
from ..prepared import State

NM_PER_ANGSTROM = 0.1
#: AMBER's unit of time is 1/20.455 ps; velocities are stored in Å per that unit.
AMBER_TIME = 20.455
VELOCITY = NM_PER_ANGSTROM * AMBER_TIME
#: A file that has changed within this many seconds may be half written: the header first, a frame after its number.
SETTLED_SECONDS = 2.0


def write_restart(path: Path, positions: np.ndarray, velocities: np.ndarray | None, box: np.ndarray) -> None:
    """Write a restart file.

    Parameters
    ----------
    positions
        nm, shape (n_atoms, 3).
    velocities
        nm/ps, shape (n_atoms, 3); None for none.
    box
        Vectors of a rectangular box, nm, shape (3, 3); zero for none.
    """
    with netcdf_file(path, "w", version=2) as file:
        file.Conventions, file.ConventionVersion = "AMBERRESTART", "1.0"
        file.program, file.programVersion, file.title = "ddmd-mpi", "1", ""
        for name, size in (("atom", len(positions)), ("spatial", 3), ("cell_spatial", 3), ("cell_angular", 3)):
            file.createDimension(name, size)
        # sander asks for it.
        file.createVariable("spatial", "c", ("spatial",))[:] = list("xyz")
        moment = file.createVariable("time", "d", ())
        moment.units = "picosecond"
        moment.data[...] = 0.0
        _variable(file, "coordinates", ("atom", "spatial"), "angstrom", positions * ANGSTROM_PER_NM)
        if velocities is not None:
            shown = _variable(file, "velocities", ("atom", "spatial"), "angstrom/picosecond", velocities / VELOCITY)
            shown.scale_factor = AMBER_TIME
        if box.any():
            _variable(file, "cell_lengths", ("cell_spatial",), "angstrom", np.diag(box) * ANGSTROM_PER_NM)
            _variable(file, "cell_angles", ("cell_angular",), "degree", np.full(3, 90.0))


def read_restart(path: Path) -> np.ndarray:
    """The positions of a restart file, nm, shape (n_atoms, 3), float64."""
    with netcdf_file(path, "r", mmap=False) as file:
        return np.array(file.variables["coordinates"][:], np.float64) * NM_PER_ANGSTROM


def read_frame(path: Path, index: int, potential_energy: float) -> State | None:
    """Frame number `index` of a trajectory with velocities; None if the file does not show it yet.

    Raises
    ------
    EngineError
        If the file has no velocities, or cannot be read.
    """
    try:
        found = _record(path, index)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        if time.time() - path.stat().st_mtime < SETTLED_SECONDS:
            return None
        raise EngineError(f"the trajectory {path} cannot be read: {error or type(error).__name__}") from error
    if found is None:
        return None
    if "velocities" not in found:
        raise EngineError(f"the trajectory {path} has no velocities: leave ntwv out of engine.extra_input")
    box = np.zeros((3, 3), np.float32)
    if "cell_lengths" in found:
        np.fill_diagonal(box, found["cell_lengths"] * NM_PER_ANGSTROM)
    positions = np.asarray(found["coordinates"] * NM_PER_ANGSTROM, np.float32)
    velocities = np.asarray(found["velocities"] * VELOCITY, np.float32)
    return State(positions, velocities, box, potential_energy)


def _record(path: Path, index: int) -> dict[str, np.ndarray] | None:
    """Copies of what one frame holds, in the file's units; None if it is not there yet."""
    with netcdf_file(path, "r", mmap=True) as file:
        if len(file.variables["time"].data) <= index:
            return None
        names = file.variables.keys() & {"coordinates", "velocities", "cell_lengths"}
        return {name: np.array(file.variables[name].data[index], np.float64) for name in names}


def _variable(file: netcdf_file, name: str, dimensions: tuple[str, ...], unit: str, values: np.ndarray) -> Any:
    variable = file.createVariable(name, "d", dimensions)
    variable.units = unit
    variable[:] = values
    return variable
