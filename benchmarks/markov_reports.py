"""Reports per second of the complete loop on a Markov model, next to bare draws from the model.

    python benchmarks/markov_reports.py [--seconds 30] [--batch 50] [--json FILE]

A steered run of ``bba-go-markov`` on 4 ranks: 12 walkers, streams, windows, rounds of training and inference,
trajectories. Counted from the start of the loop, when models are still being loaded. Goal: 50,000 reports/s on two
cores.
The reference draws the states of as many walkers with NumPy and looks up the positions of their frames, on one core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from ddmd_mpi import config
from ddmd_mpi.analysis.markov_model import MarkovModel, read_model

ROOT = Path(__file__).resolve().parents[1]
GOAL = 50_000
N_WALKERS = 12


def bare(model: MarkovModel, seconds: float) -> float:
    """Reports per second of walkers that all draw at once, by searches in the rows of the cumulated matrix."""
    rng, cumulated = np.random.default_rng(1), model.matrix.cumsum(axis=1)
    state, steps, start = np.zeros(N_WALKERS, int), 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        chance = rng.random(N_WALKERS)
        found = [np.searchsorted(cumulated[s], x, side="right") for s, x in zip(state, chance, strict=True)]
        state = np.minimum(found, model.n_states - 1)
        model.positions[rng.integers(model.frames_of[state], model.frames_of[state + 1])]
        steps += 1
    return N_WALKERS * steps / spent


def in_loop(seconds: float, batch: int) -> dict[str, float]:
    """What a run gives: reports per second, rounds and restarts."""
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        command = [
            ROOT / "jobscripts" / "local.sh",
            "4",
            "--usecase",
            "bba-go-markov",
            "--duration",
            f"{seconds}s",
            "--output",
            run,
            "--set",
            f"emulation.batch_reports={batch}",
            "--set",
            "emulation.wait_for_rounds=false",
            "--set",
            f"streams.block_frames={max(256, 2 * N_WALKERS * batch)}",
        ]
        subprocess.run(command, check=True, capture_output=True)
        summary = json.loads((run / "summary.json").read_text())
        spans = [json.loads(line) for line in (run / "events" / "simulation-0000.jsonl").open()]
    totals = next(span for span in spans if span["name"] == "totals")
    return {
        "reports_per_second": summary["simulation"]["frames"] / totals["loop_s"],
        "dropped_blocks": summary["streams"]["dropped_blocks"],
        "rounds": summary["inference"]["rounds"],
        "versions": summary["training"]["versions"],
        "delivered": summary["steering"]["delivered"],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--batch", type=int, default=100, help="reports of a walker at once")
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    seconds = 5.0 if options.quick else options.seconds
    model = read_model(config.inputs() / "bba-go-markov.npz")
    before = bare(model, seconds / 10)
    result = in_loop(seconds, options.batch)
    reference = (before + bare(model, seconds / 10)) / 2
    speed = result["reports_per_second"]
    print(f"bare draws of {N_WALKERS} walkers  {reference:9,.0f} reports/s")
    print(f"complete loop, batches of {options.batch:<3} {speed:9,.0f} reports/s   ratio {speed / reference:.2f}")
    print(f"goal                         {GOAL:9,} reports/s   ratio {speed / GOAL:.2f}")
    print(", ".join(f"{name.replace('_', ' ')} {value:.0f}" for name, value in list(result.items())[1:]))
    if options.json:
        options.json.write_text(json.dumps({**result, "bare_per_second": reference, "goal": GOAL}, indent=1))


if __name__ == "__main__":
    main()
