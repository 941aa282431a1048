"""What travels of a frame in place of its coordinates: RMSD, order parameters, rounded positions, contacts."""

from __future__ import annotations

import numpy as np

from ..errors import ConfigError
from ..sections import FeaturesSection, OrderParameter
from .contacts import contact_csr, round_positions
from .order_parameters import FUNCTIONS
from .periodic import bring_together
from .rmsd import superposed_rmsd

ANGSTROM_PER_NM = 10.0


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

    Raises
    ------
    ConfigError
        If an order parameter names residues that it cannot use.
    """

    def __init__(self, target_nm: np.ndarray, features: FeaturesSection, molecules: np.ndarray | None = None):
        self.molecules = molecules
        self.target_nm = np.ascontiguousarray(target_nm, np.float64)
        self.cutoff_angstrom = features.cutoff_angstrom
        for parameter in features.order_parameters:
            _check_residues(parameter, len(target_nm))
        self._functions = [(FUNCTIONS[p.kind], tuple(p.residues)) for p in features.order_parameters]

    def compute(
        self, descriptor_positions_nm: np.ndarray, box_nm: np.ndarray | None = None
    ) -> dict[str, np.ndarray | float]:
        """Features of one frame, by the names of the table of frames.

        Parameters
        ----------
        descriptor_positions_nm
            Positions of the descriptor atoms, nm, shape (n, 3).
        box_nm
            Box vectors, nm, shape (3, 3); None or zero for none.

        Raises
        ------
        ValueError
            If a position is not finite or lies too far out to be rounded.
        """
        x = descriptor_positions_nm.astype(np.float64)
        if box_nm is not None and self.molecules is not None:
            x = bring_together(x, self.molecules, box_nm)
        rounded = round_positions(x)
        counts, columns = contact_csr(rounded, self.cutoff_angstrom)
        return {
            "rmsd": ANGSTROM_PER_NM * superposed_rmsd(x, self.target_nm),
            "order_parameters": np.array([f(x, self.target_nm, r) for f, r in self._functions], np.float32),
            "ca_positions": rounded,
            "contact_counts": counts,
            "contact_columns": columns,
        }


def _check_residues(parameter: OrderParameter, n_residues: int) -> None:
    """Raise a ConfigError if the order parameter cannot use its residues."""
    if parameter.kind == "distance" and len(parameter.residues) != 2:
        raise ConfigError(f"order parameter {parameter.name}: distance needs two residues (got {parameter.residues})")
    outside = [r for r in parameter.residues if r >= n_residues]
    if outside:
        raise ConfigError(
            f"order parameter {parameter.name}: residue {outside[0]} does not exist, use 0 to {n_residues - 1}"
        )
