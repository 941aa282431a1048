"""Make the use cases ``mueller-brown`` and ``prinz``: Markov models of motion on potentials whose answers are known.

    python tools/potential_model.py inputs

A state is a point of a grid, and its frame three beads whose distances tell the coordinates: bead 1 lies at x from bead
0 along one axis, bead 2 at y along another one. Rates between neighbours on the grid are those of the square-root
approximation (H. C. Lie, K. Fackeldey, M. Weber, SIAM J. Matrix Anal. Appl. 34, 738 (2013), doi:10.1137/120884553), so
that the stationary probabilities are proportional to exp(-V/kT), exactly. A report is some steps of the fastest rate.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix, identity

from ddmd_mpi.analysis.potentials import POTENTIALS, Potential
from ddmd_mpi.md.emulated.markov import RESOLUTION_NM

LAG_PS = 4.0
#: Entries of the fluxes that are smaller than this part of their row are left out, on both sides.
SMALLEST = 1e-7
LINE = "ATOM  {0:5d}  CA  GLY A{0:4d}    {1:8.3f}{2:8.3f}{3:8.3f}  1.00  0.00           C\n"


def model(potential: Potential) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays of the file, and the points of the states, shape (n_states, 2)."""
    points, neighbours = potential.grid()
    weight = np.exp(-potential.energy_kt(points))
    weight /= weight.sum()
    first, second = neighbours.T
    flux = coo_matrix((np.sqrt(weight[first] * weight[second]), (first, second)), shape=2 * (len(points),)).tocsr()
    flux = flux + flux.T
    rates = coo_matrix((1 / weight, 2 * (np.arange(len(points)),))) @ flux
    fastest = rates.sum(axis=1).max()
    step = (
        identity(len(points))
        + (rates - coo_matrix((np.ravel(rates.sum(axis=1)), 2 * (np.arange(len(points)),)))) / fastest
    )
    lag = identity(len(points)).tocsr()
    for _ in range(potential.steps):
        lag = lag @ step
    fluxes = (coo_matrix((weight, 2 * (np.arange(len(points)),))) @ lag).tocoo()
    fluxes = ((fluxes + fluxes.T) / 2).tocoo()
    kept = (fluxes.row <= fluxes.col) & (fluxes.data > SMALLEST * np.sqrt(weight[fluxes.row] * weight[fluxes.col]))
    return {
        "lag_ps": np.float64(LAG_PS),
        "first": fluxes.row[kept].astype(np.uint16),
        "second": fluxes.col[kept].astype(np.uint16),
        "flux": fluxes.data[kept],
        "positions": np.rint(potential.beads_nm(points) / RESOLUTION_NM).astype(np.int16),
        "state": np.arange(len(points), dtype=np.uint16),
    }, points


def main(directory: Path) -> None:
    """Write all files but the configs."""
    for name, potential in POTENTIALS.items():
        parts, points = model(potential)
        np.savez(directory / f"{name}.npz", **parts)
        for which, point in (("start", potential.start), ("target", potential.target)):
            nearest = points[np.linalg.norm(points - point, axis=1).argmin()]
            beads = 10 * potential.beads_nm(nearest[None])[0]
            text = "".join(LINE.format(i, *bead) for i, bead in enumerate(beads, 1))
            (directory / f"{name}-{which}.pdb").write_text(f"{text}TER\nEND\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
