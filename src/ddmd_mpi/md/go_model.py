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
#: Beads from which a neighbour list takes the place of all pairs, and how far it looks: EPSILON/4096 is left there.
NEIGHBOUR_LIST_FROM = 100
REPULSION_CUTOFF = 0.8

ATTRACTION, REPULSION = "(5*x^6-6*x^5)", "x^6"
PAIR_ENERGY = f"{EPSILON}*(native*{ATTRACTION}+(1-native)*{REPULSION}); x=(r0/r)^2"


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
    large = len(target_nm) >= NEIGHBOUR_LIST_FROM
    pairs = (_contacts(target_nm), _repulsion(target_nm)) if large else (_pairs(target_nm),)
    for force in (_bonds(target_nm), _angles(target_nm), _dihedrals(target_nm), *pairs):
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


def native_pairs(x: np.ndarray) -> np.ndarray:
    """Pairs of beads in contact, four or more apart along the chain, shape (n_pairs, 2), ascending."""
    from scipy.spatial import cKDTree

    near = cKDTree(x).query_pairs(CONTACT_CUTOFF, output_type="ndarray")
    apart = near[:, 1] - near[:, 0] >= MIN_SEPARATION
    within = np.linalg.norm(x[near[:, 1]] - x[near[:, 0]], axis=1) < CONTACT_CUTOFF
    return np.unique(near[apart & within], axis=0)


def _contacts(x: np.ndarray) -> openmm.CustomBondForce:
    """Native 12-10 contacts alone."""
    force = openmm.CustomBondForce(f"{EPSILON}*{ATTRACTION}; x=(r0/r)^2")
    force.addPerBondParameter("r0")
    for i, j in native_pairs(x).tolist():
        force.addBond(i, j, [float(np.linalg.norm(x[j] - x[i]))])
    return force


def _repulsion(x: np.ndarray) -> openmm.CustomNonbondedForce:
    """Repulsion of all other pairs, by a neighbour list."""
    force = openmm.CustomNonbondedForce(f"{EPSILON}*{REPULSION}; x=({BEAD_DIAMETER}/r)^2")
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffNonPeriodic)
    force.setCutoffDistance(REPULSION_CUTOFF)
    for _ in x:
        force.addParticle([])
    for i in range(len(x)):
        for j in range(i + 1, min(i + MIN_SEPARATION, len(x))):
            force.addExclusion(i, j)
    for i, j in native_pairs(x).tolist():
        force.addExclusion(i, j)
    return force
