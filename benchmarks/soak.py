"""Memory, file descriptors and queues of every rank of a long run: do they stay as they were after the warm-up?

    python benchmarks/soak.py [--ranks 8] [--usecase bba-go] [--minutes 30] [--set section.key=value ...] [--json FILE]

The first third of the run is the warm-up: the windows fill, the libraries take what they want. Printed for each rank:
the median of its resident memory in the sixth of the run after that, the median in the last sixth, their ratio, and the
same of open file descriptors and threads. Goals: memory grows by less than 1 %, descriptors and threads not at all,
and no queue is longer than `streams.queue_blocks`. The run directory is deleted unless --keep names one.
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
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / "jobscripts" / "local.sh"
SAMPLE_SECONDS = 5.0
GOAL = 0.01


class Sample(NamedTuple):
    """What the kernel says of a process."""

    time: float  # s since the first frame
    memory_mb: float  # resident, 10^6 bytes
    descriptors: int
    threads: int


def sample(pid: int, now: float) -> Sample | None:
    """A sample of one process, None once it has ended."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return Sample(
            now, int(status["VmRSS"].split()[0]) * 1.024e-3, len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"])
        )
    except (OSError, KeyError):
        return None


def read_json(path: Path) -> dict:
    """A file that the run replaces whole; nothing before it is there."""
    try:
        return json.loads(path.read_text())
    except OSError:
        return {}


def watch(process: subprocess.Popen, run: Path, interval: float) -> dict[int, list[Sample]]:
    """Samples of every rank from the run's first frame to its end."""
    samples: dict[int, list[Sample]] = {}
    begun = None
    while process.poll() is None:
        time.sleep(interval)
        view = read_json(run / "status.json")
        if begun is None and not view.get("frames"):
            continue
        begun = begun or time.monotonic()
        for rank in read_json(run / "environment.json")["ranks"]:
            taken = sample(rank["pid"], time.monotonic() - begun)
            if taken is not None and view["left_s"] > 0:
                samples.setdefault(rank["rank"], []).append(taken)
    return samples


def compare(samples: list[Sample]) -> dict[str, tuple[float, float]]:
    """Medians after the warm-up and at the end, by quantity."""
    table = np.array(samples)
    part = table[:, 0] / table[-1, 0]
    early, late = table[(part > 1 / 3) & (part <= 1 / 2)], table[part > 5 / 6]
    medians = zip(np.median(early, axis=0), np.median(late, axis=0), strict=True)
    return dict(zip(Sample._fields, ((float(a), float(b)) for a, b in medians), strict=True))


def main() -> int:
    """Print the table; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--usecase", default="bba-go")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.ranks, options.minutes = 4, 0.15
        options.set.append("training.model='none'")
        options.set.append("steering.strategy=greedy")
    with tempfile.TemporaryDirectory() as directory:
        run = options.keep or Path(directory) / "run"
        command = [
            LOCAL,
            str(options.ranks),
            "--usecase",
            options.usecase,
            "--duration",
            f"{options.minutes}min",
            "--output",
            run,
            "--set",
            "output.progress=none",
            *(text for s in options.set for text in ("--set", s)),
        ]
        with subprocess.Popen(command) as process:
            samples = watch(process, run, 0.25 if options.quick else SAMPLE_SECONDS)
        if process.returncode:
            return process.returncode
        ranks = {r["rank"]: r["role"] for r in read_json(run / "environment.json")["ranks"]}
        summary = read_json(run / "summary.json")
    rows = {rank: compare(samples[rank]) for rank in sorted(samples)}
    print(
        f"{options.usecase} on {options.ranks} ranks, {options.minutes:g} min: "
        f"{summary['simulation']['frames']} frames, "
        f"{summary['steering']['decisions']} decisions, {summary['training']['versions']} model versions, "
        f"{summary['inference']['rounds']} rounds of inference"
    )
    print(f"{'rank':<20}{'MB after warm-up':>18}{'MB at the end':>15}{'ratio':>9}{'descriptors':>14}{'threads':>10}")
    missed = []
    for rank, row in rows.items():
        (m0, m1), (d0, d1), (t0, t1) = row["memory_mb"], row["descriptors"], row["threads"]
        print(
            f"{rank:>4} {ranks[rank]:<15}{m0:>18.1f}{m1:>15.1f}{m1 / m0:>9.4f}"
            f"{d0:>7.0f} {d1:>6.0f}{t0:>6.0f} {t1:>3.0f}"
        )
        if m1 / m0 - 1 > GOAL or d1 > d0 or t1 > t0:
            missed.append(rank)
    queue = summary["streams"]["max_queue"]
    print(f"longest queue {queue} blocks; goals missed by ranks {missed or 'none'}")
    if options.json:
        options.json.write_text(
            json.dumps(
                {
                    "ranks": {f"{r} {ranks[r]}": row for r, row in rows.items()},
                    "max_queue": queue,
                    "summary": summary,
                    "goal": GOAL,
                    "samples": samples,
                },
                indent=1,
            )
        )
    return int(bool(missed) and not options.quick)


if __name__ == "__main__":
    sys.exit(main())
