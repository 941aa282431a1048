"""What ``ddmd-mpi populations`` prints and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..analysis import open_run
from ..analysis.asked import ask, default_coordinates, default_regions
from ..analysis.intervals import Interval
from ..analysis.populations import Populations, estimate
from ..analysis.records import Record
from ..analysis.regions import Region, parse_region
from ..analysis.stitch import write_table
from ..errors import InputError

CURE = (
    "More data of the same kind may help. Long stretches help most: continue the run without restarts, "
    "ddmd-mpi --resume DIR --set steering.strategy=none."
)


@dataclass(frozen=True)
class Asked:
    """See the options of the command."""

    coordinates: tuple[str, ...]
    source: str | None
    target: str | None
    topology: str | None
    samples: int
    seed: int
    output: Path | None


def answer(directory: Path, asked: Asked) -> list[str]:
    """Estimate, write tables and plots; the lines to print.

    Raises
    ------
    InputError, RunDirectoryError
        If nothing can be said, see :func:`.ask` and :func:`.estimate`.
    """
    run = open_run(directory)
    default = default_regions(run)
    source, target = (
        parse_region(text) if text else region
        for text, region in zip((asked.source, asked.target), default, strict=True)
    )
    coordinates = asked.coordinates or tuple(default_coordinates(run))
    data, question = ask(run, coordinates, source, target, asked.topology)
    found = estimate(data, question, asked.samples, asked.seed)
    output = asked.output or run.directory / "populations"
    sentences = paragraph(found, source, target, len(data), data.n_stretches)
    write_table(output / "populations.csv", numbers(found, source, target))
    write_table(output / "free_energies.csv", free_energies(found))
    write_table(output / "timescales.csv", timescales(found))
    try:
        (output / "summary.txt").write_text("\n".join(sentences) + "\n", encoding="utf-8")
        plots = _draw(found, output)
    except OSError as error:
        raise InputError(f"{output} cannot be written to: {error.strerror}") from error
    return [*sentences, *plots, f"Written to {output}"]


def _draw(found: Populations, output: Path) -> list[str]:
    """Draw the plots; a sentence if they cannot be drawn."""
    from ..report import CURE, lacking

    if "matplotlib" in lacking():
        return [f"There are no plots, which need matplotlib: {CURE}"]
    from ..report.populations import draw_free_energies, draw_timescales

    draw_free_energies(found, output / "free_energies.png")
    draw_timescales(found, output / "timescales.png")
    return []


def paragraph(found: Populations, source: Region, target: Region, n_frames: int, n_stretches: int) -> list[str]:
    """The verdict first, then the numbers, each with its interval."""
    verdict = "Converged: every test is passed." if found.converged else "Not enough data: do not use these numbers."
    lines = [verdict, *(f"  {sentence}" for sentence in found.missing)]
    if not found.converged:
        lines.append(CURE)
    left_out = f", none from the first {found.skip_ps:g} ps of a stretch" if found.skip_ps else ""
    lines.append(
        f"{n_frames} frames in {n_stretches} stretches; transitions at a lag of {found.lag_ps:g} ps{left_out}. "
        "Intervals are 95 %, by bootstrap over families, of all methods together; single methods are in "
        "populations.csv."
    )
    lines.append(f"Population of {target}: {said(found.target)}.")
    lines.append(f"Mean first passage time from {source} to {target}: {said(found.there, 'ps')}.")
    lines.append(f"Mean first passage time back: {said(found.back, 'ps')}.")
    slowest = next(point.timescale_ps for point in found.scan if point.lag_ps == found.lag_ps)
    return [*lines, f"Slowest implied timescale: {said(slowest, 'ps')}."]


def said(number: Interval, unit: str = "") -> str:
    """A number with its interval, or that there is none."""
    if not np.isfinite([number.value, number.low, number.high]).all():
        return "cannot be said"
    return f"{number.value:.3g} ({number.low:.3g} to {number.high:.3g}){f' {unit}' if unit else ''}"


def numbers(found: Populations, source: Region, target: Region) -> list[Record]:
    """One row per method and number."""
    rows = []
    for method, given in found.answers.items():
        for quantity, number, unit in (
            (f"population of {target}", given.target, ""),
            (f"population of {source}", given.source, ""),
            (f"mean first passage time from {source} to {target}", given.there, "ps"),
            (f"mean first passage time from {target} to {source}", given.back, "ps"),
        ):
            rows.append({
                "method": method,
                "quantity": quantity,
                "unit": unit,
                **number._asdict(),
                "converged": int(found.converged),
            })  # fmt: skip
    return rows


def free_energies(found: Populations) -> list[Record]:
    """One row per method, coordinate and bin; free energies in kT, relative to the most populated bin."""
    rows = []
    for method, given in found.answers.items():
        for name, profile in given.profiles.items():
            with np.errstate(divide="ignore"):
                energies = -np.log(profile[:, [0, 2, 1]] / profile[:, 0].max())
            for i, (population, energy) in enumerate(zip(profile, energies, strict=True)):
                rows.append({
                    "method": method,
                    "coordinate": name,
                    "from": found.edges[name][i],
                    "to": found.edges[name][i + 1],
                    **dict(zip(("population", "low", "high"), population.tolist(), strict=True)),
                    **dict(zip(("free_energy_kt", "kt_low", "kt_high"), energy.tolist(), strict=True)),
                })  # fmt: skip
    return rows


def timescales(found: Populations) -> list[Record]:
    """One row per lag."""
    return [{"lag_ps": p.lag_ps, "timescale_ps": p.timescale_ps.value, "low": p.timescale_ps.low,
             "high": p.timescale_ps.high, "chosen": int(p.lag_ps == found.lag_ps)} for p in found.scan]  # fmt: skip
