"""Many start structures: a directory, a file of many models, a trajectory, or those of another run.

A run keeps them as one NPZ file: positions, boxes and the atoms' names. Walkers use them in turn.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from openmm import app, unit

from ..errors import InputError
from ..rundir.npz import read_npz
from .coordinates import AMBER_SUFFIXES, box_array, located, read_coordinates
from .emulated.recorded import DCDFrames
from .trusted_files import check_positions, reading

#: Starts of a run, at most: of more frames they are evenly spaced.
MOST = 1000
MODELS = (".pdb", ".ent", ".cif", ".pdbx", ".mmcif")
STRUCTURES = (*MODELS, ".gro", *AMBER_SUFFIXES)


class Start(NamedTuple):
    """One start: positions (n_atoms, 3) nm, box vectors (3, 3) nm or zero, and atoms' names, "" if unknown."""

    positions_nm: np.ndarray
    box_nm: np.ndarray
    names: tuple[str, ...]


def read_starts(path: Path, topology: app.Topology) -> tuple[np.ndarray, np.ndarray]:
    """Positions, nm, shape (n, n_atoms, 3), float32, and boxes, nm, shape (n, 3, 3), zero for none.

    Parameters
    ----------
    path
        A directory of structures, a PDB or mmCIF file of many models, a DCD trajectory, a run directory, or the NPZ
        file of a run.
    topology
        Of the start that all must match.

    Raises
    ------
    InputError
        If nothing can be read there, or a start has other atoms.
    """
    starts = _chosen(path)
    wanted = _names(topology)
    for number, start in enumerate(starts, 1):
        where = f"start {number} of {path} (system.starts)"
        if len(start.positions_nm) != len(wanted):
            raise InputError(
                f"{where} has {len(start.positions_nm)} atoms and system.start has {len(wanted)}: give structures of "
                "the same atoms"
            )
        other = next((i for i, (a, b) in enumerate(zip(start.names, wanted, strict=False)) if a != b), None)
        if other is not None:
            raise InputError(
                f"{where} has {start.names[other]} where system.start has {wanted[other]} (atom {other + 1}): give "
                "structures of the same atoms in the same order"
            )
        if topology.getPeriodicBoxVectors() is not None and not start.box_nm.any():
            raise InputError(f"{where} has no box, and the system is periodic: give structures with their boxes")
    return np.stack([s.positions_nm for s in starts]), np.stack([s.box_nm for s in starts])


def pack(path: Path) -> bytes:
    """The starts that `path` holds as the content of one NPZ file; raises an InputError as :func:`read_starts`."""
    starts = _chosen(path)
    if len({len(s.positions_nm) for s in starts}) > 1:
        raise InputError(f"the starts in {path} (system.starts) have different atoms: give structures of the same ones")
    packed = io.BytesIO()
    np.savez(
        packed,
        positions=np.stack([s.positions_nm for s in starts]),
        box=np.stack([s.box_nm for s in starts]),
        names=np.array([s.names for s in starts if s.names][:1], "U32"),
    )
    return packed.getvalue()


def _chosen(path: Path) -> list[Start]:
    """At most so many starts, evenly spaced; no more of a file is read than its share."""
    files = _files(path)
    files = [files[i] for i in _evenly(len(files), MOST)]
    share = -(-MOST // max(1, len(files)))
    found = [start for file in files for start in _read(file, share)]
    if not found:
        raise InputError(f"system.starts {path} has no structure: give PDB files, a DCD trajectory, or a run directory")
    return [found[i] for i in _evenly(len(found), MOST)]


def _evenly(n: int, most: int) -> list[int]:
    """At most so many of range(n): all, or the middles of as many equal parts.

    The middles, since one frame of each walker must not be its first, which is the same for all.
    """
    n_chosen = min(n, most)
    return [(2 * i + 1) * n // (2 * n_chosen) for i in range(n_chosen)]


def _files(path: Path) -> list[Path]:
    """The files of a directory, of a run directory its trajectories, or the file itself."""
    path = located(path)
    if not path.exists():
        raise InputError(f"system.starts {path} does not exist: correct it")
    if not path.is_dir():
        return [path]
    run = path / "trajectories"
    suffixes = (".dcd",) if run.is_dir() else STRUCTURES
    return sorted(f for f in (run if run.is_dir() else path).iterdir() if f.suffix.lower() in suffixes)


def _read(path: Path, most: int) -> Iterator[Start]:
    """At most so many of the starts in one file, evenly spaced."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        parts = read_npz(path)
        names = tuple(parts["names"][0].tolist()) if len(parts["names"]) else ()
        pairs = list(zip(parts["positions"], parts["box"], strict=True))
        for i in _evenly(len(pairs), most):
            yield Start(*pairs[i], names)
    elif suffix == ".dcd":
        frames = DCDFrames(path)
        for i in _evenly(len(frames), most):
            x = frames[i]
            check_positions(x, path)
            yield Start(x, np.zeros((3, 3)), ())
    elif suffix in MODELS:
        yield from _models(path, most)
    elif suffix in STRUCTURES:
        found = read_coordinates(path)
        yield Start(found.positions_nm.astype(np.float32), _box(found.box_nm), ())
    else:
        raise InputError(
            f"system.starts {path} cannot be read: give a directory of structures, a PDB or mmCIF file, a DCD "
            "trajectory, or a run directory"
        )


def _models(path: Path, most: int) -> Iterator[Start]:
    """At most so many of the models of a PDB or mmCIF file, evenly spaced."""
    first = read_coordinates(path)
    with reading(path, "a PDB or mmCIF file"):
        file = (app.PDBFile if path.suffix.lower() in (".pdb", ".ent") else app.PDBxFile)(str(path))
        models = [file.getPositions(asNumpy=True, frame=i) for i in _evenly(file.getNumFrames(), most)]
    names = _names(file.topology)
    for model in models:
        x = np.asarray(model.value_in_unit(unit.nanometer), np.float32)
        check_positions(x, path)
        yield Start(x, _box(first.box_nm), names)


def _box(box_nm: np.ndarray | None) -> np.ndarray:
    found = np.zeros((3, 3)) if box_nm is None else box_array(box_nm)
    return np.zeros((3, 3)) if found is None else np.asarray(found, float)


def _names(topology: app.Topology) -> tuple[str, ...]:
    return tuple(f"{a.name} of {a.residue.name}" for a in topology.atoms())
