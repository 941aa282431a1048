"""A structure-based (Go) model of one bead per residue: the target's own geometry is its energy minimum."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import openmm

# C. Clementi, H. Nymeyer, J. N. Onuchic, J. Mol. Biol. 298, 937 (2000), doi:10.1006/jmbi.2000.3693: strengths in units
# of the contact energy, lengths in nm; contacts and repulsion act between beads four or more apart along the chain.
EPSILON = 2.9  # kJ/mol: 1.16 kT at 300 K, where BBA folds now and then by itself
BOND, ANGLE, DIHEDRAL_1, DIHEDRAL_3 = 20_000.0 * EPSILON, 40.0 * EPSILON, 1.0 * EPSILON, 0.5 * EPSILON
MASS = 100.0  # amu
BEAD_DIAMETER = 0.4
CONTACT_CUTOFF = 0.8
MIN_SEPARATION = 4

PAIR_ENERGY = f"{EPSILON}*(native*(5*x^6-6*x^5)+(1-native)*x^6); x=(r0/r)^2"


def go_system(target_nm: np.ndarray) -> openmm.System:
    """System of one bead per row of the target.

    Parameters
    ----------
    target_nm
        Bead positions of the native structure, nm, shape (n, 3), in the order of one chain.
    """
    system = openmm.System()
    for _ in target_nm:
        system.addParticle(MASS)
    for force in (_bonds(target_nm), _angles(target_nm), _dihedrals(target_nm), _pairs(target_nm)):
        system.addForce(force)
    return system


def _bonds(x: np.ndarray) -> openmm.HarmonicBondForce:
    force = openmm.HarmonicBondForce()
    for i in range(len(x) - 1):
        force.addBond(i, i + 1, float(np.linalg.norm(x[i + 1] - x[i])), BOND)
    return force


def _angles(x: np.ndarray) -> openmm.HarmonicAngleForce:
    force = openmm.HarmonicAngleForce()
    for i in range(len(x) - 2):
        a, b = x[i] - x[i + 1], x[i + 2] - x[i + 1]
        force.addAngle(i, i + 1, i + 2, math.acos(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))), ANGLE)
    return force


def _dihedrals(x: np.ndarray) -> openmm.PeriodicTorsionForce:
    """Energy k (1 + cos(n phi - phase)), minimal at the native phi: phase = n phi0 - pi."""
    force = openmm.PeriodicTorsionForce()
    for i in range(len(x) - 3):
        phi = dihedral(x[i : i + 4])
        force.addTorsion(i, i + 1, i + 2, i + 3, 1, phi - math.pi, DIHEDRAL_1)
        force.addTorsion(i, i + 1, i + 2, i + 3, 3, 3 * phi - math.pi, DIHEDRAL_3)
    return force


def dihedral(x: np.ndarray) -> float:
    """Dihedral angle of four points, radian, IUPAC sign, shape (4, 3)."""
    b0, b1, b2 = np.diff(x, axis=0)
    n0, n1 = np.cross(b0, b1), np.cross(b1, b2)
    return math.atan2(np.linalg.norm(b1) * (b0 @ n1), n0 @ n1)


def _pairs(x: np.ndarray) -> openmm.CustomBondForce:
    """Native 12-10 contacts and repulsion in one force over all pairs: the fastest way for some tens of beads."""
    force = openmm.CustomBondForce(PAIR_ENERGY)
    force.addPerBondParameter("native")
    force.addPerBondParameter("r0")
    for i, j in combinations(range(len(x)), 2):
        if j - i >= MIN_SEPARATION:
            distance = float(np.linalg.norm(x[j] - x[i]))
            native = distance < CONTACT_CUTOFF
            force.addBond(i, j, [float(native), distance if native else BEAD_DIAMETER])
    return force
