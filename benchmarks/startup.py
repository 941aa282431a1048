"""Launch to first step of molecular dynamics, against the bare start of as many ranks that import the same libraries.

    python benchmarks/startup.py [--ranks 4 16 32 64] [--json FILE]

Goal: at most 1.5 times the bare start plus 3 seconds, with every stream open and the model still loading. Both find
their modules compiled, as pip installs them: a first start of each, which is not counted, sees to that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BARE = "from mpi4py import MPI; import numpy, openmm; MPI.COMM_WORLD.Barrier()"
LOCAL, RANKS = ROOT / "jobscripts" / "local.sh", ROOT / "jobscripts" / "ranks.sh"
FACTOR, ALLOWANCE = 1.5, 3.0
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
#: The run is ended once the step is known, however slow the machine is.
LONG = ("--duration", "10min")
QUICK = (*LONG, "--set", "steering.strategy=greedy", "--set", "training.model='none'")
#: A rank writes its spans every two seconds.
WRITTEN_SECONDS = 3.0


def bare_start(n_ranks: int) -> float:
    """Seconds until `n_ranks` ranks have imported MPI, NumPy and OpenMM and met once."""
    start = time.time()
    subprocess.run([RANKS, str(n_ranks), sys.executable, "-c", BARE], check=True, capture_output=True, env=ENVIRONMENT)
    return time.time() - start


def first_step(n_ranks: int, options: tuple[str, ...]) -> float:
    """Seconds from the launch of `n_ranks` ranks of the program until the first walker has stepped."""
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        command = [LOCAL, str(n_ranks), "--usecase", "cln025", *options, "--output", run]
        start, log = time.time(), Path(directory) / "log"
        with log.open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=ENVIRONMENT)
            while process.poll() is None and not steps(run):
                time.sleep(0.2)
            time.sleep(WRITTEN_SECONDS)
            found = steps(run)
            process.terminate()
            process.wait()
        if not found:
            sys.exit(f"no walker of {n_ranks} ranks has stepped:\n{log.read_text()}")
        return min(found) - start


def steps(run: Path) -> list[float]:
    """Unix times of the first steps of walkers, as far as they are written."""
    lines = [line for file in (run / "events").glob("simulation-*.jsonl") for line in file.read_text().splitlines()]
    return [json.loads(line)["start"] for line in lines if '"name": "first_step"' in line]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[4, 16, 32, 64])
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.ranks = [4]
    rows = []
    bare_start(1), first_step(4, QUICK)
    print(f"{'ranks':>6} {'bare s':>8} {'first step s':>13} {'goal s':>8}  first step / goal")
    for n in options.ranks:
        bare, first = bare_start(n), first_step(n, QUICK if options.quick else LONG)
        goal = FACTOR * bare + ALLOWANCE
        rows.append({"ranks": n, "bare_s": bare, "first_step_s": first, "goal_s": goal, "ratio": first / goal})
        print(f"{n:>6} {bare:>8.2f} {first:>13.2f} {goal:>8.2f}  {first / goal:.2f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
