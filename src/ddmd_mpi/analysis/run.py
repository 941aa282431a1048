"""A run directory, open for analysis: of a run that has ended, is running, or was killed.

from ddmd_mpi.analysis import open_run
run = open_run("runs/demo")
best = run.frames[run.best]
universe = run.universe()
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, RunDirectoryError
from . import coordinates, exports, lineage, records
from .frame_table import order_of_time, read_frames
from .libraries import needed
from .lineage import Segment, Source
from .models import TrainedModel, open_model
from .records import Record, declared_parameters, is_span, number, parameter_names, table

if TYPE_CHECKING:
    import MDAnalysis
    import pandas

    from ..frames.block import FrameBlock

#: More frames than a walker has.
WALKER_KEY = 1 << 40
MARKS = ("config.toml", "summary.json", "environment.json", "decisions.jsonl", "events", "trajectories")


@dataclass(frozen=True)
class Run:
    """What the files of a run directory hold, each as it was found.

    Parameters
    ----------
    settings, summary, environment
        ``config.toml``, ``summary.json``, ``environment.json``; empty where the file is missing.
    events, decisions, rounds, segment_lines, models
        Records of the JSON lines and of ``models/*/metadata.json``, ordered by time or number.
    frames
        The frames of all walkers, ordered by walker and frame: a structured array with the columns of
        :data:`.frame_table.COLUMNS` and one per declared order parameter.
    """

    directory: Path
    settings: Record
    summary: Record
    environment: Record
    events: list[Record]
    decisions: list[Record]
    rounds: list[Record]
    segment_lines: list[Record]
    models: list[Record]
    frames: np.ndarray

    def setting(self, section: str, key: str, default: Any = None) -> Any:
        """One setting of the run's ``config.toml``."""
        return table(self.settings.get(section)).get(key, default)

    def result(self, section: str, key: str, default: Any = None) -> Any:
        """One value of the run's ``summary.json``."""
        return table(self.summary.get(section)).get(key, default)

    def spans(self, *names: str) -> list[Record]:
        """Events of these names, by start."""
        return [e for e in self.events if e["name"] in names]

    @cached_property
    def start(self) -> float:
        """Unix time of the first record, s; NaN if there is none."""
        return self._ends[0]

    @cached_property
    def wall(self) -> float:
        """Wall time from the first to the last record, s; NaN if there is none."""
        measured = number(self.summary.get("wall_s"))
        ended = self.summary.get("completed") is True  # else the summary is older than the newest records
        return measured if ended and measured > 0 else self._ends[1] - self._ends[0]

    @cached_property
    def _ends(self) -> tuple[float, float]:
        times = [t for e in self.events if e["name"] != "epoch" for t in (e["start"], e["end"])]
        times += [number(s.get("start")) for s in self.segment_lines] + [number(r.get("time")) for r in self.rounds]
        known = [t for t in times if t > 0]
        return (min(known), max(known)) if known else (np.nan, np.nan)

    @cached_property
    def timeline(self) -> np.ndarray:
        """The frames in the order of the wall time at which they were made."""
        return self.frames[order_of_time(self.frames)]

    @cached_property
    def segments(self) -> list[Segment]:
        """Every segment with the frame that it came from, by walker and segment."""
        return lineage.segments_of(self.segment_lines, self.decisions, self.frames)

    def contradictions(self) -> list[str]:
        """Sentences about what contradicts itself in the lineage, none if the files agree."""
        return lineage.contradictions(self.segments, self.decisions)

    def ancestry(self, walker: int, frame: int) -> list[Source]:
        """The frames that lead to this one: the last one of each segment on its way, oldest first, itself last."""
        return lineage.ancestry(self.segments, walker, frame)

    @cached_property
    def report_ps(self) -> float:
        """Simulated time between two reports, ps; NaN if neither the settings nor the frames tell."""
        declared = number(self.setting("simulation", "report_interval_ps"))
        if declared > 0:
            return declared
        steps = np.diff(self.frames["time_ps"])
        steps = steps[(steps > 0) & (np.diff(self.frames["walker"]) == 0)]
        return float(np.median(steps)) if len(steps) else np.nan

    @property
    def parameters(self) -> list[str]:
        """Names of the declared order parameters, each a column of the frames."""
        return parameter_names(self.settings)

    @property
    def native_contacts(self) -> str:
        """Name of the order parameter that is the fraction of native contacts; "" for none."""
        found = (p for p in declared_parameters(self.settings) if p.get("kind") == "fraction_of_native_contacts")
        return next((name for p in found if (name := str(p.get("name"))) in self.parameters), "")

    @property
    def best(self) -> int | None:
        """Row of the frame with the lowest RMSD; None if no frame has one."""
        rmsd = self.frames["rmsd_angstrom"]
        rows = np.flatnonzero(np.isfinite(rmsd) & ~self.frames["restart_point"])
        return int(rows[np.argmin(rmsd[rows])]) if len(rows) else None

    def row(self, walker: int, frame: int) -> int | None:
        """Row of a frame of a walker; None if there is none."""
        key = walker * WALKER_KEY + frame
        at = int(np.searchsorted(self._keys, key))
        return at if at < len(self._keys) and self._keys[at] == key else None

    @cached_property
    def _keys(self) -> np.ndarray:
        """Walker and frame of each row as one ascending number, to search by."""
        return self.frames["walker"].astype(np.int64) * WALKER_KEY + self.frames["frame"]

    def table(self) -> pandas.DataFrame:
        """The frames as a table of pandas.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        with needed("a table needs pandas, Run.frames does not"):
            import pandas
        return pandas.DataFrame({name: self.frames[name] for name in self.frames.dtype.names or ()})

    @cached_property
    def stretches(self) -> list[np.ndarray]:
        """Rows of the frames of each stretch: the continuous dynamics of a walker from one restart to the next.

        A stretch starts with its restart point: dynamics from there is unbiased, although the choice of it is not.
        """
        begins = self.frames["restart_point"] | (np.diff(self.frames["walker"], prepend=-1) != 0)
        return np.split(np.arange(len(self.frames)), np.flatnonzero(begins)[1:]) if len(self.frames) else []

    def arrays(self, *columns: str) -> list[np.ndarray]:
        """Columns of the frames, stretch after stretch: short trajectories as deeptime and PyEMMA take them.

        Parameters
        ----------
        columns
            Names of columns of numbers, such as ``rmsd_angstrom``; ``latent`` stands for all latents of the newest
            model.

        Returns
        -------
        list of ndarray, float64, shape (n_frames, n_columns)
            Consecutive rows are :attr:`report_ps` apart.

        Raises
        ------
        InputError
            If there is no such column, or no model.
        """
        return exports.arrays(self, columns)

    def save_arrays(self, path: Path | str, *columns: str) -> None:
        """Write :meth:`arrays` into a file of ``numpy.savez``.

        ``values`` has all rows, ``lengths`` those of each stretch, ``walker`` and ``segment`` tell where each starts;
        ``columns`` and ``lag_ps``, the time between two rows. ``numpy.split(values, lengths.cumsum()[:-1])`` is the
        list of arrays.

        Raises
        ------
        InputError
            As :meth:`arrays`, or if the file cannot be written.
        """
        exports.save_arrays(self, Path(path), columns)

    @cached_property
    def topologies(self) -> dict[str, Path]:
        """The PDB files of the run's topologies by name."""
        return {path.stem: path for path in sorted(self.directory.glob("topology/*.pdb"))}

    @cached_property
    def trajectories(self) -> list[coordinates.TrajectoryFile]:
        """The trajectory files by walker and topology, each with the rows of its frames."""
        return coordinates.trajectory_files(self.directory, self.frames, self.topologies)

    def universe(self, topology: str | None = None) -> MDAnalysis.Universe:
        """All frames of a topology as one universe of MDAnalysis: frame i is row i of its frames, walker after walker.

        Parameters
        ----------
        topology
            Name of the topology; it may be left out if the run has one.

        Raises
        ------
        InputError
            If MDAnalysis is not installed, or the topology must be named.
        RunDirectoryError
            If the trajectory files have other frames than the index says.
        """
        return coordinates.universe(self.files_of(topology))

    def archive(self) -> Iterator[FrameBlock]:
        """The blocks of all archives, each oldest first; a StreamError if one cannot be read."""
        return exports.archive(self.directory)

    def files_of(self, topology: str | None = None) -> list[coordinates.TrajectoryFile]:
        """The trajectory files of a topology.

        Raises
        ------
        InputError
            If there is no such topology, or there are several and none is named.
        """
        known = list(dict.fromkeys(file.topology.stem for file in self.trajectories))
        if topology is None and len(known) == 1:
            topology = known[0]
        if topology not in known:
            names = ", ".join(known) or "none"
            raise InputError(f"{self.directory} has trajectories of the topologies {names} (got {topology}): name one")
        return [file for file in self.trajectories if file.topology.stem == topology]

    def model(self, version: int | None = None, threads: int = 1, model: str | None = None) -> TrainedModel:
        """A published model, the newest one by default; see :func:`.open_model`.

        Raises
        ------
        ModelError
            If it cannot be read.
        InputError
            If there is no such version.
        """
        found = {int(path.name[1:]): path for path in self.directory.glob("models/v*") if path.name[1:].isdigit()}
        if version is None and not found:
            raise InputError(f"{self.directory} has no published model yet")
        version = max(found) if version is None else version
        if version not in found:
            known = f"{min(found)} to {max(found)}" if found else "none"
            raise InputError(f"{self.directory} has no model of version {version} (it has {known})")
        return open_model(found[version], threads, model)

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Positions of the descriptor atoms in some frames, nm: shape (n_rows, n_residues, 3), float32.

        Parameters
        ----------
        rows
            Rows of :attr:`frames`. A frame that no trajectory file has is NaN.

        Raises
        ------
        InputError, RunDirectoryError
            If a library is missing, a file cannot be read, or the topologies have different numbers of residues.
        """
        return coordinates.positions(self.trajectories, self.setting("system", "descriptor", ["CA"]), rows, self.frames)

    def latents(
        self, version: int | None = None, threads: int = 1, model: str | None = None, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Latents by one version of the model: shape (n_rows, n_latent), float32.

        Parameters
        ----------
        version
            The newest one by default. Latents of two versions cannot be compared.
        threads, model
            See :func:`.open_model`.
        rows
            Rows of :attr:`frames`; all by default. A frame that no trajectory file has is NaN.

        Raises
        ------
        InputError, ModelError, RunDirectoryError
            If there is no such model, or the trajectories cannot be read with it.
        """
        trained = self.model(version, threads, model)
        return exports.latents(self, trained) if rows is None else exports.latents_of(self, trained, rows)


def open_run(directory: Path | str) -> Run:
    """The records of a run directory; coordinates and models are read when they are asked for.

    Raises
    ------
    RunDirectoryError
        If there is no such directory, or it is not one that a run wrote.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise RunDirectoryError(f"there is no run directory {directory}: name the one that the run printed at its end")
    if not any((directory / mark).exists() for mark in MARKS):
        raise RunDirectoryError(
            f"{directory} is not a run directory: it holds none of {', '.join(MARKS)}; name the one that a run wrote"
        )
    segments = records.read_lines(directory.glob("trajectories/*.segments.jsonl"))
    segments = [s for s in segments if isinstance(s.get("walker"), int) and isinstance(s.get("segment"), int)]
    segments.sort(key=lambda s: (s["walker"], s["segment"]))
    events = [e for e in records.read_lines(directory.glob("events/*.jsonl")) if is_span(e)]
    settings = records.read_toml(directory / "config.toml")
    decisions = records.read_lines([directory / "decisions.jsonl"])
    by_number = {d["decision"]: d for d in decisions if isinstance(d.get("decision"), int)}
    return Run(
        directory=directory,
        settings=settings,
        summary=records.read_json(directory / "summary.json"),
        environment=records.read_json(directory / "environment.json"),
        events=sorted(events, key=lambda e: float(e["start"])),
        decisions=list(by_number.values()),
        rounds=records.read_lines([directory / "rounds.jsonl"]),
        segment_lines=segments,
        models=[m for m in map(records.read_json, sorted(directory.glob("models/*/metadata.json"))) if m],
        frames=read_frames(directory, segments, events, parameter_names(settings)),
    )
