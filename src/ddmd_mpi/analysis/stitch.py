"""One continuous trajectory of a route, from the pieces of its walkers' files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, RunDirectoryError
from ..md.coordinate_files import CoordinateFile, DCDFile, XTCFile
from ..md.coordinates import read_pdb, write_pdb
from ..md.selection import select
from ..structure import ANGSTROM_PER_NM
from .coordinates import TrajectoryFile, read_piece
from .libraries import needed
from .models import ATOMS_AT_A_TIME, descriptor_indices
from .records import Record, table
from .routes import Route
from .run import Run

#: A restart point is written as its source was: they differ by no more than the rounding of an XTC file.
MAX_JOIN_ANGSTROM = 0.05


@dataclass(frozen=True)
class Stitched:
    """What was written of a route.

    Parameters
    ----------
    trajectory, topology
        The frames, and the PDB file of their atoms, which has the positions of the last frame.
    n_joins
        Restart points that were compared with their source frame.
    worst_join
        The largest RMSD of a restart point from its source frame, angstrom, without superposition.
    """

    trajectory: Path
    topology: Path
    n_joins: int
    worst_join: float


def stitch(
    run: Run, route: Route, stem: Path, *, suffix: str = "", superpose: bool = False, solute: bool = False
) -> Stitched:
    """Write the frames of a route as one trajectory, ``STEM.dcd`` or ``STEM.xtc``, and ``STEM.pdb``.

    Parameters
    ----------
    stem
        Path of the files without suffix; files of this name are replaced.
    suffix
        ``dcd`` or ``xtc``; that of the run's trajectories by default.
    superpose
        Whether to superpose the descriptor atoms of every frame on those of the last one; no box is written then.
    solute
        Whether to leave out water and ions.

    Raises
    ------
    InputError
        If MDTraj is not installed, or a file cannot be written.
    RunDirectoryError
        If a trajectory lacks frames, or the route goes through several topologies.
    """
    with needed("reading trajectories needs MDTraj"):
        import mdtraj
    files = [_file_of(run, row) for row in route.rows[[0, -1]]]
    if files[0].topology != files[1].topology:
        raise RunDirectoryError(
            f"the route goes from the topology {files[0].topology.stem} to {files[1].topology.stem}: "
            "the records of the run contradict each other"
        )
    atoms, _ = read_pdb(files[1].topology)
    topology = mdtraj.Topology.from_openmm(atoms)
    kept = [atom.index for atom in select(atoms, "solute")] if solute else list(range(topology.n_atoms))
    if not kept:
        raise InputError(f"{files[1].topology} has water and ions only: omit --solute")
    fitted = descriptor_indices(atoms, files[1].topology, _descriptor(run)) if superpose else None
    last = _read(run, route.rows[-1:], topology)
    written = stem.with_suffix(f".{suffix or files[1].path.suffix[1:]}")
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        written.unlink(missing_ok=True)
        kept_atoms = topology.subset(kept).to_openmm()
        write_pdb(kept_atoms, last.xyz[0, kept].astype(float), stem.with_suffix(".pdb"))
        periodic = last.unitcell_vectors is not None and fitted is None
        file = _create(written, len(kept), run.report_ps, periodic)
        try:
            for frame, time_ps in zip(_frames(run, route, topology), route.time_ps, strict=True):
                placed = frame.superpose(last, 0, fitted) if fitted is not None else frame
                box = placed.unitcell_vectors[0].astype(float) if periodic else None
                file.write(placed.xyz[0, kept].astype(float), box, float(time_ps))
        finally:
            file.close()
    except OSError as error:
        raise InputError(f"{stem}.* cannot be written: {error.strerror}") from error
    joins = [_join(run, piece.segment, topology) for piece in route.pieces if _is_join(run, piece.segment)]
    return Stitched(written, stem.with_suffix(".pdb"), len(joins), max(joins, default=0.0))


def _create(path: Path, n_atoms: int, report_ps: float, periodic: bool) -> CoordinateFile:
    step_ps = report_ps if report_ps > 0 else 1.0
    return XTCFile(path, n_atoms, step_ps) if path.suffix == ".xtc" else DCDFile(path, n_atoms, 1, step_ps, periodic)


def _descriptor(run: Run) -> Any:
    return run.setting("system", "descriptor", ["CA"])


def _file_of(run: Run, row: int) -> TrajectoryFile:
    """The file that has a frame."""
    walker, name = run.frames["walker"][row], run.frames["topology"][row]
    own = [file for file in run.trajectories if file.walker == walker and row in file.rows]
    if not own:
        raise RunDirectoryError(
            f"{run.directory} lacks the trajectory of walker {walker}, or topology/{name or 'NAME'}.pdb: restore it"
        )
    return own[0]


def _frames(run: Run, route: Route, topology: Any) -> Iterator[Any]:
    """The frames of a route, each as a trajectory of one frame; some are read at a time."""
    most = max(1, ATOMS_AT_A_TIME // topology.n_atoms)
    for piece in route.pieces:
        for begin in range(0, len(piece.rows), most):
            yield from _read(run, piece.rows[begin : begin + most], topology)


def _read(run: Run, rows: np.ndarray, topology: Any) -> Any:
    """Consecutive rows of one segment."""
    return read_piece(_file_of(run, rows[0]), int(run.frames["frame_in_file"][rows[0]]), len(rows), topology)


def _is_join(run: Run, segment: Any) -> bool:
    parent = segment.parent
    return segment.restart_point and parent is not None and run.row(parent.walker, parent.frame) is not None


def _join(run: Run, segment: Any, topology: Any) -> float:
    """RMSD of a restart point from its source frame, angstrom."""
    rows = run.row(segment.walker, segment.first_frame), run.row(segment.parent.walker, segment.parent.frame)
    if None in rows:
        return np.inf
    first, source = (_read(run, np.array([row]), topology).xyz[0].astype(float) for row in rows)
    return ANGSTROM_PER_NM * float(np.sqrt(((first - source) ** 2).sum(axis=1).mean()))


def route_table(run: Run, route: Route) -> list[Record]:
    """One row per frame of a route: where it is, its time along the route, its columns, and the decision before it."""
    decisions = {d["decision"]: d for d in run.decisions}
    begins = {int(p.rows[0]): p.segment for p in route.pieces if len(p.rows) and p.segment.restarted}
    columns = ("rmsd_angstrom", *run.parameters)
    rows = []
    for i, (row, time_ps) in enumerate(zip(route.rows.tolist(), route.time_ps.tolist(), strict=True)):
        frame, segment = run.frames[row], begins.get(row)
        decision = decisions.get(segment.decision, {}) if segment else {}
        rows.append({
            "row": i,
            "route_ps": round(time_ps, 6),
            **{name: frame[name].item() for name in ("walker", "segment", "frame")},
            **{name: frame[name].item() for name in columns},
            "decision": segment.decision if segment else None,
            "strategy": decision.get("strategy"),
            "model_version": decision.get("model_version"),
            "score": table(decision.get("source")).get("score"),
        })  # fmt: skip
    return rows


def write_table(path: Path, rows: list[Record]) -> None:
    """Write rows of the same keys as a CSV file.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
