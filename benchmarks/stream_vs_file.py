"""Stream mode against file mode on one machine: Table II and Fig. 7 of the paper.

    python benchmarks/stream_vs_file.py [--md] [--comparison NAME ...] [--ranks N] [--scale X] [--seed N]
                                        [--figure FILE.png] [--quick] [--json FILE]

Without --md 120 simulations are emulated: their frames and the times of all stages are made up, everything else is real
(see [emulation] in docs/configuration.md). Three comparisons, each of the same system, seeds and number of ranks:

    published   the paper's stage times. F: simulation 591 s, training 282 s in every other iteration, inference 111 s;
                S: 576, 216 and 13 s. They differ by what the stages of each mode are given to do.
    with gaps   the same, and between F's stages what the published F lost there: it had 3.7 inferences an hour, so an
                iteration lasted 973 s, of which its stages explain 843 s.
    equal       F's stage times in both modes: only the concurrency tells.

All times are divided by --scale, but not the time that the program spends on I/O: its share at full length is that much
smaller. Each ratio stands beside its limit, which follows from the stage times alone; the
goals are those of the paper, 1.5, 8.4 and 74.9, and with equal costs the limit within 5 %. An iteration of simulation
is the molecular dynamics of one segment, also where a restart has ended it early. With --md both modes run real
molecular dynamics of CLN025, with a real model, for as long as each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

RANKS = Path(__file__).parents[1] / "jobscripts" / "ranks.sh"
SIMULATIONS, REPORTS, ITERATIONS, ROUNDS_OF_F = 120, 50, 6, 2
GOALS = {"published": (1.5, 8.4, 74.9), "with gaps": (1.5, 8.4, 74.9), "equal": ()}
STAGES = {"simulation": "segment", "training": "train_round", "inference": "inference_round"}
COLOURS = {"simulation": "#0072B2", "aggregation": "#E69F00", "training": "#009E73", "inference": "#B5539A"}


@dataclass(frozen=True)
class Costs:
    """Seconds of the stages, as published."""

    simulation: float
    training: float
    inference: float
    gap: float = 0.0  # between the iterations of file mode

    def per_hour(self, mode: str) -> tuple[float, float, float]:
        """Iterations an hour of simulation, training and inference, if nothing else took time."""
        if mode == "stream":
            return 3600 / self.simulation, 3600 / self.training, 3600 / self.inference
        iteration = self.simulation + self.training / ROUNDS_OF_F + self.inference + self.gap
        return 3600 / iteration, 3600 / iteration / ROUNDS_OF_F, 3600 / iteration


F, S = Costs(591, 282, 111), Costs(576, 216, 13)
COSTS = {"published": (F, S), "with gaps": (Costs(591, 282, 111, gap=973 - 843), S), "equal": (F, F)}


@dataclass(frozen=True)
class Rates:
    """What one run came to: iterations an hour and mean seconds of the stages, and the shares of time spent on I/O."""

    per_hour: dict[str, float]
    mean_s: dict[str, float]
    simulation_io: float
    total_io: float


class Finished:
    """The events and the summary of a run."""

    def __init__(self, directory: Path, reports: int):
        lines = [line for file in (directory / "events").glob("*.jsonl") for line in file.read_text().splitlines()]
        self.events = [json.loads(line) for line in lines]
        self.summary = json.loads((directory / "summary.json").read_text())
        self.reports = reports

    def spans(self, stage: str) -> list[dict]:
        """The spans of a stage by their ends; in stream mode without the last round, which the end of the run cuts."""
        of_stage = sorted((e for e in self.events if e["name"] == STAGES[stage]), key=lambda e: e["end"])
        if stage == "simulation" or self.summary["mode"] == "file":
            return of_stage
        return of_stage[:-1]

    @property
    def start(self) -> float:
        """Begin of the first simulation, Unix time."""
        return min(e["start"] for e in self.spans("simulation"))

    def rates(self) -> Rates:
        """What the run came to. In file mode the hours are those of whole iterations; in stream mode each stage's own,
        from its first begin to its last end, so that neither loading a library nor the first frames count.
        """
        spans, walkers = {stage: self.spans(stage) for stage in STAGES}, self.summary["simulation"]["walkers"]
        counts = {stage: float(len(s)) for stage, s in spans.items()}
        counts["simulation"] = sum(e["frames"] for e in spans["simulation"]) / self.reports / walkers
        begun = {stage: min(e["start"] for e in s) for stage, s in spans.items()}
        ended = {stage: s[-1]["end"] for stage, s in spans.items()}
        if self.summary["mode"] == "file":
            begun, ended = (dict.fromkeys(STAGES, f(d.values())) for f, d in ((min, begun), (max, ended)))
        streams, mean = self.summary["streams"], {}
        for stage, s in spans.items():
            mean[stage] = float(np.mean([e["end"] - e["start"] for e in s]))
        if self.summary["mode"] == "stream":
            mean["simulation"] = (ended["simulation"] - begun["simulation"]) / counts["simulation"]
        per_hour = {stage: 3600 * counts[stage] / (ended[stage] - begun[stage]) for stage in STAGES}
        return Rates(per_hour, mean, streams["simulation_io_fraction"], streams["total_io_fraction"])


def walkers_per_rank(mode: str, ranks: int) -> int:
    """So that there are 120 simulations."""
    simulating = ranks if mode == "file" else ranks - 3
    if SIMULATIONS % simulating:
        raise click.BadParameter(f"{SIMULATIONS} simulations cannot be shared by {simulating} ranks: try 8 or 15")
    return SIMULATIONS // simulating


def emulated(mode: str, costs: Costs, scale: float, ranks: int, iterations: int) -> list[str]:
    """The program's options for a run of 120 emulated simulations."""
    stages = costs.simulation + costs.training / ROUNDS_OF_F + costs.inference + costs.gap
    settings = {
        "simulation.engine": "emulated", "simulation.report_interval_ps": 4, "simulation.segment_ps": 4 * REPORTS,
        "simulation.walkers_per_rank": walkers_per_rank(mode, ranks), "ranks.aggregation": 1,
        "emulation.report_seconds": costs.simulation / REPORTS / scale,
        "emulation.training_seconds": costs.training / scale,
        "emulation.inference_seconds": (costs.inference + costs.gap) / scale,
        "training.model": "pca", "training.first_frames": SIMULATIONS, "training.retrain_frames": 1,
        "training.window_frames": 2000, "steering.window_frames": 2000, "steering.round_reports": 1,
        "aggregation.archive": "none", "run.drain": 60,
    }  # fmt: skip
    if mode == "file":
        settings |= {"file.retrain_every": ROUNDS_OF_F, "file.iterations": iterations}
        return ["--usecase", "bba-go", "--duration", "1h", *assignments(settings)]
    return ["--usecase", "bba-go", "--duration", f"{iterations * stages / scale + 10:.0f}s", *assignments(settings)]


