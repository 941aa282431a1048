"""What a simulation rank in the full loop spends outside the integrator, and its speed next to bare OpenMM.

    python benchmarks/simulation_overhead.py [--usecase cln025] [--seconds 60] [--json FILE]

Reports come every 50 ps, as in the paper (section IV-C). Goal: at most 0.3 % of the wall time outside the integrator,
and the speed of bare OpenMM with the same integrator on one core. Bare OpenMM runs before and after the loop, in a
process of its own, bound to one core as the rank is. The minimisation at the start is not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ddmd_mpi import config
from ddmd_mpi.md.affinity import stay_on_one_core
from ddmd_mpi.md.openmm_engine import OpenMMEngine
from ddmd_mpi.md.structures import load_structures

ROOT = Path(__file__).resolve().parents[1]
REPORT_PS = 50.0
GOAL = 0.003


def bare(usecase: str, seconds: float) -> float:
    """ns/day of the engine alone, in a process of its own."""
    command = [sys.executable, __file__, "--bare", usecase, str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def bare_process(usecase: str, seconds: float) -> float:
    """What that process does."""
    stay_on_one_core(0)
    settings = config.load(usecase)
    engine = OpenMMEngine(load_structures(settings.system), settings.simulation, settings.system, seed=1)
    engine.start(1)
    engine.advance(2000)
    steps, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        engine.advance(2000)
        steps += 2000
    return steps * settings.simulation.timestep_fs * 1e-6 / spent * 86400


def in_loop(usecase: str, seconds: float, length_ns: float | None) -> dict[str, float]:
    """Totals of the simulation rank of a steered run on 4 ranks."""
    settings = [
        f"simulation.report_interval_ps={REPORT_PS}",
        "simulation.segment_ps=1000",
        "steering.round_reports=1",
        "steering.strategy=greedy",
        "training.model='none'",
        "simulation.walkers_per_rank=2",
    ]
    if length_ns:
        settings.append(f"simulation.walker_length_ns={length_ns}")
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        command = [
            ROOT / "jobscripts" / "local.sh",
            "4",
            "--usecase",
            usecase,
            "--duration",
            f"{seconds}s",
            "--output",
            run,
            *(text for s in settings for text in ("--set", s)),
        ]
        subprocess.run(command, check=True, capture_output=True)
        spans = [json.loads(line) for line in (run / "events" / "simulation-0000.jsonl").open()]
    return next(span for span in spans if span["name"] == "totals")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--usecase", default="cln025")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.usecase, options.seconds = "bba-go", 4.0
    settings = config.load(options.usecase)
    before = bare(options.usecase, options.seconds / 4)
    totals = in_loop(options.usecase, 300.0 if options.quick else options.seconds, 1.0 if options.quick else None)
    reference = (before + bare(options.usecase, options.seconds / 4)) / 2
    speed = totals["steps"] * settings.simulation.timestep_fs * 1e-6 / totals["md_s"] * 86400
    totals["loop_s"] -= totals["start_s"]
    outside = 1 - totals["md_s"] / totals["loop_s"]
    names = ("state", "io", "features", "mailbox", "trajectory")
    parts = {name: totals.get(f"{name}_s", 0.0) / totals["loop_s"] for name in names}
    print(f"{options.usecase}, a report every {REPORT_PS:.0f} ps, {totals['loop_s']:.0f} s of loop")
    print(f"outside the integrator   {outside:.3%}   goal {GOAL:.1%}, ratio {outside / GOAL:.2f}")
    for name, fraction in parts.items():
        print(f"  {name:<22} {fraction:.4%}")
    print(f"ns/day in the loop       {speed:.1f}   bare OpenMM {reference:.1f}, ratio {speed / reference:.3f}")
    if options.json:
        result = {"outside": outside, "goal": GOAL, "parts": parts, "ns_per_day": speed, "bare_ns_per_day": reference}
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        print(bare_process(sys.argv[2], float(sys.argv[3])))
    else:
        main()
