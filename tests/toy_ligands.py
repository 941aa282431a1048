"""Ligands of one receptor whose ranking is known: a dish of beads, and one strength of attraction per ligand.

The receptor is an elastic network of beads, a dish, with a floppy arm that gives its contact map something to show. The
dish attracts one bead of the ligand, its head. The arm and the ligand's other beads touch nothing: they change the
topology, not the binding, so that for any number of beads the mean of -(attraction / strength) rises with the strength
(its derivative is a variance). This tests what is done with many topologies, not any molecule's biophysics.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import openmm
from openmm import app

# Lengths in nm, energies in kJ/mol, masses in amu.
DISH_BEADS, ARM_BEADS = 12, 12
RECEPTOR_BEADS = DISH_BEADS + ARM_BEADS
MASS = 100.0
DISH_RADIUS, DISH_DEPTH = 0.6, 0.3
NETWORK_CUTOFF, NETWORK = 0.75, 5_000.0
BOND_LENGTH, BOND = 0.38, 10_000.0
BEND_LENGTH, BEND = 0.6, 500.0
CONTACT_LENGTH = 0.5
CONTACT_CUTOFF = 0.65  # what counts as a contact: the attraction has fallen to a fifth
START_HEIGHT = 0.4
CONFINEMENT_RADIUS, CONFINEMENT = 1.2, 100.0

ATTRACTION = f"strength*(5*x^6-6*x^5); x=({CONTACT_LENGTH}/r)^2"
CONFINED = f"0.5*{CONFINEMENT}*max(0,r-{CONFINEMENT_RADIUS})^2"


class ToyComplex(NamedTuple):
    """Topology, positions (n, 3) nm and System of receptor (chain A) and ligand (chain L); the receptor comes first."""

    topology: app.Topology
    positions_nm: np.ndarray
    system: openmm.System


def toy_complex(strength: float, n_beads: int = 1) -> ToyComplex:
    """The receptor with a ligand that is near, and not bound.

    At 300 K ligands are mostly unbound below a strength of 1.5 kJ/mol and mostly bound above 3.

    Parameters
    ----------
    strength
        Depth of the attraction between the ligand's head and each bead of the dish, kJ/mol.
    n_beads
        Beads of the ligand, >= 1. Its head is a carbon, the inert ones are hydrogens: heavy atoms are what binds.
    """
    receptor = receptor_positions()
    heights = START_HEIGHT + BOND_LENGTH * np.arange(n_beads)
    ligand = np.outer(heights, [0.0, 0.0, 1.0])
    system = openmm.System()
    for _ in range(RECEPTOR_BEADS + n_beads):
        system.addParticle(MASS)
    for force in (_bonds(receptor, n_beads), _attraction(strength), _confinement()):
        system.addForce(force)
    return ToyComplex(_topology(n_beads), np.vstack([receptor, ligand]), system)


def receptor_positions() -> np.ndarray:
    """The receptor at rest, nm, shape (RECEPTOR_BEADS, 3).

    The dish is a spiral of equal areas on a sphere around the origin, from its bottom, bead 0, up to its rim; the arm
    leaves the rim in a zigzag away from it.
    """
    z = -DISH_RADIUS + DISH_DEPTH * (np.arange(DISH_BEADS) + 0.5) / DISH_BEADS
    turn = np.pi * (1.0 + np.sqrt(5.0)) * np.arange(DISH_BEADS)
    width = np.sqrt(DISH_RADIUS**2 - z**2)
    dish = np.stack([width * np.cos(turn), width * np.sin(turn), z], axis=1)
    outward = dish[-1] * [1.0, 1.0, 0.0] / width[-1]
    steps = np.arange(1, ARM_BEADS + 1)[:, None]
    rise = np.sqrt(BOND_LENGTH**2 - (0.5 * BEND_LENGTH) ** 2)
    arm = dish[-1] + 0.5 * BEND_LENGTH * steps * outward + rise * (steps % 2) * [0.0, 0.0, -1.0]
    return np.vstack([dish, arm])


def _bonds(receptor: np.ndarray, n_beads: int) -> openmm.HarmonicBondForce:
    """The dish's elastic network, the arm with its stiffness, and the ligand's chain."""
    force = openmm.HarmonicBondForce()
    for i, j in zip(*np.triu_indices(DISH_BEADS, 1), strict=True):
        distance = float(np.linalg.norm(receptor[j] - receptor[i]))
        if distance < NETWORK_CUTOFF:
            force.addBond(int(i), int(j), distance, NETWORK)
    for i in range(DISH_BEADS - 1, RECEPTOR_BEADS - 1):
        force.addBond(i, i + 1, BOND_LENGTH, BOND)
    for i in range(DISH_BEADS - 1, RECEPTOR_BEADS - 2):
        force.addBond(i, i + 2, BEND_LENGTH, BEND)
    for i in range(RECEPTOR_BEADS, RECEPTOR_BEADS + n_beads - 1):
        force.addBond(i, i + 1, BOND_LENGTH, BOND)
    return force


def _attraction(strength: float) -> openmm.CustomBondForce:
    """A 12-10 contact of the head with each bead of the dish."""
    force = openmm.CustomBondForce(ATTRACTION)
    force.addGlobalParameter("strength", strength)
    for i in range(DISH_BEADS):
        force.addBond(i, RECEPTOR_BEADS)
    return force


def _confinement() -> openmm.CustomBondForce:
    """Flat up to its radius: keeps the head near the bottom of the dish."""
    force = openmm.CustomBondForce(CONFINED)
    force.addBond(0, RECEPTOR_BEADS)
    return force


def _topology(n_beads: int) -> app.Topology:
    topology = app.Topology()
    carbon, hydrogen = (app.Element.getBySymbol(symbol) for symbol in "CH")
    receptor, chain = topology.addChain("A"), topology.addChain("L")
    for i in range(RECEPTOR_BEADS):
        topology.addAtom("CA", carbon, topology.addResidue("ALA", receptor, str(i + 1)))
    residue = topology.addResidue("LIG", chain, "1")
    beads = [topology.addAtom("C1", carbon, residue)]
    for i in range(1, n_beads):
        beads.append(topology.addAtom(f"H{i}", hydrogen, residue))
        topology.addBond(beads[i - 1], beads[i])
    return topology