def real(mode: str, duration: float) -> list[str]:
    """The program's options for a run of real molecular dynamics."""
    settings = {"file.retrain_every": ROUNDS_OF_F} if mode == "file" else {}
    return ["--usecase", "cln025", "--duration", f"{duration:.0f}s", *assignments(settings)]


def assignments(settings: dict[str, object]) -> list[str]:
    """Settings as options."""
    return [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]


def run(mode: str, ranks: int, seed: int, options: list[str], reports: int) -> Finished:
    """Run the program in one mode."""
    with TemporaryDirectory(prefix="ddmd-mpi-benchmark-") as temporary:
        directory = Path(temporary) / mode
        command = [
            str(RANKS),
            str(ranks),
            sys.executable,
            "-m",
            "ddmd_mpi",
            "--mode",
            mode,
            "--seed",
            str(seed),
            "--output",
            str(directory),
            *options,
        ]
        done = subprocess.run(
            command,
            env={**os.environ, "DDMD_MPI_BIN": str(Path(sys.executable).parent)},
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise click.ClickException(f"the {mode} run gave exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return Finished(directory, reports)


def table(title: str, rates: dict[str, Rates], scale: float, limits: dict[str, float], goals: dict[str, float]) -> None:
    """Table II, in the paper's seconds, and the ratios."""
    click.echo(f"\n{title}\n{'':8}" + "".join(f"{stage:>22}" for stage in STAGES))
    for mode, r in rates.items():
        cells = [f"{r.mean_s[s] * scale:9.1f} s {r.per_hour[s] / scale:6.2f} it/h" for s in STAGES]
        click.echo(f"{mode:8}" + "".join(f"{cell:>22}" for cell in cells))
    ratios = {s: rates["stream"].per_hour[s] / rates["file"].per_hour[s] for s in STAGES}
    click.echo(f"{'ratio':8}" + "".join(f"{ratios[s]:22.2f}" for s in STAGES))
    for name, values in (("limit", limits), ("goal", goals)):
        if values:
            click.echo(f"{name:8}" + "".join(f"{values[s]:22.2f}" for s in STAGES))
    for mode, r in rates.items():
        click.echo(
            f"{mode}: I/O takes {100 * r.simulation_io:.3f} % of the time of simulation ranks, "
            f"{100 * r.total_io:.3f} % of all; at full length {100 * r.simulation_io / scale:.4f} % and "
            f"{100 * r.total_io / scale:.4f} %"
        )


def timeline(runs: dict[str, Finished], scale: float, file: Path) -> None:
    """Fig. 7: one row per role and rank, of many simulations a few; a bar for each iteration."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    for axes, (mode, done) in zip(figure.subplots(len(runs), sharex=True), runs.items(), strict=True):
        rows = {("simulation", w): "simulation" for w in (0, 40, 80)}
        others = {(e["role"], e["rank"]) for e in done.events if e["role"] in COLOURS and e["role"] != "simulation"}
        rows |= {row: row[0] for row in others}
        rows = dict(sorted(rows.items(), key=lambda row: list(COLOURS).index(row[1])))
        for y, ((role, number), name) in enumerate(rows.items()):
            own = [
                e
                for e in done.events
                if e["name"] == STAGES.get(role, "block")
                and (e["walker"] if role == "simulation" else e["rank"]) == number
                and e["role"] == role
            ]
            bars = [((e["start"] - done.start) * scale / 3600, (e["end"] - e["start"]) * scale / 3600) for e in own]
            axes.broken_barh(bars, (y - 0.4, 0.8), facecolor=COLOURS[name], edgecolor="white", linewidth=0.3)
        axes.set_yticks(range(len(rows)), [f"{role} {number}" for role, number in rows])
        axes.invert_yaxis()
        axes.set_title(f"{mode} mode", loc="left")
    axes.set_xlabel("hours, as published" if scale > 1 else "hours")
    figure.savefig(file, dpi=150)


@click.command(help=__doc__)
@click.option("--md", is_flag=True, help="Real molecular dynamics and a real model.")
@click.option("--comparison", "names", multiple=True, type=click.Choice(list(COSTS)), default=list(COSTS))
@click.option("--ranks", default=8, show_default=True)
@click.option("--scale", default=40.0, show_default=True, help="The paper's seconds in one of ours.")
@click.option("--duration", default=120.0, show_default=True, help="Of each run with --md, s.")
@click.option("--seed", default=1, show_default=True)
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the timeline of the last comparison.")
@click.option("--quick", is_flag=True, help="One comparison, seconds long: whether the script runs, no figures.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    md: bool,
    names: tuple[str, ...],
    ranks: int,
    scale: float,
    duration: float,
    seed: int,
    figure: Path | None,
    quick: bool,
    json_file: Path | None,
) -> None:
    """Measure, and print the tables."""
    if quick:
        names, scale = names[:1], 500.0
    iterations = 2 if quick else ITERATIONS
    numbers, done = {}, {}
    for name, costs in [("real molecular dynamics", None)] if md else [(name, COSTS[name]) for name in names]:
        if costs is None:
            scale, limits, goals = 1.0, {}, {}
            done = {mode: run(mode, ranks, seed, real(mode, duration), reports=REPORTS) for mode in ("file", "stream")}
        else:
            f, s = costs[0].per_hour("file"), costs[1].per_hour("stream")
            limits = {stage: b / a for stage, a, b in zip(STAGES, f, s, strict=True)}
            goals = dict(zip(STAGES, GOALS[name], strict=True)) if GOALS[name] else {}
            done = {
                mode: run(mode, ranks, seed, emulated(mode, c, scale, ranks, iterations), REPORTS)
                for mode, c in zip(("file", "stream"), costs, strict=True)
            }
        rates = {mode: finished.rates() for mode, finished in done.items()}
        table(name, rates, scale, limits, goals)
        numbers[name] = {mode: vars(r) for mode, r in rates.items()} | {"limits": limits}
    if figure is not None:
        timeline(done, scale, figure)
    if json_file is not None:
        json_file.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
