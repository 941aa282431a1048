"""Engines that are programs beside the bare program, and how soon a restart steps again.

    python benchmarks/engines.py [--system cln025] [--program amber=PATH] [--seconds 30] [--turns 2] [--json FILE]

Alanine dipeptide (22 atoms, a report every 50 ps) or CLN025 (166 atoms, 10 ps) in a vacuum. The bare program runs all
steps in one go; the engine runs them in two segments, each of which takes at least 30 s, and takes every frame. Both
are bound to one core, with this process, and take turns. Goals: at most 3 % above the bare program, and 0.5 s (sander,
LAMMPS) or 1.5 s (GROMACS) from a restart command until the program steps again. Without --program those of ``make
programs`` are taken; for CLN025 they make its files, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

from ddmd_mpi import config
from ddmd_mpi.cli.engine_checks import small_molecule
from ddmd_mpi.config.schema import Config
from ddmd_mpi.md import engines
from ddmd_mpi.md.affinity import stay_on_one_core
from ddmd_mpi.md.programs.child import child_environment
from ddmd_mpi.md.programs.engine import ProgramEngine
from ddmd_mpi.md.topologies import Topology, load_topology

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]
from lammps_files import lammps  # noqa: E402
from programs import chignolin, force_fields, pdb2gmx  # noqa: E402

BIN = ROOT / ".venv-programs" / "bin"
PROGRAMS = {"amber": BIN / "sander", "gromacs": BIN / "gmx", "lammps": BIN / "lmp"}
TIMESTEP_FS, SEGMENTS, TURNS = 2.0, 2, 2
REPORT_STEPS = {"alanine": 25_000, "cln025": 5_000}
GOAL, RESTART_GOALS = 0.03, {"amber": 0.5, "gromacs": 1.5, "lammps": 0.5}
RESTARTS = 20


def cln025(name: str, place: Path) -> dict[str, dict]:
    """Settings of CLN025 for an engine, whose files are made in a directory."""
    system = {"target": str(config.inputs() / "cln025-target.pdb"), "descriptor": ["CA"]}
    if name == "gromacs":
        topology, start = pdb2gmx(place, config.inputs() / "cln025-start.pdb")
        system["parameters"] = [str(force_fields())]
    else:
        topology, start = chignolin(place)
    engine = {}
    if name == "lammps":
        start, topology, given = lammps(place, topology, start)
        engine["input"] = str(given)
    return {"system": {**system, "start": str(start), "topology": str(topology)}, "engine": engine}


class Bench:
    """One engine on one molecule, in a directory of its own."""

    def __init__(self, name: str, program: Path, place: Path, report_steps: int, system: str = "alanine"):
        self.name, self.program, self.report_steps = name, str(program), report_steps
        self.place = place / name
        self.place.mkdir()
        self.given = cln025(name, self.place) if system == "cln025" else {}
        (self.place / "topology").mkdir(parents=True)
        settings = self.settings(1)
        self.topology: Topology = load_topology(settings, 0)
        engines.keep_topology(settings, self.topology, self.place / "topology")

    def settings(self, reports: int) -> Config:
        """Settings with segments of this many reports."""
        found = small_molecule(self.name, self.program, self.report_steps, TIMESTEP_FS, reports).plain()
        for section, entries in self.given.items():
            found[section] |= entries
        return config.validate(found)

    def engine(self, reports: int) -> ProgramEngine:
        """An engine with segments of this many reports, on the start."""
        engine = engines.engine_maker(self.settings(reports), None, "CPU", self.place)(self.topology, 1)
        engine.start(1)
        return engine

    def bare(self, reports: int) -> tuple[float, float]:
        """Wall and processor time of the program alone, s."""
        engine = self.engine(reports)
        with tempfile.TemporaryDirectory() as directory:
            command = engine._program.run(Path(directory), engine._start, 1)
            leave_out_the_stream(Path(directory))
            clock, cpu = time.perf_counter(), processor_time()
            subprocess.run(command, cwd=directory, env=child_environment(1), check=True, capture_output=True)
            spent = time.perf_counter() - clock, processor_time() - cpu
        engine.free()
        return spent

    def segments(self, reports: int) -> tuple[float, float]:
        """Wall and processor time of the engine and its program, s."""
        engine = self.engine(reports)
        clock, cpu = time.perf_counter(), processor_time()
        for _ in range(SEGMENTS * reports):
            while not engine.poll():
                time.sleep(engine.pause_s)
            engine.state()
        while engine._child.exit_code is None:
            time.sleep(engine.pause_s)
        spent = time.perf_counter() - clock, processor_time() - cpu
        engine.free()
        return spent

    def restarts(self, n: int) -> list[float]:
        """Seconds from a restart command in mid-segment until the program steps again."""
        engine = self.engine(1000)
        engine.advance(self.report_steps)
        state, found = engine.state(), []
        for _ in range(n):
            time.sleep(0.05)
            clock = time.perf_counter()
            engine.set_state(state.positions, state.velocities, state.box)
            engine.advance(1)
            found.append(time.perf_counter() - clock)
        engine.free()
        return found


def leave_out_the_stream(directory: Path) -> None:
    """Alone, LAMMPS would wait for somebody who takes its frames."""
    for script in directory.glob("in.lammps"):
        kept = [line for line in script.read_text().splitlines() if " imd " not in line]
        script.write_text("\n".join([*kept, ""]))


def processor_time() -> float:
    """Of this process and of the children that have ended, s."""
    return sum(u.ru_utime + u.ru_stime for u in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


def measure(bench: Bench, seconds: float, turns: int, n_restarts: int) -> dict[str, float]:
    """The figures of an engine."""
    two, four = (bench.bare(n)[1] for n in (2, 4))
    reports = max(2, round(seconds / max((four - two) / 2, 1e-3)))
    bare, engine = [], []
    for _ in range(turns):
        bare.append(bench.bare(SEGMENTS * reports))
        engine.append(bench.segments(reports))
    wall, cpu = (statistics.median(e[i] / b[i] for e, b in zip(engine, bare, strict=True)) - 1 for i in (0, 1))
    restarts = bench.restarts(n_restarts)
    return {
        "segment_s": statistics.median(e[0] for e in engine) / SEGMENTS,
        "steps": SEGMENTS * reports * bench.report_steps,
        "bare_wall_s": statistics.median(b[0] for b in bare),
        "overhead_wall": wall,
        "overhead_cpu": cpu,
        "restart_s": statistics.median(restarts),
        "restart_max_s": max(restarts),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", action="append", default=[], metavar="ENGINE=PATH")
    parser.add_argument("--system", choices=REPORT_STEPS, default="alanine")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--seconds", type=float, default=30.0, help="of a segment")
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    programs = dict(text.split("=", 1) for text in options.program) or PROGRAMS
    work = (0.2, 1, 2) if options.quick else (options.seconds, options.turns, RESTARTS)
    stay_on_one_core(0)
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, program in programs.items():
            if not Path(program).exists():
                print(f"{name}: there is no program {program}: make programs")
                continue
            steps = REPORT_STEPS[options.system] // (100 if options.quick else 1)
            bench = Bench(name, Path(program), Path(directory), steps, options.system)
            found[name] = figures = measure(bench, *work)
            described = engines.described(bench.settings(1))
            print(f"{described}: {figures['steps']} steps, {figures['segment_s']:.1f} s a segment")
            for kind in ("wall", "cpu"):
                over = figures[f"overhead_{kind}"]
                print(f"  {kind} time above the bare program  {over:+.2%}   goal {GOAL:.0%}, ratio {over / GOAL:.2f}")
            goal, median = RESTART_GOALS[name], figures["restart_s"]
            print(
                f"  restart to stepping               {median:.3f} s (at most {figures['restart_max_s']:.3f} s)   "
                f"goal {goal} s, ratio {median / goal:.2f}"
            )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
