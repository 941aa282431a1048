"""OpenMM force fields of a molecule's files."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from openmm import app

from .trusted_files import explaining, load_force_field

if TYPE_CHECKING:
    from .molecule_files import MoleculeFiles

#: In the names of OpenMM's readers of implicit solvent.
IMPLICIT_READERS = ("GBSAOBC", "CustomGB", "GeneralizedKirkwood")


def force_field(files: MoleculeFiles) -> app.ForceField:
    """The force field of a molecule's files.

    Raises
    ------
    InputError
        If one of them cannot be read.
    """
    with explaining(lambda reason: f"{files.said_by} is not a force field that OpenMM can read: {reason}"):
        return _read_force_field(files.force_field)


@lru_cache(maxsize=4)
def _read_force_field(names: tuple[str, ...]) -> app.ForceField:
    """Read once for all molecules of a run."""
    return load_force_field(names)


def brings_implicit(field: app.ForceField) -> bool:
    """Whether a force field's own files bring implicit solvent."""
    return any(name in type(reader).__name__ for reader in field.getGenerators() for name in IMPLICIT_READERS)
