"""Proves from the files of a run directory that nothing which was promised is lost, and nothing is there twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path

import h5py
import numpy as np

from ddmd_mpi.analysis import open_run
from ddmd_mpi.md.trajectory_repair import coordinate_ends
from ddmd_mpi.monitor.summary import record_of
from ddmd_mpi.rundir.checkpoints import Store
from ddmd_mpi.streams.archive import read_archive

SUFFIXES = (".dcd", ".xtc")


def problems(directory: Path, *, ended: bool = True, lost: Container[int] = ()) -> list[str]:
    """Sentences about what is wrong in a run directory, none if all is well.

    Parameters
    ----------
    ended
        Whether the last session came to its end; else the summary is older than the records, lines may be torn, and
        decisions under way.
    lost
        Walkers that were lost with their rank, whose files may be torn and whose last counts nobody has heard.
    """
    directory = Path(directory)
    found = [*open_run(directory).contradictions(), *decisions(directory, ended), *archived(directory)]
    if ended:
        found += [*frames(directory, lost), *totals(directory, bool(lost))]
    if ended and not lost:
        found += checkpoints(directory)
    return found


def lines(path: Path) -> list[dict]:
    """The whole lines of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def written(directory: Path) -> dict[int, np.ndarray]:
    """Rows of the index of every walker: frame, segment, time in ps, RMSD in angstrom."""
    return {
        int(path.name[4:8]): np.loadtxt(
            path.read_text().split("\n")[1:-1], delimiter=",", usecols=range(4), ndmin=2
        ).reshape(-1, 4)
        for path in sorted((directory / "trajectories").glob("*.frames.csv"))
    }


def decisions(directory: Path, ended: bool) -> Iterator[str]:
    """Every decision that was sent has one line, and no frame was used twice, unless to no avail."""
    ids = [d["decision"] for d in lines(directory / "decisions.jsonl")]
    sent = [d["decision"] for d in lines(directory / "checkpoints" / "sent.jsonl")]
    for name, numbers in (("decisions.jsonl", ids), ("sent.jsonl", sent)):
        if twice := [d for d, n in Counter(numbers).items() if n > 1]:
            yield f"{name} has decisions twice: {twice}"
    if sorted(sent) != list(range(len(sent))):
        yield "the decisions that were sent are not numbered from 0"
    if missing := set(sent) - set(ids) if ended else set():
        yield f"decisions without a line: {sorted(missing)}"
    if unknown := set(ids) - set(sent):
        yield f"decisions that were never sent: {sorted(unknown)}"
    sources = Counter(
        (d["source"]["walker"], d["source"]["frame"])
        for d in lines(directory / "decisions.jsonl")
        if d["outcome"] != "undelivered"
    )
    if twice := [s for s, n in sources.items() if n > 1]:
        yield f"frames that were used twice: {twice}"


def frames(directory: Path, lost: Container[int]) -> Iterator[str]:
    """Index and coordinates have the same frames, numbered from 0, and simulated time never goes back."""
    for walker, rows in written(directory).items():
        if walker in lost:
            continue
        if rows[:, 0].tolist() != list(range(len(rows))):
            yield f"walker {walker}: frames are missing in the index, or there twice"
        if (np.diff(rows[:, 2]) < 0).any() or (np.diff(rows[:, 1]) < 0).any():
            yield f"walker {walker}: time or segments go back"
        places, found = indexed(directory, walker), set()
        for path in (p for p in (directory / "trajectories").glob(f"sim-{walker:04d}.*") if p.suffix in SUFFIXES):
            name = path.name[len("sim-0000.") : -len(path.suffix)] or None
            ends = coordinate_ends(path, *topology(directory, name), len(rows) + 1)
            found |= {(name, i) for i in range(len(ends) - 1)}
            if ends[-1] != path.stat().st_size:
                yield f"{path.name}: behind its {len(ends) - 1} frames there is more"
        if len(set(places)) != len(rows) or set(places) != found:
            yield f"walker {walker}: {len(found)} frames of coordinates and {len(rows)} in the index"
        yield from changes(directory, walker, rows, places)


def indexed(directory: Path, walker: int) -> list[tuple[str | None, int]]:
    """Name of the topology and number in its file of every frame in the index of a walker; the name is None for one."""
    head, *found = (directory / "trajectories" / f"sim-{walker:04d}.frames.csv").read_text().split("\n")[:-1]
    cells = [line.split(",") for line in found]
    return [(c[-2], int(c[-1])) if head.endswith(",topology,frame_in_file") else (None, i) for i, c in enumerate(cells)]


