"""Whether a molecule is periodic: water needs a box, and a given box is used or rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from openmm import app, unit

from ..errors import InputError
from .force_fields import brings_implicit, force_field
from .residues import count

if TYPE_CHECKING:
    from .molecule_files import MoleculeFiles

#: This many ions may belong to a fold, more of them are a solution; those of one charge rarely belong to a fold.
MAX_IONS, MAX_SALT = 8, 2
#: Of a box without water, g/cm3; crystals and liquids have 0.5 and more.
LEAST_DENSITY = 0.3
#: g/cm3 of one amu/nm3
AMU_PER_NM3 = 1.66054e-3
#: Kinds of topologies whose coordinates say whether there is a box.
BY_BOX = ("CHARMM", "GROMACS", "LAMMPS")


def is_periodic(
    files: MoleculeFiles, kind: str, says: bool | None, topology: app.Topology, box_nm: np.ndarray | None
) -> bool:
    """Whether the molecule of these files is periodic.

    Parameters
    ----------
    kind
        Of the topology file, see :func:`.molecule_files.kind_of`.
    says
        What the topology file itself says; None if it leaves that to the coordinates.
    topology
        Its residues.
    box_nm
        The box of the coordinates, or of the settings in its place; shape (3, 3), nm; None for none.

    Raises
    ------
    InputError
        If there is water and no box, or a box that would not be used, and nobody has asked for that.
    """
    wet = _solution(topology)
    if files.solvent == "explicit":
        return True
    if files.solvent in ("implicit", "vacuum"):
        _check_without_box(files, wet)
        return False
    if says is None:
        says = _by_box(files, kind, wet, box_nm)
    elif box_nm is not None and not says:
        cure = (
            "write it with PME and the box"
            if wet or files.box_nm
            else "set solvent to vacuum to leave the box out, or write the System with PME"
        )
        raise InputError(f"{_given(files, box_nm)} cannot be used, since {files.topology} is not periodic: {cure}")
    by_itself = kind == "OpenMM"  # a System says what it is
    if (
        says
        and not by_itself
        and box_nm is not None
        and not wet
        and (density := _density(topology, box_nm)) < LEAST_DENSITY
    ):
        raise InputError(
            f"{_given(files, box_nm)} is nearly empty ({density:.2f} g/cm3, and no water): add the water, set solvent "
            "to implicit or vacuum to leave the box out, or to explicit to simulate it so (init: --solvent)"
        )
    if wet and not says:
        raise InputError(f"{files.coordinates} has {wet} and no box: {_cure(kind)}")
    return says


def check_implicit(files: MoleculeFiles, periodic: bool) -> None:
    """Raise an InputError if a force field's files bring implicit solvent against the settings, or lack it."""
    implicit = brings_implicit(force_field(files))
    if implicit and (periodic or files.solvent == "vacuum"):
        where = "periodic" if periodic else 'to be in vacuum (solvent = "vacuum")'
        raise InputError(
            f"{files.said_by} brings implicit solvent, and {files.coordinates} is {where}: take the file "
            "of implicit solvent out of force_field"
        )
    if not implicit and files.solvent == "implicit":
        raise InputError(
            f"{files.said_by} has no implicit solvent, and solvent is implicit: add its file to "
            "force_field (amber99_obc.xml, implicit/obc2.xml), or set solvent to vacuum"
        )


def _solution(topology: app.Topology) -> str:
    """Water and ions of a solution in words; empty if there are none."""
    found = count(topology)
    ions = found["ions"] if found["water"] or found["ions"] > MAX_IONS or found["salt"] > MAX_SALT else 0
    parts = [f"{n} {what}" for n, what in ((found["water"], "molecules of water"), (ions, "single ions")) if n]
    return " and ".join(parts)


def _check_without_box(files: MoleculeFiles, wet: str) -> None:
    if files.box_nm is not None:
        raise InputError(
            f'box_nm is set, and solvent = "{files.solvent}" has no box: leave box_nm out, or set solvent to explicit'
        )
    if wet and files.solvent == "implicit":
        raise InputError(
            f"{files.coordinates} has {wet}, which implicit solvent replaces: leave them out of the "
            "files, or set solvent to explicit"
        )


def _by_box(files: MoleculeFiles, kind: str, wet: str, box_nm: np.ndarray | None) -> bool:
    """Whether a molecule is periodic whose topology does not say so.

    A CRYST1 record is a box or a crystal's cell, and a stripped AMBER system may have kept the box of its water.
    """
    if box_nm is None or files.box_nm is not None or kind in BY_BOX or (kind == "AMBER" and wet):
        return box_nm is not None
    if kind == "force field" and brings_implicit(force_field(files)):
        raise InputError(
            f"{_given(files, box_nm)} does not go with the implicit solvent of {files.said_by}: set solvent "
            "to implicit to leave the box out, or to explicit with a force field for water"
        )
    why = "may be a crystal's unit cell" if kind == "force field" else f"is unknown to {files.topology}"
    raise InputError(
        f"{_given(files, box_nm)} {why}: set solvent to explicit to use it, or to implicit or "
        "vacuum to leave it out (init: --solvent)"
    )


def _density(topology: app.Topology, box_nm: np.ndarray) -> float:
    """Density of a box, g/cm3; infinite for particles that are not atoms."""
    elements = [atom.element for atom in topology.atoms()]
    if any(element is None for element in elements):
        return np.inf
    mass = sum(element.mass.value_in_unit(unit.amu) for element in elements)
    return float(mass * AMU_PER_NM3 / np.linalg.det(box_nm))


def _given(files: MoleculeFiles, box_nm: np.ndarray) -> str:
    edges = " x ".join(f"{edge:.2f}" for edge in np.diag(box_nm))
    return f"the box of {'box_nm' if files.box_nm else files.coordinates} ({edges} nm)"


def _cure(kind: str) -> str:
    if kind == "OpenMM":
        return "write the System with PME and its box, or leave the solution out"
    return (
        "set box_nm to its edges (init: --box), give coordinates with a box, or leave the solution out; "
        'solvent = "vacuum" (init: --solvent) simulates a droplet'
    )
