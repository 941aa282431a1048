"""The structure with the lowest RMSD, superposed on the target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..md.coordinates import Coordinates, molecules_in, read_pdb, read_structure, whole, write_pdb
from ..md.selection import select
from ..structure import ANGSTROM_PER_NM
from ..structure.ligand_pose import superposition
from ..structure.periodic import bring_together
from .coordinates import read_piece
from .libraries import needed
from .models import descriptor_indices
from .run import Run

#: Of larger molecules only the descriptor atoms are written: a page is to stay small.
MOST_ATOMS = 6000


@dataclass(frozen=True)
class BestStructure:
    """The frame with the lowest RMSD and the target, both as they were written.

    Parameters
    ----------
    row
        Row of :attr:`.Run.frames`.
    frame, target
        PDB files of the solute and of the target; None without a target.
    descriptor_nm, target_nm
        Positions of the descriptor atoms, shape (n_residues, 3), the frame's superposed on the target's.
    rmsd_angstrom
        Of these from each other; NaN without a target.
    """

    row: int
    frame: Path
    target: Path | None
    descriptor_nm: np.ndarray
    target_nm: np.ndarray | None
    rmsd_angstrom: float


def write_best_structure(run: Run, directory: Path) -> BestStructure:
    """Write ``best.pdb`` and ``target.pdb`` into a directory.

    Raises
    ------
    InputError
        If no frame has an RMSD, no trajectory file has the frame, or the target cannot be read.
    RunDirectoryError
        If the trajectory cannot be read.
    """
    row = run.best
    file = next((f for f in run.trajectories if row is not None and row in f.rows), None)
    if row is None or file is None:
        raise InputError(f"{run.directory} has no trajectory file with the frame of the lowest RMSD")
    with needed("reading trajectories needs MDTraj"):
        import mdtraj
    atoms, _ = read_pdb(file.topology)
    topology = mdtraj.Topology.from_openmm(atoms)
    piece = read_piece(file, int(run.frames["frame_in_file"][row]), 1, topology)
    box = None if piece.unitcell_vectors is None else piece.unitcell_vectors[0].astype(float)
    descriptor = run.setting("system", "descriptor", ["CA"])
    chosen = descriptor_indices(atoms, file.topology, descriptor)
    positions = _together(Coordinates(piece.xyz[0].astype(float), box, atoms), atoms, chosen, box)
    target = _target(run, descriptor, len(chosen), box is not None)
    rmsd = np.nan
    if target is not None:
        rotation, shift = superposition(positions[chosen], target[2])
        positions = positions @ rotation + shift
        rmsd = ANGSTROM_PER_NM * float(np.sqrt(((positions[chosen] - target[2]) ** 2).sum(axis=1).mean()))
        _write(*target[:2], directory / "target.pdb", range(len(target[1])))
    solute = [atom.index for atom in select(atoms, "solute")]
    _write(atoms, positions, directory / "best.pdb", solute if 0 < len(solute) <= MOST_ATOMS else chosen)
    return BestStructure(
        row, directory / "best.pdb", directory / "target.pdb" if target else None, positions[chosen],
        target[2] if target else None, rmsd,
    )  # fmt: skip


def _together(found: Coordinates, atoms: Any, chosen: list[int], box_nm: np.ndarray | None) -> np.ndarray:
    """Positions, nm, with molecules whole, and those of the solute next to each other in a periodic box."""
    positions = whole(found, atoms).copy()
    if box_nm is not None:
        near = sorted({*chosen, *(atom.index for atom in select(atoms, "solute"))})
        positions[near] = bring_together(positions[near], molecules_in(atoms)[near], box_nm)
    return positions


def _target(run: Run, descriptor: Any, n: int, periodic: bool) -> tuple[Any, np.ndarray, np.ndarray] | None:
    """The target's topology, its positions, and those of its descriptor atoms, nm; None if the run names none."""
    named = str(run.setting("system", "target") or "")
    if not named:
        return None
    path = run.directory / named
    found, atoms = read_structure(path)
    atoms.setPeriodicBoxVectors(None)
    chosen = list(range(n)) if len(found.positions_nm) == n else descriptor_indices(atoms, path, descriptor)
    if len(chosen) != n:
        raise InputError(f"{path} has {len(chosen)} descriptor atoms and the frames have {n}: it is another system")
    positions = _together(found, atoms, chosen, found.box_nm if periodic else None)
    return atoms, positions, positions[chosen]


def _write(atoms: Any, positions_nm: np.ndarray, path: Path, kept: Any) -> None:
    import mdtraj

    kept = list(kept)
    part = mdtraj.Topology.from_openmm(atoms).subset(kept).to_openmm()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_pdb(part, positions_nm[kept], path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
