"""Proves from the trajectories that the routes of ``ddmd-mpi lineage`` are continuous, by arithmetic of its own."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import mdtraj
import numpy as np
from click.testing import CliRunner

from ddmd_mpi.cli.commands import cli

#: A join by RMSD without superposition, angstrom: the restart point repeats its source, but for the file's rounding.
JOIN_ANGSTROM = 0.05
#: A stitched frame in the file's own precision, nm.
SAME_NM = 2e-3
#: Consecutive frames of a route differ by at most this factor more than any that dynamics alone connects.
SLACK = 1.5


class Files:
    """Frames of a run by walker and number, straight from its files."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.rows = {
            int(path.name[4:8]): _rows(path) for path in sorted((directory / "trajectories").glob("*.frames.csv"))
        }

    @cache  # noqa: B019  # one object a test
    def loaded(self, walker: int, topology: str) -> mdtraj.Trajectory:
        """One trajectory file of a walker; `topology` is empty if there is only one."""
        stem = f"sim-{walker:04d}{f'.{topology}' if topology else ''}"
        path = next(p for s in ("dcd", "xtc") if (p := self.directory / "trajectories" / f"{stem}.{s}").exists())
        return mdtraj.load(path, top=next((self.directory / "topology").glob(f"{topology or '*'}.pdb")))

    def positions(self, walker: int, frame: int) -> np.ndarray:
        """Positions of one frame, shape (n_atoms, 3), nm."""
        row = self.rows[walker][frame]
        return self.loaded(walker, row.get("topology", "")).xyz[int(row.get("frame_in_file", frame))]


def check_routes(directory: Path, output: Path, *, n_routes: int = 4) -> int:
    """Write the routes to the last frames of some walkers and check each; how many joins they have."""
    files = Files(directory)
    md = _largest_steps(files)
    n_joins = 0
    for walker in sorted(files.rows, key=lambda w: -len({r["segment"] for r in files.rows[w]}))[:n_routes]:
        last = files.rows[walker][-1]
        name = f"{walker}:{last['segment']}:{last['frame']}"
        shown = CliRunner().invoke(
            cli, ["lineage", str(directory), "--frame", name, "--output", str(output)], catch_exceptions=False
        )
        assert "from the start structure" in shown.output
        assert "not continuous" not in shown.output
        assert "no trajectory" not in shown.output, shown.output
        stem = output / f"walker-{walker:04d}-frame-{int(last['frame']):06d}"
        n_joins += _check_route(files, stem, md)
    return n_joins


def _check_route(files: Files, stem: Path, md: dict[str, float]) -> int:
    """Check one route against the files of the walkers."""
    table = _rows(stem.with_suffix(".csv"))
    written = next(p for s in (".dcd", ".xtc") if (p := stem.with_suffix(s)).exists())
    route = mdtraj.load(written, top=stem.with_suffix(".pdb"))
    assert route.n_frames == len(table)
    frames = [(int(row["walker"]), int(row["frame"])) for row in table]
    for i, (walker, frame) in enumerate(frames):
        np.testing.assert_allclose(route.xyz[i], files.positions(walker, frame), atol=SAME_NM)
    steps = _steps(_protein(route))
    n_joins = 0
    for ((walker, frame), (before, earlier)), step in zip(zip(frames[1:], frames, strict=False), steps, strict=True):
        # Either the walker's next frame, or the one after a restart point that repeats the frame before.
        if (before, earlier) != (walker, frame - 1):
            apart = files.positions(walker, frame - 1) - files.positions(before, earlier)
            assert 10 * np.sqrt((apart**2).sum(axis=1).mean()) <= JOIN_ANGSTROM, (walker, frame, before, earlier)
            n_joins += 1
        assert step <= SLACK * md[files.rows[walker][frame].get("topology", "")], (walker, frame, before, earlier)
    return n_joins


def _largest_steps(files: Files) -> dict[str, float]:
    """The largest RMSD in nm between consecutive frames of a segment, by topology."""
    largest: dict[str, float] = {}
    for walker, rows in files.rows.items():
        for topology in {row.get("topology", "") for row in rows}:
            own = [row for row in rows if row.get("topology", "") == topology]
            steps = _steps(_protein(files.loaded(walker, topology))[: len(own)])
            same = [a["segment"] == b["segment"] for a, b in zip(own, own[1:], strict=False)]
            largest[topology] = max(largest.get(topology, 0.0), steps[same].max(initial=0.0))
    return largest


def _protein(trajectory: mdtraj.Trajectory) -> np.ndarray:
    """Positions of the protein, or of all atoms if there is none, nm."""
    chosen = trajectory.topology.select("protein")
    return trajectory.xyz[:, chosen] if len(chosen) else trajectory.xyz


def _steps(xyz: np.ndarray) -> np.ndarray:
    """RMSD of each frame to the one before, superposed (W. Kabsch, Acta Cryst. A 32, 922 (1976)), nm."""
    x = xyz.astype(float) - xyz.mean(axis=1, keepdims=True)
    a, b = x[:-1], x[1:]
    u, singular, v = np.linalg.svd(np.einsum("nai,naj->nij", a, b))
    singular[:, 2] *= np.sign(np.linalg.det(u) * np.linalg.det(v))
    squares = (a**2 + b**2).sum(axis=(1, 2)) - 2 * singular.sum(axis=1)
    return np.sqrt(np.maximum(squares, 0) / xyz.shape[1])


def _rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of a table."""
    return list(csv.DictReader(path.read_text().rpartition("\n")[0].splitlines()))
