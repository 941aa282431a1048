"""Velocities drawn from the stationary distribution of OpenMM's Langevin integrators.

LangevinMiddleIntegrator is a leapfrog: its state holds the positions x at a time t and the velocities v half a step
earlier. Its positions have the right distribution. The velocities at t itself have the variance kT/m (1 - a) for a mode
of frequency w, with a = (w dt / 2)^2; in matrices kT M^-1 (1 - A) with A = (dt/2)^2 M^-1 H, where H holds the second
derivatives of the energy at x (Z. Zhang et al., J. Phys. Chem. A 123, 6056 (2019), doi:10.1021/acs.jpca.9b02771).
Velocities drawn with the variance kT/m at x carry too much energy: a kT/2 per mode where they are shifted back by half
a step, as ``Context.setVelocitiesToTemperature`` does, and a kT where they are not. At 4 fs a reaches 0.3 with bonds to
hydrogen constrained and 0.8 without, and the excess stays for as long as the thermostat needs.

Half a step before x, where the thermostat acts, velocities have the variance kT/m and do not depend on the positions.
A frame with its velocities leads there: :func:`redraw_velocities`, which evaluates no force. A frame without them does
not: :func:`draw_velocities`.
"""

from __future__ import annotations

import numpy as np
import openmm
from numpy.polynomial import Chebyshev, Polynomial
from openmm import unit

from .maxwell import inverse, maxwell

STIFFEST = 0.8  # a of the fastest modes; the integrator is unstable from 1 on
#: q(a) with 1 - a q(a) = sqrt(1 - a): the variance is right within 0.5 % of kT/m up to a = 0.8.
SERIES = Chebyshev.interpolate(lambda a: (1 - np.sqrt(1 - a)) / a, 2, [0, STIFFEST]).convert(kind=Polynomial).coef


def redraw_velocities(context: openmm.Context, temperature_kelvin: float, seed: int, inverse_mass: np.ndarray) -> None:
    """Give a context that holds a frame and its velocities new velocities, independent of the old ones.

    Repeats the second half of the step that led to the frame, with a thermostat of infinite friction: back along the
    old velocities by half a step, forward along the new ones. The positions change by that much, about 0.001 nm. The
    result has the integrator's own distribution whatever the forces are.

    Parameters
    ----------
    context
        Its integrator's step size counts.
    seed
        >= 0; decides the velocities.
    inverse_mass
        Of :func:`inverse_masses`.
    """
    half_step, tolerance = _half_step(context), context.getIntegrator().getConstraintTolerance()
    context.applyVelocityConstraints(tolerance)
    state = context.getState(getPositions=True, getVelocities=True)
    before = _values(state.getPositions(asNumpy=True)) - half_step * _values(state.getVelocities(asNumpy=True))
    drawn = _constrained(context, maxwell(temperature_kelvin, seed, inverse_mass), tolerance)
    _place(context, before + half_step * drawn)
    context.applyConstraints(tolerance)
    context.applyVelocityConstraints(tolerance)


def draw_velocities(context: openmm.Context, temperature_kelvin: float, seed: int, inverse_mass: np.ndarray) -> None:
    """Give a context velocities that leave its walker at the temperature; its positions stay where they are.

    The square root of 1 - A is taken of a vector by products with A, and these by differences of forces, half a step
    of motion apart: four evaluations of the forces. Positions are constrained first; velocities and all that is added
    to them are projected onto the constraints. The motion of the centre of mass is left to the system.

    Parameters
    ----------
    context
        Its integrator's step size counts.
    seed
        >= 0; decides the velocities together with the positions.
    inverse_mass
        Of :func:`inverse_masses`.
    """
    half_step, tolerance = _half_step(context), context.getIntegrator().getConstraintTolerance()
    context.applyConstraints(tolerance)
    positions = _values(context.getState(getPositions=True).getPositions(asNumpy=True))
    kick = half_step * inverse_mass * _forces(context)

    def curvature(velocities: np.ndarray) -> np.ndarray:
        """A times velocities."""
        _place(context, positions + half_step * velocities)
        moved = half_step * inverse_mass * _forces(context)
        _place(context, positions)
        return _constrained(context, kick - moved, tolerance)

    drawn = _constrained(context, maxwell(temperature_kelvin, seed, inverse_mass), tolerance)
    series = SERIES[-1] * drawn
    for coefficient in SERIES[-2::-1]:
        series = coefficient * drawn + curvature(series)
    _constrained(context, drawn - curvature(series) - kick, tolerance)


def inverse_masses(system: openmm.System) -> np.ndarray:
    """1/amu, shape (n_particles, 1); 0 for what does not move by itself."""
    return inverse(np.array([_values(system.getParticleMass(i)) for i in range(system.getNumParticles())]))


def _half_step(context: openmm.Context) -> float:
    """Half a time step, ps."""
    return 0.5 * context.getIntegrator().getStepSize().value_in_unit(unit.picosecond)


def _place(context: openmm.Context, positions: np.ndarray) -> None:
    context.setPositions(positions)
    context.computeVirtualSites()


def _forces(context: openmm.Context) -> np.ndarray:
    """kJ/mol/nm, shape (n_particles, 3)."""
    return _values(context.getState(getForces=True).getForces(asNumpy=True))


def _constrained(context: openmm.Context, velocities: np.ndarray, tolerance: float) -> np.ndarray:
    """Give the context velocities, nm/ps, and return what the constraints leave of them."""
    context.setVelocities(velocities)
    context.applyVelocityConstraints(tolerance)
    return _values(context.getState(getVelocities=True).getVelocities(asNumpy=True))


def _values(quantity: unit.Quantity) -> np.ndarray:
    """Numbers in OpenMM's units."""
    return quantity.value_in_unit_system(unit.md_unit_system)
