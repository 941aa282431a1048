"""The features of a frame, which travel instead of coordinates: RMSD, order parameters, rounded positions, contacts."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from ..config.dynamics import FeaturesSection, OrderParameter
from ..errors import ConfigError
from . import ANGSTROM_PER_NM
from .contacts import contact_csr, round_positions
from .ligand_pose import LigandPose
from .order_parameters import FUNCTIONS, centre_distance, contacts
from .own_coordinate import OwnCoordinate
from .periodic import bring_together
from .rmsd import superposed_rmsd


class Features(TypedDict):
    """What is computed of one frame, by the names of the table of frames."""

    rmsd: float  # angstrom
    order_parameters: np.ndarray
    ca_positions: np.ndarray
    contact_counts: np.ndarray
    contact_columns: np.ndarray


class FeatureCalculator:
    """Features of frames of one topology.

    Parameters
    ----------
    target_nm
        Descriptor atoms of the target, nm, shape (n, 3).
    features
        The contact cutoff and the declared order parameters.
    molecules
        Index of the molecule of each descriptor atom, shape (n,): a box may part different ones. None for one molecule.
    pose
        The ligand, for order parameters of ligands.

    Raises
    ------
    ConfigError
        If an order parameter names residues that it cannot use, a ligand although there is none, or a function that
        cannot be had or fails on the target.
    """

    def __init__(
        self,
        target_nm: np.ndarray,
        features: FeaturesSection,
        molecules: np.ndarray | None = None,
        pose: LigandPose | None = None,
    ):
        self.molecules = molecules
        self.target_nm = np.ascontiguousarray(target_nm, np.float64)
        self.cutoff_angstrom = features.cutoff_angstrom
        for parameter in features.order_parameters:
            _check_residues(parameter, len(target_nm))
            if parameter.kind.startswith("ligand_") and pose is None:
                raise ConfigError(f"order parameter {parameter.name}: there is no ligand, leave it out")
        self._parameters, self._pose = features.order_parameters, pose
        self._own = {p.name: OwnCoordinate(p.name, p.function) for p in self._parameters if p.function is not None}
        for own in self._own.values():
            own.check(self.target_nm)
        self._ligand_cutoff_nm = features.ligand_cutoff_angstrom / ANGSTROM_PER_NM

    def compute(
        self,
        descriptor_positions_nm: np.ndarray,
        box_nm: np.ndarray | None = None,
        positions_nm: np.ndarray | None = None,
    ) -> Features:
        """Features of one frame, by the names of the table of frames.

        Parameters
        ----------
        descriptor_positions_nm
            Positions of the descriptor atoms, nm, shape (n, 3).
        box_nm
            Box vectors, nm, shape (3, 3); None or zero for none.
        positions_nm
            Positions of all atoms: order parameters of ligands need them.

        Raises
        ------
        ValueError
            If a position is not finite or lies too far out to be rounded, or a function of the user's own fails.
        """
        x = descriptor_positions_nm.astype(np.float64)
        if box_nm is not None and self.molecules is not None:
            x = bring_together(x, self.molecules, box_nm)
        rounded = round_positions(x)
        counts, columns = contact_csr(rounded, self.cutoff_angstrom)
        return {
            "rmsd": ANGSTROM_PER_NM * float(superposed_rmsd(x, self.target_nm)),
            "order_parameters": np.array(
                [self._order_parameter(p, x, positions_nm, box_nm) for p in self._parameters], np.float32
            ),
            "ca_positions": rounded,
            "contact_counts": counts,
            "contact_columns": columns,
        }

    def _order_parameter(
        self, parameter: OrderParameter, x: np.ndarray, positions_nm: np.ndarray | None, box_nm: np.ndarray | None
    ) -> float:
        if parameter.name in self._own:
            return self._own[parameter.name].value(x, self.target_nm)
        if parameter.partners:
            groups = x[parameter.residues], x[parameter.partners]
            if parameter.kind == "centre_distance":
                return centre_distance(*groups)
            return contacts(*groups, self.cutoff_angstrom / ANGSTROM_PER_NM)
        if parameter.kind in FUNCTIONS:
            return FUNCTIONS[parameter.kind](x, self.target_nm, tuple(parameter.residues))
        if self._pose is None or positions_nm is None or box_nm is None:
            raise ValueError(f"order parameter {parameter.name} needs the positions of all atoms and the box")
        if parameter.kind == "ligand_contacts":
            return self._pose.contacts(positions_nm, box_nm, self._ligand_cutoff_nm)
        return self._pose.rmsd(positions_nm, box_nm)


class FeatureTable(FeatureCalculator):
    """Features of an engine that shows frames of a collection again and again: each is computed once."""

    def __init__(
        self,
        target_nm: np.ndarray,
        features: FeaturesSection,
        molecules: np.ndarray | None = None,
        pose: LigandPose | None = None,
    ):
        super().__init__(target_nm, features, molecules, pose)
        n_residues, n_parameters = len(target_nm), len(features.order_parameters)
        self._known = np.zeros(0, bool)
        self._contact_columns: list[np.ndarray] = []
        self._columns: dict[str, np.ndarray] = {
            "rmsd": np.empty(0, np.float32),
            "order_parameters": np.empty((0, n_parameters), np.float32),
            "ca_positions": np.empty((0, n_residues, 3), np.int16),
            "contact_counts": np.empty((0, n_residues), np.uint16),
        }

    def learn(self, frames: np.ndarray, positions_nm: np.ndarray, descriptor: np.ndarray, box_nm: np.ndarray) -> None:
        """Compute the features of those frames that are new.

        Parameters
        ----------
        frames
            Their numbers in the collection, shape (n_frames,).
        positions_nm
            Of all atoms, nm, shape (n_frames, n_atoms, 3).
        descriptor
            Indices of the descriptor atoms.
        box_nm
            Of all of them.

        Raises
        ------
        ValueError
            See :meth:`FeatureCalculator.compute`.
        """
        self._make_room(int(frames.max()) + 1)
        for i in np.flatnonzero(~self._known[frames]):
            number = int(frames[i])
            if not self._known[number]:
                found = self.compute(positions_nm[i, descriptor], box_nm, positions_nm[i])
                self._contact_columns[number] = found["contact_columns"]
                for name, column in self._columns.items():
                    column[number] = found[name]  # type: ignore[literal-required]
                self._known[number] = True

    def columns(self, frames: np.ndarray, *names: str) -> dict[str, np.ndarray]:
        """Features of frames that are known, as columns of a block of frames: these, or all."""
        if names:
            return {name: self._columns[name][frames] for name in names}
        contacts = np.concatenate([self._contact_columns[number] for number in frames.tolist()])
        return {**self.columns(frames, *self._columns), "contact_columns": contacts}

    def _make_room(self, n_frames: int) -> None:
        """For frames with numbers below `n_frames`."""
        more = max(n_frames, 2 * len(self._known)) - len(self._known)
        if n_frames > len(self._known):
            self._known = np.concatenate([self._known, np.zeros(more, bool)])
            self._contact_columns += [np.empty(0, np.uint16)] * more
            for name, column in self._columns.items():
                self._columns[name] = np.concatenate([column, np.empty((more, *column.shape[1:]), column.dtype)])


def _check_residues(parameter: OrderParameter, n_residues: int) -> None:
    """Raise a ConfigError if the order parameter cannot use its residues."""
    if parameter.kind == "distance" and len(parameter.residues) != 2:
        raise ConfigError(f"order parameter {parameter.name}: distance needs two residues (got {parameter.residues})")
    if parameter.kind == "dihedral" and len(parameter.residues) != 4:
        raise ConfigError(f"order parameter {parameter.name}: dihedral needs four residues (got {parameter.residues})")
    outside = [r for r in (*parameter.residues, *parameter.partners) if r >= n_residues]
    if outside:
        raise ConfigError(
            f"order parameter {parameter.name}: residue {outside[0]} does not exist, use 0 to {n_residues - 1}"
        )