def changes(directory: Path, walker: int, rows: np.ndarray, places: list[tuple[str | None, int]]) -> Iterator[str]:
    """The frames of a segment are of its topology."""
    segments = lines(directory / "trajectories" / f"sim-{walker:04d}.segments.jsonl")
    of_segment = {s["segment"]: s["topology"] for s in segments}
    wrong = [i for i, (name, _) in enumerate(places) if name not in (None, of_segment[int(rows[i, 1])])]
    if wrong:
        yield f"walker {walker}: frames of another topology than their segments: {wrong[:5]}"


def topology(directory: Path, name: str | None) -> tuple[int, bool]:
    """Atoms of the topology of this name, or of the only one, and whether it has a box."""
    (path,) = (directory / "topology").glob(f"{name or '*'}.pdb")
    found = path.read_text().splitlines()
    return sum(line.startswith(("ATOM", "HETATM")) for line in found), any(line.startswith("CRYST1") for line in found)


def restart_points(directory: Path) -> set[tuple[int, int]]:
    """(walker, frame) of the frames that repeat another one."""
    return {(s.walker, s.first_frame) for s in open_run(directory).segments if s.restart_point and s.n_frames}


def archive(directory: Path) -> Counter[tuple[int, int]]:
    """How often each frame, (walker, frame), is in the archives, or in the segment files of file mode."""
    found: Counter[tuple[int, int]] = Counter()
    for path in sorted((directory / "frames").glob("agg-*.bp")):
        for block in read_archive(path):
            found.update(zip(block["walker"].tolist(), block["frame"].tolist(), strict=True))
    for path in sorted(directory.glob("segments/*/*.h5")):
        with h5py.File(path) as file:
            found.update(zip(file["walker"][:].tolist(), file["frame"][:].tolist(), strict=True))
    return found


def archived(directory: Path) -> Iterator[str]:
    """No frame is archived twice, and none that was not simulated."""
    found = archive(directory)
    if twice := [frame for frame, n in found.items() if n > 1]:
        yield f"frames that are archived twice: {twice[:5]}"
    simulated = {(w, int(f)) for w, rows in written(directory).items() for f in rows[:, 0]}
    if unknown := set(found) - simulated:
        yield f"archived frames that no trajectory has: {sorted(unknown)[:5]}"
    if repeated := set(found) & restart_points(directory):
        yield f"restart points in the archive: {sorted(repeated)[:5]}"


def totals(directory: Path, losses: bool) -> Iterator[str]:
    """The summary is what the records of all sessions add up to."""
    summary, rows = json.loads((directory / "summary.json").read_text()), written(directory)
    outcomes = Counter(d["outcome"] for d in lines(directory / "decisions.jsonl"))
    segments = sum(len(lines(p)) for p in (directory / "trajectories").glob("*.segments.jsonl"))
    expected = {
        ("simulation", "frames"): sum(map(len, rows.values())) - len(restart_points(directory)),
        ("simulation", "segments"): segments,
        ("simulation", "aggregate_ns"): sum(r[-1, 2] for r in rows.values() if len(r)) / 1000,
        ("simulation", "walkers"): len(rows),
        ("steering", "decisions"): outcomes.total(),
        ("steering", "delivered"): outcomes["applied"],
        ("steering", "stale"): outcomes["stale"],
        ("inference", "rounds"): len(lines(directory / "rounds.jsonl")),
        ("aggregation", "frames_archived"): archive(directory).total(),
        ("training", "rounds"): rounds_of_training(directory),
        ("training", "versions"): max([int(p.name[1:]) for p in (directory / "models").glob("v*")], default=0),
    }
    for (table, key), value in expected.items():
        if losses and table == "simulation" and key != "walkers":
            continue
        if not np.isclose(summary[table][key], value, rtol=1e-6):
            yield f"summary.json says {summary[table][key]} {table}.{key}, the records {value}"
    best = min(np.nanmin(r[:, 3]) for r in rows.values() if len(r))
    if not summary["science"]["best_rmsd_angstrom"] >= best - 1e-3:
        yield "the best RMSD of the summary is in no trajectory"


def rounds_of_training(directory: Path) -> int:
    """The last round of training, by its events and by the models that came from it."""
    events = [
        e["round"]
        for path in (directory / "events").glob("training-*.jsonl")
        for e in lines(path)
        if e["name"] == "train_round" and "error" not in e
    ]
    models = [json.loads(path.read_text())["round"] for path in (directory / "models").glob("*/metadata.json")]
    return max([*events, *models], default=0)


def checkpoints(directory: Path) -> Iterator[str]:
    """The newest checkpoint is whole and holds every walker once."""
    skipped = []
    manifest = Store(directory, record_of).newest(skipped.append)
    yield from (str(error) for error in skipped)
    walkers = sorted(w for part in manifest.parts for w in part.walkers)
    if walkers != list(range(manifest.about["n_walkers"])):
        yield f"the newest checkpoint holds the walkers {walkers}"
    if {p.role for p in manifest.parts} != {"simulation", "aggregation", "training", "inference"}:
        yield "the newest checkpoint lacks a role"
