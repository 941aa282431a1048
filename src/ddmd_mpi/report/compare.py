"""Several runs on one page: arms as medians with bands, over simulated time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..analysis.coverage import States, coverage, states
from ..analysis.run import Run, open_run
from ..analysis.sample import Sample, sample
from ..errors import DDMDError, InputError
from . import style
from .arms import Arm, arms, best_so_far
from .bands import QUARTILES, draw_band, middle_and_band, on_grid
from .page import Page, Picture, Table
from .science import RMSD_LABEL
from .shapes import coverage_caption
from .tables import Rows, write_csv
from .text import POPULATION_WARNING, simulated_time, usecase

N_GRID = 300
Curve = tuple[np.ndarray, np.ndarray]
Curves = dict[Path, Curve]


def write_comparison(
    directories: list[Path], output: Path, reference: States | None = None, band: str = QUARTILES
) -> list[Path]:
    """Read run directories and write the page that compares them.

    Parameters
    ----------
    output
        Directory for ``report.html``, ``plots`` and ``tables``.
    reference
        Whose states coverage counts; all frames of the runs by default.
    band
        A name of :data:`.bands.BANDS`.

    Raises
    ------
    RunDirectoryError
        If a directory is not one that a run wrote.
    InputError
        If a run is named twice, no run has a frame with an RMSD, or the page cannot be written.
    """
    if len({directory.resolve() for directory in directories}) < len(directories):
        raise InputError("a run is named twice: name each once")
    runs = [open_run(directory) for directory in directories]
    best = {run.directory: best_so_far(run) for run in runs}
    best = {path: curve for path, curve in best.items() if len(curve[0])}
    if not best:
        raise InputError("none of the runs has a frame with an RMSD yet: there is nothing to compare")
    found = arms([run for run in runs if run.directory in best])
    known, covered, lacking = _coverage([run for run in runs if run.directory in best], reference)
    try:
        (output / "plots").mkdir(parents=True, exist_ok=True)
        (output / "tables").mkdir(exist_ok=True)
        pictures = [
            Picture("Best RMSD", f"{_how(band)} {_shortest(found, best)}", output / "plots" / "best_rmsd.png"),
            _covered_picture(found, covered, known, lacking, output, band),
        ]
        _draw(found, best, RMSD_LABEL, output / "plots" / "best_rmsd.png", band, falling=True)
        tables = _tables(found, best, covered, output, band)
        page = Page(
            title=f"{len(runs)} runs of {', '.join(sorted({usecase(run) for run in runs}))}",
            sentences=_sentences(runs, found),
            numbers=[],
            warnings=[*_doubts(runs, found, best), POPULATION_WARNING],
            pictures=pictures,
            tables=tables,
            links=[os.path.relpath(run.directory, output) for run in runs],
        )
        written = output / "report.html"
        written.write_text(page.html(), encoding="utf-8")
    except OSError as error:
        raise InputError(f"the comparison cannot be written into {output}: {error.strerror}") from error
    plots = [picture.path for picture in pictures if picture.path is not None]
    return [written, *plots, *(output / table.link for table in tables)]


def _coverage(runs: list[Run], reference: States | None) -> tuple[States | None, Curves, str]:
    """The states, the coverage of each run, and why there is none."""
    samples: dict[Path, Sample] = {}
    why: list[str] = []
    for run in runs:
        try:
            samples[run.directory] = sample(run)
        except DDMDError as error:
            why.append(str(error))
    try:
        if reference is None and samples:
            shortest = min(len(some.rows) for some in samples.values())
            parts = [some.thinned(shortest).positions_nm for some in samples.values()]
            if len({positions.shape[1] for positions in parts}) > 1:
                raise InputError("the runs have different numbers of descriptor atoms: their shapes cannot be compared")
            reference = states(np.concatenate(parts), "all runs together")
        frames = {run.directory: run.frames for run in runs}
        curves = {
            path: coverage(reference, some, frames[path]["aggregate_ps"][some.rows])
            for path, some in samples.items()
            if reference is not None
        }
    except DDMDError as error:
        return None, {}, str(error)
    return reference, curves, "; ".join(why)


def _covered_picture(
    found: list[Arm], covered: Curves, known: States | None, lacking: str, output: Path, band: str
) -> Picture:
    heading, path = "Coverage of states", output / "plots" / "coverage.png"
    if known is None or not covered:
        return Picture(heading, "", None, lacking)
    percent = {directory: (times, 100 * shares) for directory, (times, shares) in covered.items()}
    _draw(found, percent, f"visited of {len(known)} states (%)", path, band)
    missing = f" Runs are left out: {lacking}." if lacking else ""
    words = "at most 20,000 frames of a run"
    return Picture(heading, f"{coverage_caption(known, words, own=False)} {_how(band)}{missing}", path)


def _how(band: str) -> str:
    return f"Lines are medians over the runs of an arm, bands the {band}."


def _shortest(found: list[Arm], best: Curves) -> str:
    ends = [simulated_time(min(best[run.directory][0][-1] for run in arm.runs)) for arm in found]
    return f"A line ends where the shortest run of its arm ends ({', '.join(ends)})."


def _draw(found: list[Arm], curves: Curves, label: str, path: Path, band: str, *, falling: bool = False) -> None:
    """The arms over the simulated time."""
    grid = np.linspace(0.0, max(times[-1] for times, _ in curves.values()), N_GRID)
    scale, unit = style.simulated_scale(grid[-1])
    with style.figure(path) as figure:
        axes = figure.add_subplot()
        for i, arm in enumerate(found):
            drawn = [on_grid(*curves[run.directory], grid) for run in arm.runs if run.directory in curves]
            if drawn:
                draw_band(axes, grid / scale, np.array(drawn), arm.name, i, band)
        axes.set(xlabel=f"aggregate simulated time ({unit})", ylabel=label, xlim=(0, grid[-1] / scale))
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right" if falling else "lower right")


def _tables(found: list[Arm], best: Curves, covered: Curves, output: Path, band: str) -> list[Table]:
    """Each arm at a simulated time that all runs have reached, and each run at its end."""
    common = min(times[-1] for times, _ in best.values())
    of_arms: Rows = []
    for arm in found:
        row: dict[str, object] = {"arm": arm.name, "runs": len(arm.runs), "simulated_ps": common}
        for name, curves in (("best_rmsd_angstrom", best), ("coverage", covered)):
            values = [
                on_grid(*curves[run.directory], np.array([common])) for run in arm.runs if run.directory in curves
            ]
            middle = middle_and_band(np.array(values), band)[:, 0] if values else np.full(3, np.nan)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), map(float, middle), strict=True))
        of_arms.append(row)
    of_runs: Rows = [
        {
            "arm": arm.name,
            "run": str(run.directory),
            "seed": run.setting("run", "seed"),
            "frames": len(best[run.directory][0]),
            "simulated_ps": float(best[run.directory][0][-1]),
            "restarts": sum(d.get("outcome") == "applied" for d in run.decisions),
            "best_rmsd_angstrom": _last(best, run),
            "coverage": _last(covered, run),
        }
        for arm in found
        for run in arm.runs
    ]
    tables = [
        Table(f"Arms at {simulated_time(common)}, which all runs have reached", of_arms, "tables/arms.csv"),
        Table("Runs at their end", of_runs, "tables/runs.csv"),
    ]
    for table in tables:
        write_csv(output / table.link, table.rows)
    return tables


def _last(curves: Curves, run: Run) -> float | None:
    return float(curves[run.directory][1][-1]) if run.directory in curves else None


def _sentences(runs: list[Run], found: list[Arm]) -> list[str]:
    said = "; ".join(f"{arm.name}: {len(arm.runs)}" for arm in found)
    return [
        f"{len(runs)} runs in {len(found)} {'arm' if len(found) == 1 else 'arms'} ({said}).",
        "Runs whose settings differ in the seed or the duration alone are one arm.",
    ]


def _doubts(runs: list[Run], found: list[Arm], best: Curves) -> list[str]:
    """What speaks against comparing these runs."""
    said = [f"{run.directory} has no frame with an RMSD and is left out." for run in runs if run.directory not in best]
    systems = {(str(run.setting("system", "name")), str(run.setting("system", "target"))) for run in runs}
    if len(systems) > 1:
        said.append("The runs are of different systems or targets, so their RMSD is not of the same thing.")
    for arm in found:
        if len({str(run.setting("run", "seed")) for run in arm.runs}) < len(arm.runs):
            said.append(f"Some runs of {arm.name} have the same seed: they may be no independent repetitions.")
    return said
