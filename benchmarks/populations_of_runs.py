"""Are the answers of ``ddmd-mpi populations`` right for real runs of the program?

    python benchmarks/populations_of_runs.py [--seeds 20] [--steered-ns 4] [--unsteered-ns 16] [--strategy ml_rmsd]
                                             [--quick] [--json FILE]

Runs of the use case `bba-go-markov`, whose populations and passage times are known exactly: steered first, then
resumed without restarts. Times are those of each walker. Printed are the answers of every seed as ratios to the exact
numbers, and how often the intervals contain them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ddmd_mpi import config
from ddmd_mpi.analysis import open_run
from ddmd_mpi.analysis.asked import ask, default_coordinates, default_regions
from ddmd_mpi.analysis.markov_model import MarkovModel, read_model
from ddmd_mpi.analysis.populations import estimate
from ddmd_mpi.md.structures import load_structures
from ddmd_mpi.structure.rmsd import superposed_rmsd

ROOT = Path(__file__).resolve().parents[1]
USECASE, NEAR, FAR = "bba-go-markov", 3.0, 6.0


def exact() -> dict[str, float]:
    """Population of RMSD < 3 angstrom, and passage times from beyond 6 angstrom and back, ps."""
    settings = config.load(USECASE)
    model = read_model(settings.emulation.markov_model)
    rmsd = 10.0 * superposed_rmsd(model.positions, load_structures(settings.system).target_nm)
    near, far = (
        np.bincount(model.state, inside, model.n_states) / np.bincount(model.state)
        for inside in (rmsd < NEAR, rmsd > FAR)
    )
    return {
        "population": float(model.stationary @ near),
        "there": passage(model, far, near),
        "back": passage(model, near, far),
    }


def passage(model: MarkovModel, source: np.ndarray, target: np.ndarray) -> float:
    """Mean first passage time, ps, between regions that hold these shares of each state's frames."""
    stays = model.matrix * (1.0 - target)
    times = np.linalg.solve(np.eye(model.n_states) - stays, np.ones(model.n_states))
    mass = model.stationary * source
    return float(model.lag_ps * mass @ times / mass.sum())


def launch(*options: object) -> None:
    """One run of the program on four ranks."""
    command = [ROOT / "jobscripts/local.sh", "4", *options]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{options} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def trial(directory: Path, seed: int, options: argparse.Namespace) -> dict:
    """The answers of one run."""
    total = options.steered_ns + options.unsteered_ns
    length = ("--set", f"simulation.walker_length_ns={options.steered_ns}")
    launch("--usecase", USECASE, "--duration", "10min", "--output", directory, *length,
           "--set", f"run.seed={seed}", "--set", f"steering.strategy={options.strategy}")  # fmt: skip
    length = ("--set", f"simulation.walker_length_ns={total}")
    launch("--resume", directory, "--duration", "10min", *length, "--set", "steering.strategy=none")
    run = open_run(directory)
    data, question = ask(run, default_coordinates(run), *default_regions(run))
    found = estimate(data, question, options.samples, seed)
    return {
        "seed": seed, "frames": len(data), "raw": float(question.target.mean()), "converged": found.converged,
        "lag_ps": found.lag_ps, "skip_ps": found.skip_ps, "population": found.target[:3], "there": found.there[:3],
        "back": found.back[:3], "missing": found.missing,
    }  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steered-ns", type=float, default=4.0)
    parser.add_argument("--unsteered-ns", type=float, default=16.0)
    parser.add_argument("--strategy", default="ml_rmsd")
    parser.add_argument("--samples", type=int, default=100, help="of the bootstrap")
    parser.add_argument("--quick", action="store_true", help="one short run: whether the script works, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.steered_ns, options.unsteered_ns, options.samples = 1, 0.4, 0.4, 10
    truth = exact()
    print("exact: " + ", ".join(f"{name} {value:.4g}" for name, value in truth.items()))
    print("seed  frames  raw/exact  converged  population/exact      passage/exact         back/exact")
    trials = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as directory:
            trials.append(trial(Path(directory) / "run", seed, options))
        row = trials[-1]
        ratios = ["{:.2f} ({:.2f} to {:.2f})".format(*np.array(row[name]) / truth[name]) for name in truth]
        print(
            f"{seed:4d}  {row['frames']:6d}  {row['raw'] / truth['population']:9.2f}  {row['converged']!s:9}  "
            + "  ".join(ratios), flush=True,
        )  # fmt: skip
    converged = [row for row in trials if row["converged"]]
    print(f"converged: {len(converged)} of {len(trials)}")
    for name, value in truth.items():
        within = sum(row[name][1] <= value <= row[name][2] for row in trials)
        wrong = sum(not row[name][1] <= value <= row[name][2] for row in converged)
        near = sum(1 / 1.5 < row[name][0] / value < 1.5 for row in converged)
        print(f"{name}: intervals contain it in {within}; converged and wrong {wrong}; within a factor 1.5 {near}")
    if options.json:
        options.json.write_text(json.dumps({"exact": truth, "trials": trials}, indent=1))


if __name__ == "__main__":
    main()
