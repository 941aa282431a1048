"""Writes what a study has found into its directory: tables, figures, methods, manifest, and one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..report.page import Page, Picture, Table
from ..report.tables import Rows, write_csv
from ..rundir.disk import disk_errors, write_json, write_text
from . import figures, tables
from .measures import COVERAGE, RMSD, Measured, measure
from .methods import manifest, methods
from .outcome import Outcome
from .study_file import Study
from .trials import Trial

SHOWN_TESTS = ("system", "quantity", "arm", "n", "difference", "difference_low", "difference_high", "effect",
               "effect_low", "effect_high", "p_rank", "p_rank_holm", "p_paired")  # fmt: skip
WARNING = "Restarts bias the populations: counts of frames of a steered run are not probabilities."


def write_study(
    study: Study, trials: Sequence[Trial], outcomes: Sequence[Outcome], failures: dict[str, str], output: Path
) -> Path:
    """Write all of it; the page.

    Parameters
    ----------
    trials
        All of the study.
    outcomes
        Of those that have finished, at least one.
    failures
        What went wrong, by the name of the trial.
    """
    measured = [
        measure(study, system, found)
        for system in study.systems
        if (found := [o for o in outcomes if o.trial.system.name == system.name])
    ]
    tests = tables.comparisons(measured, study.reference)
    missing = len(trials) - len(outcomes)
    text = methods(study, measured, failures)
    with disk_errors(output):
        write_text(output / "study.toml", study.text)
        contents = {
            "trials": [row for m in measured for row in m.rows],
            "table": tables.arm_table(measured),
            "tests": tests,
            "curves": tables.curve_table(measured),
        }
        for name, rows in contents.items():
            if rows:
                write_csv(output / f"{name}.csv", rows)
        overviews = {m.system.name: tables.overview(m, tests) for m in measured}
        markdown = [f"**{name}**\n\n{tables.markdown(rows)}" for name, rows in overviews.items()]
        write_text(output / "table.md", "\n".join(markdown))
        write_text(output / "methods.md", f"{text}\n")
        write_json(output / "manifest.json", manifest(study, trials, outcomes, failures))
        page = Page(
            title=study.title,
            sentences=[text],
            numbers=_numbers(study, trials, outcomes, failures),
            warnings=[WARNING, *_doubts(missing, failures)],
            pictures=_pictures(measured, output),
            tables=_tables(overviews, tests, failures),
            links=[
                "study.toml",
                "manifest.json",
                "methods.md",
                "table.md",
                *(f"{n}.csv" for n, r in contents.items() if r),
            ],
        )
        path = output / "study.html"
        write_text(path, page.html())
    return path


def _numbers(
    study: Study, trials: Sequence[Trial], outcomes: Sequence[Outcome], failures: dict[str, str]
) -> list[tuple[str, str]]:
    wall = sum(float(o.facts["wall_s"] or 0.0) for o in outcomes)
    return [
        ("trials finished", f"{len(outcomes)} of {len(trials)}"),
        ("failed", f"{len(failures)}"),
        ("systems", f"{len(study.systems)}"),
        ("arms", f"{len(study.arms)}"),
        ("seeds", f"{len(study.seeds)}"),
        ("wall time of the trials", f"{wall / 3600:.2g} h"),
    ]


def _doubts(missing: int, failures: dict[str, str]) -> list[str]:
    unfinished = missing - len(failures)
    doubts = [f"{unfinished} trials are not finished yet: run the study again to complete it."] if unfinished else []
    return [*doubts, *(f"{name} failed: {why}" for name, why in failures.items())]


def _pictures(measured: Sequence[Measured], output: Path) -> list[Picture]:
    (output / "plots").mkdir(exist_ok=True)
    pictures = []
    for m in measured:
        name = m.system.name
        path = output / "plots" / f"{name}-rmsd.png"
        figures.over_time(m, RMSD, path)
        caption = "Median of the arms and quartiles over the seeds (Fig. 6 of the paper)."
        pictures.append(Picture(f"{name}: lowest RMSD", caption, path))
        path = output / "plots" / f"{name}-coverage.png"
        figures.over_time(m, COVERAGE, path)
        kind = "states of the Markov model" if m.exact else "clusters of the frames of all trials"
        caption = f"Share of {m.n_states} {kind}; median and quartiles over the seeds (Fig. 5 of the paper)."
        pictures.append(Picture(f"{name}: coverage", caption, path))
        path = output / "plots" / f"{name}-histograms.png"
        figures.histograms(m, path)
        caption = (
            "In successive parts of the aggregate time; median and quartiles over the seeds (Fig. 3 of the paper)."
        )
        pictures.append(Picture(f"{name}: distribution of the RMSD", caption, path))
    return pictures


def _tables(overviews: dict[str, Rows], tests: Rows, failures: dict[str, str]) -> list[Table]:
    shown = [Table(f"{name}: mean ± standard deviation", rows, "table.csv") for name, rows in overviews.items()]
    chosen = [
        {key: row[key] for key in SHOWN_TESTS} for row in tests if row["quantity"] in (RMSD, "coverage_half", COVERAGE)
    ]
    shown.append(Table("Comparisons with the reference, with intervals of 95 %", chosen, "tests.csv"))
    if failures:
        shown.append(Table("Failed trials", [{"trial": n, "why": w} for n, w in failures.items()], "manifest.json"))
    return shown
