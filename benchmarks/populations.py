"""Are the intervals and the verdict of ``ddmd-mpi populations`` right, and how long do they take?

    python benchmarks/populations.py [--seeds 50] [--chains seen hidden] [--strategies greedy ml_rmsd]
                                     [--steps 3000 1500+1500 1000+3000] [--frames 100000 1000000]
                                     [--quick] [--json FILE]

Walkers on Markov chains whose populations and passage times are known, steered by the policy of the program; of
1000+3000 steps the last 3000 are without restarts. Printed are the share of seeds whose intervals contain the truth,
the share with the verdict "converged", and the share with that verdict whose intervals are wrong. `seen` shows its
states with noise; `hidden` has a slow motion that no coordinate shows. Then the time and memory that runs of many
frames take.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from markov_chain import ask, chain, steered_walk  # noqa: E402

from ddmd_mpi.analysis.populations import estimate  # noqa: E402
from ddmd_mpi.analysis.transitions import Stretches, stretches  # noqa: E402

HIDDEN = {"seen": 0.0, "hidden": 0.002}
STRETCH = 20  # frames, of runs that are timed


def trial(kind: str, strategy: str, steps: str, seed: int, n_samples: int) -> dict:
    """The estimates of one steered run, beside the truth."""
    truth = chain(HIDDEN[kind])
    steered, _, unsteered = steps.partition("+")
    data, question = steered_walk(seed, int(steered), strategy, truth, int(unsteered or 0))
    found = estimate(data, question, n_samples, seed)
    return {
        "chain": kind, "strategy": strategy, "steps": steps, "seed": seed, "frames": len(data),
        "raw": float(question.target.mean()), "converged": found.converged, "lag": found.lag_ps,
        "population": [truth.population, *found.target[:3]], "passage": [truth.passage, *found.there[:3]],
        "missing": found.missing,
    }  # fmt: skip


def inside(numbers: list[float]) -> bool:
    """Whether the interval contains the truth."""
    truth, _, low, high = numbers
    return low <= truth <= high


def summary(trials: list[dict]) -> str:
    """Rates over the seeds of one chain, strategy and length."""
    converged = [t for t in trials if t["converged"]]
    covered = np.mean([inside(t["population"]) for t in trials])
    wrong = np.mean([t["converged"] and not inside(t["population"]) for t in trials])
    slower = [t["passage"][1] / t["passage"][0] for t in converged]
    near = f"{np.mean([1 / 1.5 < s < 1.5 for s in slower]):.2f}" if slower else "-"
    raw = np.mean([t["raw"] - t["population"][0] for t in trials])
    return f"{len(converged) / len(trials):9.2f}  {covered:7.2f}  {wrong:15.2f}  {near:>20}  {raw:9.2f}"


def rates(options: argparse.Namespace) -> list[dict]:
    """Print the table of rates; the trials."""
    trials = []
    print("chain   strategy      steps  seeds  converged  covered  confident wrong  passage within 1.5  raw error")
    for kind in options.chains:
        for strategy in options.strategies:
            for steps in options.steps:
                own = [trial(kind, strategy, steps, seed, options.samples) for seed in range(options.seeds)]
                print(f"{kind:<7} {strategy:<9} {steps:>9}  {len(own):5d}  {summary(own)}", flush=True)
                trials += own
    return trials


def long_run(n_frames: int) -> Stretches:
    """Frames in short stretches of a walk in a double well, two coordinates and noise."""
    random, n = np.random.default_rng(0), n_frames // STRETCH
    place = np.empty((STRETCH, n))
    place[0] = random.uniform(-1.5, 1.5, n)
    for before, now in zip(place[:-1], place[1:], strict=True):
        now[:] = before - 0.2 * before * (before**2 - 1) + 0.3 * random.standard_normal(n)
    rmsd = 5.0 + 3.0 * place.T.ravel()
    features = np.column_stack([rmsd, np.exp(-rmsd / 5) + 0.02 * random.standard_normal(len(rmsd))])
    begins = np.arange(len(rmsd)) % STRETCH == 0
    return stretches(features, begins, np.zeros(len(rmsd), bool))


def speed(options: argparse.Namespace) -> list[dict]:
    """Print the table of times; its rows."""
    rows = []
    print(f"frames     CPU s  wall s  GB at most  ratio to 10^4 frames ({options.timed_samples} samples)")
    for n_frames in [10_000, *options.frames]:
        data = long_run(n_frames)
        begun, cpu = time.perf_counter(), time.process_time()
        estimate(data, ask(data, source=7.0, target=3.0), options.timed_samples)
        row = {"frames": n_frames, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - begun}
        row["gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        rows.append(row)
        ratio = row["cpu_s"] / rows[0]["cpu_s"]
        print(f"{n_frames:8d}  {row['cpu_s']:6.1f}  {row['wall_s']:6.1f}  {row['gb']:10.2f}  {ratio:8.1f}", flush=True)
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", nargs="*", default=list(HIDDEN), choices=list(HIDDEN))
    parser.add_argument("--strategies", nargs="+", default=["greedy", "ml_rmsd"])
    parser.add_argument("--steps", nargs="+", default=["3000", "1500+1500", "1000+3000"])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--samples", type=int, default=50, help="of the bootstrap")
    parser.add_argument("--frames", nargs="*", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--timed-samples", type=int, default=100, help="of the bootstrap, where time is taken")
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.chains, options.strategies, options.steps = ["seen"], ["greedy"], ["150+50"]
        options.seeds, options.samples, options.timed_samples, options.frames = 2, 10, 10, [20_000]
    found = {"trials": rates(options) if options.chains else [], "times": speed(options)}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
