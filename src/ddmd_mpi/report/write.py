"""From a run directory to its report: ``report.html``, ``plots/*.png`` and ``tables/*.csv``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..analysis.best_structure import write_best_structure
from ..analysis.coverage import States, states, states_of_file
from ..analysis.lineage import Segment
from ..analysis.records import number
from ..analysis.run import Run, open_run
from ..analysis.sample import Sample, sample
from ..errors import DDMDError, InputError, RunDirectoryError
from . import (
    flows,
    ligand_structures,
    ligands,
    paper,
    performance,
    science,
    shapes,
    streams,
    structure,
    style,
    tables,
    text,
    training,
)
from .page import Page, Picture, Table

MAX_ROWS = 25
LINKS = (
    "summary.json",
    "config.toml",
    "decisions.jsonl",
    "rounds.jsonl",
    "trajectories",
    "frames",
    "segments",
    "models",
    "logs",
)
FIGURES = (
    ("progress", "RMSD to the target", science.progress),
    ("native_contacts", "Native contacts beside RMSD", science.native_contacts),
    ("histograms", "RMSD by restart round", science.histograms),
    ("lineage", "Lineage of the segments", None),
    ("timeline", "What every rank did", performance.timeline),
    ("learning", "Learning curves", performance.learning),
    ("latency", "From decision to first step", performance.latency),
    ("rounds", "Inference rounds", performance.rounds),
    ("flows", "Restarts as flows of walkers", flows.restart_flows),
    ("queues", "Queues before the streams", streams.queues),
)


@dataclass(frozen=True)
class Wanted:
    """What a report shows, where there is a choice.

    Parameters
    ----------
    version
        Of the model whose latents are drawn; the newest one by default.
    reference, topology
        Whose states coverage counts: a run directory, or a trajectory with the PDB file of its atoms (by default that
        of the run); the run itself by default.
    projection
        Of the latents to the plane; see :mod:`.projections`.
    """

    version: int | None = None
    reference: Path | None = None
    topology: Path | None = None
    projection: str = "pca"


def write_report(run_directory: Path, wanted: Wanted | None = None) -> list[Path]:
    """Read a run directory (of a run that ended, is running or was killed) and write its report into it.

    Returns
    -------
    list of Path
        What was written: ``report.html`` first, then the plots and tables that have data.

    Raises
    ------
    RunDirectoryError
        If the directory is not one that a run wrote, or cannot be written to.
    InputError
        If what was asked for does not exist.
    """
    run = open_run(run_directory)
    segments = run.segments
    wanted = wanted or Wanted()
    if wanted.version is not None and not (run.directory / "models" / f"v{wanted.version:06d}").is_dir():
        versions = ", ".join(path.name for path in sorted(run.directory.glob("models/v*"))) or "none"
        raise InputError(f"{run.directory} has no version {wanted.version} of the model (it has {versions})")
    known = reference_states(run, wanted)
    try:
        (run.directory / "plots").mkdir(exist_ok=True)
        (run.directory / "tables").mkdir(exist_ok=True)
        first, *others = _pictures(run, segments)
        pictures = [first, _structure(run), *others, *_shapes(run, wanted, known), *_populations(run)]
        shown = _tables(run, segments)
        page = run.directory / "report.html"
        page.write_text(_page(run, segments, pictures, shown).html(), encoding="utf-8")
    except OSError as error:
        raise RunDirectoryError(f"cannot write the report into {run.directory}: {error.strerror}") from error
    plots = [p.path for p in pictures if p.path is not None]
    return [page, *plots, *(run.directory / t.link for t in shown if t.rows)]


def _pictures(run: Run, segments: list[Segment]) -> list[Picture]:
    captions = text.captions(run) | {"flows": flows.CAPTION, "queues": streams.CAPTION}
    pictures = []
    for name, heading, draw in FIGURES:
        path = run.directory / "plots" / f"{name}.png"
        drawn = _drawer(draw, run, segments)(path)
        pictures.append(Picture(heading, captions[name], path if drawn else None))
    path = run.directory / "plots" / "ligands.png"
    if ligands.ligands(run, path):
        pictures.append(Picture("Walkers per ligand", ligands.CAPTION, path))
    return [*pictures, *_ligand_structures(run)]


def _ligand_structures(run: Run) -> list[Picture]:
    """What the ligands of the run are."""
    heading, path = "Ligands", run.directory / "plots" / "ligand_structures.png"
    if not ligand_structures.ligand_files(run):
        return []
    if not ligand_structures.draw_ligands(run, path):
        return [Picture(heading, "", None, ligand_structures.reason())]
    return [Picture(heading, ligand_structures.CAPTION, path)]


def reference_states(run: Run, wanted: Wanted) -> States | None:
    """The states of the reference, None if the run itself is to be it.

    Raises
    ------
    InputError, RunDirectoryError
        If the reference cannot be read, or has too few frames.
    """
    if wanted.reference is None:
        return None
    if wanted.reference.is_dir():
        return states(sample(open_run(wanted.reference)).positions_nm, f"the run {wanted.reference}")
    topologies = list(run.topologies.values())
    if wanted.topology is None and len(topologies) != 1:
        raise InputError(
            f"{run.directory} has {len(topologies)} topologies: name the PDB file of the atoms of {wanted.reference} "
            "with --reference-topology"
        )
    descriptor = run.setting("system", "descriptor", ["CA"])
    return states_of_file(wanted.reference, wanted.topology or topologies[0], descriptor)


def _shapes(run: Run, wanted: Wanted, known: States | None) -> list[Picture]:
    """What the coordinates show: the latent space, and coverage of states."""
    latents = partial(shapes.latent_space, run, version=wanted.version, projection=wanted.projection)
    drawn: list[tuple[str, str, Callable[[Sample, Path], str]]] = [
        ("latents", "Latent space", latents),
        ("coverage", "Coverage of states", lambda some, path: shapes.coverage_over_time(run, some, path, known)),
    ]
    try:
        some = sample(run)
    except DDMDError as error:
        return [Picture(heading, "", None, str(error)) for _, heading, _ in drawn]
    return [
        _drawn(heading, partial(draw, some), run.directory / "plots" / f"{name}.png") for name, heading, draw in drawn
    ]


def _structure(run: Run) -> Picture:
    """The best structure on the target."""
    heading = "Best structure on the target"
    try:
        found = write_best_structure(run, run.directory / "structures")
    except DDMDError as error:
        return Picture(heading, "", None, str(error))
    path = run.directory / "plots" / "best_structure.png"
    caption, turned = structure.best_structure(run, found, path), structure.viewer(found)
    how = structure.NO_VIEWER if turned is None else structure.TURNED
    return Picture(heading, f"{caption} {how}", path, viewer=turned)


def _drawn(heading: str, draw: Callable[[Path], str], path: Path) -> Picture:
    """A figure that may lack what it needs."""
    try:
        return Picture(heading, draw(path), path)
    except DDMDError as error:
        return Picture(heading, "", None, str(error))


def _populations(run: Run) -> list[Picture]:
    """What ``ddmd-mpi populations`` has said and drawn of the run, the verdict first; nothing if it was not asked."""
    directory = run.directory / "populations"
    drawn, said = directory / "free_energies.png", directory / "summary.txt"
    if not drawn.is_file() or not said.is_file():
        return []
    caption = " ".join(said.read_text(encoding="utf-8", errors="replace").split())
    return [Picture("Populations and free energies, with 95 % intervals", caption, drawn)]


def _drawer(draw: Callable[[Run, Path], bool] | None, run: Run, segments: list[Segment]) -> Callable[[Path], bool]:
    if draw is None:
        return lambda path: science.lineage_tree(run, segments, path)
    return lambda path: draw(run, path)


def _tables(run: Run, segments: list[Segment]) -> list[Table]:
    """Write the tables that have rows."""
    contents = [
        ("roles", "Roles", tables.role_table(run)),
        ("paper", "Roles beside Table II of the paper", paper.paper_table(run)),
        ("streams", "Streams", streams.stream_table(run)),
        ("decisions", "Restart decisions", tables.decision_table(run)),
        ("segments", "Segments", tables.segment_table(run, segments)),
        ("rounds", "Inference rounds in numbers", tables.record_table(run.rounds, run.start)),
        ("training", "Rounds of training", training.round_table(run)),
        ("models", "Model versions", tables.record_table(run.models, run.start)),
        ("flows", "Restarts as flows in numbers", flows.flow_table(run)),
    ]
    pruned = ligands.ligand_table(run)
    if pruned:
        contents.append(("ligands", "Walkers per ligand in numbers", pruned))
    if known := ligand_structures.structure_table(run):
        contents.append(("ligand_structures", "Ligands in numbers", known))
    for name, _, rows in contents:
        if rows:
            tables.write_csv(run.directory / "tables" / f"{name}.csv", rows)
    notes = {"paper": paper.SOURCE}
    return [Table(heading, rows, f"tables/{name}.csv", notes.get(name, "")) for name, heading, rows in contents]


def _page(run: Run, segments: list[Segment], pictures: list[Picture], shown: list[Table]) -> Page:
    found = run.contradictions()
    doubts = [f"The lineage contradicts itself in {len(found)} places, for example: {found[0]}."] if found else []
    return Page(
        title=text.title(run),
        sentences=text.paragraph(run, segments),
        numbers=_numbers(run),
        warnings=[*text.warnings(run), *doubts, *training.doubts(run)],
        pictures=pictures,
        tables=[Table(t.heading, t.rows[-MAX_ROWS:], t.link, t.note) for t in shown],
        links=[name for name in LINKS if (run.directory / name).exists()],
    )


def _numbers(run: Run) -> list[tuple[str, str]]:
    """The few numbers that a reader looks for first."""
    best = science.best_frame(run)
    native = science.native(run)[best] if best is not None else np.nan
    latencies = performance.latencies_ms(run)
    simulated = run.timeline["aggregate_ps"][-1] if len(run.timeline["aggregate_ps"]) else np.nan
    applied = sum(d.get("outcome") == "applied" for d in run.decisions)
    values = (
        ("best Cα RMSD", f"{run.timeline['rmsd_angstrom'][best]:.2f} Å" if best is not None else ""),
        ("its native contacts", f"{100 * native:.0f} %" if native >= 0 else ""),
        ("simulated in total", text.simulated_time(simulated) if simulated > 0 else ""),
        ("MD speed", _with_unit(run.result("simulation", "ns_per_day"), "ns/day")),
        ("restarts", f"{applied}" if run.decisions else ""),
        ("median decision to first step", style.milliseconds(np.median(latencies)) if len(latencies) else ""),
        ("model versions", f"{len(run.models)}" if run.models else ""),
        ("wall time", text.duration(run.wall) if run.wall > 0 else ""),
    )
    return [(name, value) for name, value in values if value]


def _with_unit(value: object, unit: str) -> str:
    return f"{number(value):.3g} {unit}" if number(value) >= 0 else ""
