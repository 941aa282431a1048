"""Topologies that one rank has read and built for the others: arrays and XML, which need neither files nor OpenMM.

A rank with emulated walkers needs nothing else, so that it stays small.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from ..errors import EngineError
from ..structure.ligand_pose import LigandPose

if TYPE_CHECKING:
    import openmm

    from .structures import Structures

#: What walkers need of a molecule, as arrays alone or as its files give it.
AnyParticles: TypeAlias = "Particles | Structures"


class State(NamedTuple):
    """One report: positions (n_atoms, 3) nm, velocities (n_atoms, 3) nm/ps, box (3, 3) nm or zero, energy kJ/mol."""

    positions: np.ndarray
    velocities: np.ndarray
    box: np.ndarray
    potential_energy: float


class Reports(NamedTuple):
    """Consecutive reports: as :class:`State`, with an axis of reports before positions, velocities and energies.

    `frames` are the numbers of the frames in the collection that they are drawn from, shape (n_reports,).
    """

    frames: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    box: np.ndarray
    potential_energy: np.ndarray


@dataclass(frozen=True)
class Particles:
    """What walkers need of a molecule; the same attributes as :class:`.structures.Structures`.

    Parameters
    ----------
    positions_nm
        The start, nm, shape (n_atoms, 3), float64.
    descriptor
        Indices of the descriptor atoms, shape (n,).
    target_nm
        Their positions in the target, nm, shape (n, 3).
    molecules
        Index of the molecule of each descriptor atom, shape (n,).
    box_nm
        Box vectors of the start, nm, shape (3, 3), float32; zero for none.
    periodic
        Whether frames have a box.
    masses
        Of each atom, amu, shape (n_atoms,).
    residues
        Index of the residue of each atom, shape (n_atoms,).
    starts
        Positions, nm, shape (n, n_atoms, 3), and boxes, nm, shape (n, 3, 3), of walkers' own starts; None for none.
    """

    positions_nm: np.ndarray
    descriptor: np.ndarray
    target_nm: np.ndarray
    molecules: np.ndarray
    box_nm: np.ndarray
    periodic: bool
    masses: np.ndarray
    residues: np.ndarray
    starts: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.positions_nm)


@dataclass(frozen=True)
class Prepared:
    """One of a run's topologies; the same attributes as :class:`.topologies.Topology`.

    Parameters
    ----------
    index, name
        Of the topology in the run.
    structures
        Its start and its descriptor atoms.
    pose
        The ligand; None for a molecule without one.
    xml
        Its System, serialised; None if nobody simulates it.
    relaxed
        The minimised start by platform, nm, once an engine of this rank has found it.
    """

    index: int
    name: str
    structures: Particles
    pose: LigandPose | None
    xml: str | None
    relaxed: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return self.structures.n_atoms

    @cached_property
    def system(self) -> openmm.System:
        """The System, made once."""
        from .molecule_files import system_of

        if self.xml is None:
            raise EngineError(f"topology {self.name} was prepared without a System, for emulated walkers")
        return system_of(self.xml)

    def for_walkers(self, n_walkers: int) -> Prepared:
        """The same with no starts but those of so many walkers, for which :func:`chosen_start` picks the same ones."""
        starts = self.structures.starts
        if starts is None or len(starts[0]) <= n_walkers:
            return self
        chosen = [chosen_start(walker, n_walkers, len(starts[0])) for walker in range(n_walkers)]
        particles = replace(self.structures, starts=(starts[0][chosen], starts[1][chosen]))
        return replace(self, structures=particles)

    def at_start(self, number: int) -> Prepared:
        """The same with one of its starts as the start; both have one System."""
        if self.structures.starts is None:
            return self
        positions, boxes = (of_starts[number] for of_starts in self.structures.starts)
        box = boxes.astype(np.float32) if self.structures.periodic else self.structures.box_nm
        particles = replace(self.structures, positions_nm=positions.astype(np.float64), box_nm=box, starts=None)
        found = replace(self, structures=particles, relaxed={})
        if self.xml is not None:
            found.__dict__["system"] = self.system
        return found


def chosen_start(walker: int, n_walkers: int, n_starts: int) -> int:
    """The start of a walker: all are used in turn, or evenly spaced ones if there are more of them than walkers."""
    return walker % n_starts if n_starts <= n_walkers else walker * n_starts // n_walkers
