"""Launch to first step of molecular dynamics, against the bare start of as many ranks that import the same libraries.

    python benchmarks/startup.py [--ranks 4 16 32] [--json FILE]

Goal: at most 1.5 times the bare start plus 3 seconds, with every stream open and the model still loading.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BARE = "from mpi4py import MPI; import numpy, openmm; MPI.COMM_WORLD.Barrier()"
LOCAL, RANKS = ROOT / "jobscripts" / "local.sh", ROOT / "jobscripts" / "ranks.sh"
FACTOR, ALLOWANCE = 1.5, 3.0


def bare_start(n_ranks: int) -> float:
    """Seconds until `n_ranks` ranks have imported MPI, NumPy and OpenMM and met once."""
    start = time.time()
    subprocess.run([RANKS, str(n_ranks), sys.executable, "-c", BARE], check=True, capture_output=True)
    return time.time() - start


def first_step(n_ranks: int) -> float:
    """Seconds from the launch of `n_ranks` ranks of the program until the first walker has stepped."""
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        options = ["--usecase", "cln025", "--duration", f"{10 + n_ranks}s", "--output", run, "--set", "run.drain=60"]
        start = time.time()
        subprocess.run([LOCAL, str(n_ranks), *options], check=True, capture_output=True)
        spans = [json.loads(line) for file in (run / "events").glob("simulation-*.jsonl") for line in file.open()]
    return min(span["start"] for span in spans if span["name"] == "first_step") - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[4, 16, 32])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"{'ranks':>6} {'bare s':>8} {'first step s':>13} {'goal s':>8}  first step / goal")
    for n in options.ranks:
        bare, first = bare_start(n), first_step(n)
        goal = FACTOR * bare + ALLOWANCE
        rows.append({"ranks": n, "bare_s": bare, "first_step_s": first, "goal_s": goal, "ratio": first / goal})
        print(f"{n:>6} {bare:>8.2f} {first:>13.2f} {goal:>8.2f}  {first / goal:.2f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
