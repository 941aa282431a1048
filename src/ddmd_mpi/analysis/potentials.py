"""Potentials of one and two coordinates with answers by quadrature, behind the use cases of their names.

Walkers of these use cases are three beads: the distances from bead 0 to bead 1 and to bead 2 tell x and y.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["POTENTIALS", "Potential"]

#: Distance at the lower end of a coordinate, and per unit of it, nm.
OFFSET_NM, SCALE_NM = 0.4, 0.2
QUADRATURE = 2000


@dataclass(frozen=True)
class Potential:
    """A potential, in kT, on a rectangle.

    Parameters
    ----------
    energy_kt
        Of points, shape (n, 2), in kT.
    low, high
        Corners of the rectangle; y is always 0 for a potential of one coordinate.
    spacing
        Of the grid of states.
    cutoff_kt
        States lie lower than this above the lowest one.
    start, target
        Points.
    steps
        Steps of the fastest rate in a report.
    """

    energy_kt: Callable[[np.ndarray], np.ndarray]
    low: tuple[float, float]
    high: tuple[float, float]
    spacing: float
    cutoff_kt: float
    start: tuple[float, float]
    target: tuple[float, float]
    steps: int

    def grid(self, spacing: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Points below the cutoff, shape (n, 2), and the pairs of them that are neighbours, shape (n_pairs, 2)."""
        spacing = self.spacing if spacing is None else spacing
        axes = [np.arange(a, b + spacing / 2, spacing) for a, b in zip(self.low, self.high, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        energy = self.energy_kt(points.reshape(-1, 2)).reshape(points.shape[:2])
        inside = energy < energy.min() + self.cutoff_kt
        number = np.where(inside, np.cumsum(inside.ravel()).reshape(inside.shape) - 1, -1)
        pairs = np.concatenate(
            [
                np.stack([number[:-1].ravel(), number[1:].ravel()]),
                np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()]),
            ],
            axis=1,
        ).T
        return points[inside], pairs[(pairs >= 0).all(axis=1)]

    def population(self, inside: Callable[[np.ndarray], np.ndarray]) -> float:
        """Probability of a region by quadrature, over the points that states can have.

        Parameters
        ----------
        inside
            Says of points, shape (n, 2), whether they are in the region.
        """
        width = max(b - a for a, b in zip(self.low, self.high, strict=True))
        points, _ = self.grid(width / QUADRATURE)
        weight = np.exp(-self.energy_kt(points))
        return float(weight[inside(points)].sum() / weight.sum())

    def beads_nm(self, points: np.ndarray) -> np.ndarray:
        """Three beads for each point, nm, shape (n, 3, 3)."""
        beads = np.zeros((len(points), 3, 3))
        beads[:, 1, 0], beads[:, 2, 1] = (OFFSET_NM + SCALE_NM * (points - self.low)).T
        return beads

    def points(self, positions_nm: np.ndarray) -> np.ndarray:
        """What :meth:`beads_nm` of a run's frames, shape (n, 3, 3), stands for."""
        distances = np.linalg.norm(positions_nm[:, 1:] - positions_nm[:, :1], axis=2)
        return (distances - OFFSET_NM) / SCALE_NM + self.low


def mueller_brown(points: np.ndarray) -> np.ndarray:
    """K. Müller and L. D. Brown, Theor. Chim. Acta 53, 75 (1979), doi:10.1007/BF00547608; kT is 15 of its units."""
    x, y = points.T[..., None]
    height = np.array([-200.0, -100.0, -170.0, 15.0])
    a, b, c = np.array([[-1, -1, -6.5, 0.7], [0, 0, 11, 0.6], [-10, -10, -6.5, 0.7]])
    dx, dy = x - np.array([1, 0, -0.5, -1]), y - np.array([0, 0.5, 1.5, 1])
    return (height * np.exp(a * dx**2 + b * dx * dy + c * dy**2)).sum(axis=-1) / 15.0


def prinz(points: np.ndarray) -> np.ndarray:
    """Four wells of J.-H. Prinz et al., J. Chem. Phys. 134, 174105 (2011), doi:10.1063/1.3565032, in kT."""
    x = points[:, 0]
    wells = 0.8 * np.exp(-80 * x**2) + 0.2 * np.exp(-80 * (x - 0.5) ** 2) + 0.5 * np.exp(-40 * (x + 0.5) ** 2)
    return 4.0 * (x**8 + wells)


POTENTIALS = {
    "mueller-brown": Potential(
        mueller_brown, (-1.6, -0.4), (1.3, 2.1), 0.05, 12.0, (0.62, 0.03), (-0.56, 1.44), steps=8
    ),
    "prinz": Potential(prinz, (-1.2, 0.0), (1.2, 0.0), 0.02, 12.0, (0.75, 0.0), (-0.75, 0.0), steps=16),
}
