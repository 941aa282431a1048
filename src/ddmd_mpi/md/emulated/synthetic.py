"""Made-up motion of a molecule between its start and its target: cheap, seeded, and not physical.

The descriptor atoms move in a few collective coordinates. The first runs along the straight way from the start (0) to
the target (1): Brownian motion in a double well, so that a walker sits near one of the two and now and then folds or
unfolds. The others are smooth waves along the chain, each an Ornstein-Uhlenbeck process, wide at the start and narrow
at the target. Every other atom moves with the descriptor atom of its residue. The positions are the complete state: a
walker that restarts from a frame continues from that frame.

Times are in reports. The escape from a well is Kramers': at a barrier of 4 kT a walker folds about once in 400 reports.
"""

from __future__ import annotations

import math

import numpy as np

from ...structure.rmsd import best_rotation
from ..prepared import AnyParticles

BARRIER = 4.0  # kT
DIFFUSION = 0.0095  # of the folding coordinate, per report
MAX_STEP = 0.1  # reports; the wells relax in about 0.8
WAVES = 6  # along the chain, each in x, y and z
WAVE_REPORTS = 20.0  # until a wave is forgotten
WIDE_NM, NARROW_NM = 0.30, 0.08  # root mean square displacement by the waves, at the start and at the target
SHAKE_NM = 0.01  # of every atom by itself, each report
RIGIDITY = 500.0  # kJ/mol/nm^2: energy of the waves
GAS_CONSTANT = 8.314462618e-3  # kJ/mol/K


class SyntheticMotion:
    """The state of one walker.

    Parameters
    ----------
    structures
        Start and target.
    temperature_kelvin
        The energy of the double well is in units of kT.

    Attributes
    ----------
    folded
        The folding coordinate: 0 at the start, 1 at the target.
    """

    def __init__(self, structures: AnyParticles, temperature_kelvin: float):
        self._start = structures.positions_nm.astype(np.float32)
        self._descriptor = structures.descriptor
        self._carrier = carriers(structures)
        self._energy_unit = GAS_CONSTANT * temperature_kelvin
        way = superposed(structures.target_nm, structures.positions_nm[self._descriptor])
        way -= structures.positions_nm[self._descriptor]
        self._length = float(np.linalg.norm(way))
        self._basis = collective_basis(way)
        self._wide = math.sqrt(len(way) / (self._basis.shape[1] - 1))
        self.begin()

    def begin(self, rng: np.random.Generator | None = None) -> None:  # noqa: ARG002 - every walker starts at the start
        """Go to the start structure."""
        self.folded = 0.0
        self._waves = np.zeros(self._basis.shape[1] - 1)

    def take(self, positions: np.ndarray) -> None:
        """Go to a frame, nm, shape (n_atoms, 3), of this or another walker."""
        displacement = positions[self._descriptor] - self._start[self._descriptor]
        coordinates = displacement.reshape(-1).astype(np.float64) @ self._basis
        self.folded = float(coordinates[0]) / self._length
        self._waves = coordinates[1:]

    def advance(self, reports: float, rng: np.random.Generator) -> None:
        """Move for a number of reports or a part of one."""
        n = max(1, math.ceil(reports / MAX_STEP))
        step = reports / n
        for kick in math.sqrt(2 * DIFFUSION * step) * rng.standard_normal(n):
            x = self.folded
            slope = 32 * BARRIER * x * (1 - x) * (1 - 2 * x)  # of 16 BARRIER x^2 (1 - x)^2
            self.folded = x - DIFFUSION * step * slope + float(kick)
        kept = math.exp(-reports / WAVE_REPORTS)
        noise = rng.standard_normal(len(self._waves))
        self._waves = kept * self._waves + math.sqrt(1 - kept**2) * self._spread() * noise

    def positions(self, rng: np.random.Generator) -> np.ndarray:
        """All atoms, nm, shape (n_atoms, 3), float32."""
        moved = self._basis @ np.concatenate([[self.folded * self._length], self._waves])
        shaken = rng.standard_normal(self._start.shape, np.float32)
        shaken *= np.float32(SHAKE_NM)
        shaken += self._start
        shaken += moved.astype(np.float32).reshape(-1, 3)[self._carrier]
        return shaken

    def potential_energy(self) -> float:
        """The double well's and the waves' energy, kJ/mol; as made up as the motion."""
        well = 16 * BARRIER * self.folded**2 * (1 - self.folded) ** 2
        return self._energy_unit * well + 0.5 * RIGIDITY * float(self._waves @ self._waves)

    def _spread(self) -> float:
        """Standard deviation of a wave's coordinate, nm."""
        folded = min(1.0, max(0.0, self.folded))
        return self._wide * (WIDE_NM + folded * (NARROW_NM - WIDE_NM))


def superposed(mobile: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """`mobile` after the proper rotation and the shift that bring it nearest to `fixed`, both of shape (n, 3)."""
    centre = fixed.mean(axis=0)
    x = mobile - mobile.mean(axis=0)
    return x @ best_rotation(x, fixed - centre) + centre


def collective_basis(way: np.ndarray) -> np.ndarray:
    """Orthonormal displacements of n atoms: the direction of `way`, shape (n, 3), then smooth waves along the chain.

    Returns
    -------
    ndarray, shape (3 n, 1 + 3 m)
        One displacement a column.
    """
    n = len(way)
    waves = np.arange(1, min(WAVES, n - 1) + 1)
    along = np.cos(np.pi * np.outer(np.arange(n) + 0.5, waves) / n)
    columns = np.kron(along, np.eye(3))  # row 3 i + axis, column 3 k + axis
    basis, _ = np.linalg.qr(np.column_stack([way.reshape(-1), columns]))
    basis[:, 0] = way.reshape(-1) / np.linalg.norm(way)
    return basis


def carriers(structures: AnyParticles) -> np.ndarray:
    """For every atom the number of the descriptor atom it goes along with: its residue's, else the nearest."""
    residues = structures.residues
    of_residue = np.full(residues.max() + 1, -1)
    of_residue[residues[structures.descriptor]] = np.arange(len(structures.descriptor))
    found = of_residue[residues]
    anchors = structures.positions_nm[structures.descriptor]
    for atom in np.flatnonzero(found < 0):
        found[atom] = np.square(anchors - structures.positions_nm[atom]).sum(axis=1).argmin()
    return found
