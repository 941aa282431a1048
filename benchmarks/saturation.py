"""Frames a second through one aggregator, to its limit: emulated walkers report faster and faster, the rest is real.

    python benchmarks/saturation.py [--frames-per-s 100 400 1600] [--seconds 20] [--quick] [--json FILE]

`bba-go`, greedy, no model: three simulation ranks with 40 walkers each feed one aggregator, which archives every frame.
The limit is where the walkers fall behind (passed / offered below 0.95) or blocks are dropped. On a machine with fewer
cores than ranks that is the limit of the machine. So two columns divide the frames by the CPU seconds that they took:
what a rank would pass with a core of its own. Their ratio is the simulation ranks that one aggregator serves.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / "jobscripts" / "local.sh"
RANKS, SIMULATIONS, WALKERS = 6, 3, 40
SETTINGS = (
    "simulation.engine=emulated", f"simulation.walkers_per_rank={WALKERS}", "simulation.report_interval_ps=4",
    "simulation.segment_ps=400", f"ranks.simulation={SIMULATIONS}", "ranks.aggregation=1", "training.model=none",
    "steering.strategy=greedy", "run.drain=60",
)  # fmt: skip


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status(run: Path) -> dict:
    """The run's live view; {} before there is one."""
    try:
        return json.loads((run / "status.json").read_text())
    except (OSError, ValueError):
        return {}


def spent(run: Path) -> dict[str, float]:
    """CPU seconds of all ranks of each role."""
    found: dict[str, float] = defaultdict(float)
    for rank in json.loads((run / "environment.json").read_text())["ranks"]:
        found[rank["role"]] += cpu_seconds(rank["pid"])
    return found


def measure(frames_per_s: float, seconds: float) -> dict[str, float]:
    """The figures of one run that offers this many frames a second."""
    report_s = SIMULATIONS * WALKERS / frames_per_s
    with tempfile.TemporaryDirectory() as directory:
        run, log = Path(directory) / "run", Path(directory) / "log"
        assigned = [part for s in (*SETTINGS, f"emulation.report_seconds={report_s}") for part in ("--set", s)]
        command = [LOCAL, str(RANKS), "--usecase", "bba-go", "--duration", "10min", "--output", run, *assigned]
        with log.open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
            while process.poll() is None and not status(run).get("archived"):
                time.sleep(0.2)
            time.sleep(3)
            if process.poll() is not None:
                sys.exit(f"the run ended too early:\n{log.read_text()}")
            before, frames, clock = spent(run), status(run)["archived"], time.time()
            time.sleep(seconds)
            after, passed, elapsed = spent(run), status(run)["archived"] - frames, time.time() - clock
            process.terminate()
            process.wait()
        dropped = json.loads((run / "summary.json").read_text())["streams"]["dropped_blocks"]
    cpu = {role: after[role] - before[role] for role in after}
    return {
        "offered_per_s": frames_per_s,
        "passed_per_s": passed / elapsed,
        "dropped_blocks": dropped,
        "aggregator_core": cpu["aggregation"] / elapsed,
        "simulation_core": cpu["simulation"] / elapsed / SIMULATIONS,
        "aggregator_per_core": passed / max(cpu["aggregation"], 0.01),
        "simulation_per_core": passed / max(cpu["simulation"], 0.01),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames-per-s", type=float, nargs="+", default=[100, 400, 1600, 6400])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--quick", action="store_true", help="whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.frames_per_s, options.seconds = [60.0], 4.0
    rows = []
    print("offered/s  passed/s  ratio  dropped  cores: aggregator  simulation  frames/core s: aggr.  simulation  ratio")
    for frames_per_s in options.frames_per_s:
        row = measure(frames_per_s, options.seconds)
        rows.append(row)
        aggregator, simulation = row["aggregator_per_core"], row["simulation_per_core"]
        print(
            f"{frames_per_s:9.0f} {row['passed_per_s']:9.0f} {row['passed_per_s'] / frames_per_s:6.2f} "
            f"{row['dropped_blocks']:8.0f} {row['aggregator_core']:18.2f} {row['simulation_core']:11.2f} "
            f"{aggregator:21.0f} {simulation:11.0f} {aggregator / simulation:6.1f}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
