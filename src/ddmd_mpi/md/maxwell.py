"""Velocities of the Maxwell-Boltzmann distribution."""

from __future__ import annotations

import numpy as np

#: kJ/mol/K.
GAS_CONSTANT = 8.31446261815324e-3


def inverse(masses: np.ndarray) -> np.ndarray:
    """1/amu, shape (n, 1), of masses of shape (n,); 0 for what has none and does not move by itself."""
    masses = np.asarray(masses, float)[:, None]
    return np.divide(1.0, masses, out=np.zeros_like(masses), where=masses > 0)


def maxwell(temperature_kelvin: float, seed: int, inverse_mass: np.ndarray) -> np.ndarray:
    """Velocities, nm/ps, shape (n_particles, 3), for 1/amu of shape (n_particles, 1); 0 for what does not move."""
    noise = np.random.default_rng(seed).standard_normal((len(inverse_mass), 3))
    return np.sqrt(GAS_CONSTANT * temperature_kelvin * inverse_mass) * noise
