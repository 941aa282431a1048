"""Is a walker at its temperature after a restart with drawn velocities? Kinetic energy of the reports, by the mean of
reports of segments that were never restarted.

    python benchmarks/restart_temperature.py [--usecase cln025] [--restarts 200] [--quick] [--json FILE]

One engine runs a segment, restarts from its last frame, runs ten reports and goes back to that frame with the frame's
own velocities. Four ways: `redrawn`, the program's for a frame with velocities; `drawn`, the program's for positions
alone; `shifted`, `Context.setVelocitiesToTemperature`, which shifts Maxwell velocities back by half a step; and
`unshifted`, Maxwell velocities without a shift. Goal: the first two within 1 %. The other two show what goes wrong: see
md/velocities.py. Reports come every 10 steps, so that the heat has no time to go. A second table has the time of a
restart, and its ratio to a time step.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm

from ddmd_mpi import config
from ddmd_mpi.md import openmm_engine as engines
from ddmd_mpi.md.openmm_engine import OpenMMEngine
from ddmd_mpi.md.prepared import State
from ddmd_mpi.md.structures import build_system, load_structures
from ddmd_mpi.md.velocities import draw_velocities, inverse_masses

REPORTS, STEPS = 10, 10
GOAL = 0.01
#: timestep in fs, hydrogen mass in amu
SETTINGS = ((4.0, 3.0), (2.0, None))
Draw = Callable[[openmm.Context, float, int, np.ndarray], None]


def shifted(context: openmm.Context, kelvin: float, seed: int, inverse_mass: np.ndarray) -> None:  # noqa: ARG001
    """OpenMM's own way."""
    context.setVelocitiesToTemperature(kelvin, seed)


def unshifted(context: openmm.Context, kelvin: float, seed: int, inverse_mass: np.ndarray) -> None:
    """Maxwell velocities at the time of the positions, taken for those of half a step before."""
    thermal = np.sqrt(8.314462618e-3 * kelvin * inverse_mass)
    context.setVelocities(thermal * np.random.default_rng(seed).standard_normal((len(thermal), 3)))
    context.applyVelocityConstraints(1e-5)


#: How velocities are drawn for positions alone; None where the frame's own velocities are at hand.
WAYS: dict[str, Draw | None] = {
    "redrawn": None,
    "drawn": draw_velocities,
    "shifted": shifted,
    "unshifted": unshifted,
}


def restart(engine: OpenMMEngine, source: State, seed: int, draw: Draw | None) -> float:
    """Restart from a frame in one of the ways; milliseconds that it takes."""
    velocities = source.velocities if draw is None else None
    engines.draw_velocities = draw
    clock = time.perf_counter()
    engine.set_state(source.positions, velocities, source.box, seed)
    return 1000 * (time.perf_counter() - clock)


def reports(engine: OpenMMEngine, masses: np.ndarray) -> list[float]:
    """Kinetic energies of the next reports, kJ/mol, by the velocities that they hold."""
    found = []
    for _ in range(REPORTS):
        engine.advance(STEPS)
        found.append(0.5 * float((masses * np.square(engine.state().velocities, dtype=float)).sum()))
    return found


def measure(
    usecase: str, timestep_fs: float, hydrogen_amu: float | None, restarts: int, warm_up_ps: float
) -> dict[str, float | str]:
    """One row of the table."""
    settings = config.load(usecase)
    simulation = replace(settings.simulation, timestep_fs=timestep_fs, hydrogen_mass_amu=hydrogen_amu)
    structures = load_structures(settings.system)
    system = build_system(structures, simulation, settings.system)
    inverse_mass = inverse_masses(system)
    masses = 1 / np.where(inverse_mass > 0, inverse_mass, np.inf)
    engine = OpenMMEngine(structures, simulation, settings.system, 1, model=system)
    engine.start(1)
    engine.advance(round(1000 * warm_up_ps / timestep_fs))
    clock = time.perf_counter()
    engine.advance(STEPS * REPORTS)
    step_ms = 1000 * (time.perf_counter() - clock) / (STEPS * REPORTS)
    took: dict[str, list[float]] = {name: [] for name in WAYS}
    found: dict[str, list[list[float]]] = {name: [] for name in ("own", *WAYS)}
    for seed in range(1, restarts + 1):
        found["own"].append(reports(engine, masses))
        source = engine.state()
        for name, draw in WAYS.items():
            took[name].append(restart(engine, source, seed, draw))
            found[name].append(reports(engine, masses))
        engine.set_state(source.positions, source.velocities, source.box)
    engine.free()
    own = np.mean(found["own"])
    row: dict[str, float | str] = {
        "usecase": usecase,
        "timestep_fs": timestep_fs,
        "restarts": restarts,
        "step_ms": step_ms,
    }
    for name in WAYS:
        difference = np.mean(found[name], axis=1) - np.mean(found["own"], axis=1)
        row |= {
            name: float(1 + difference.mean() / own),
            f"{name}_error": float(difference.std() / np.sqrt(restarts) / own),
            f"{name}_excess_kj_mol": float(2 * difference.mean()),
            f"{name}_ms": float(np.median(took[name])),
        }
    return row


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--usecase", default="cln025")
    parser.add_argument("--restarts", type=int, default=200)
    parser.add_argument("--warm-up-ps", type=float, default=20.0)
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.restarts, options.warm_up_ps = 2, 0.2
    rows = []
    print(f"{'use case':<10}{'fs':>5}" + "".join(f"{name:>22}" for name in WAYS) + f"   goal {GOAL:.0%}")
    for timestep, mass in SETTINGS:
        row = measure(options.usecase, timestep, mass, options.restarts, options.warm_up_ps)
        rows.append(row)
        cells = "".join(f"{row[n]:>10.4f} ± {row[f'{n}_error']:.4f}  " for n in WAYS)
        print(f"{row['usecase']:<10}{timestep:>5g}  {cells}", flush=True)
    print("milliseconds of a restart (median), and its ratio to a time step")
    for row in rows:
        cells = "".join(f"{row[f'{n}_ms']:>12.2f}{row[f'{n}_ms'] / row['step_ms']:>7.1f} x " for n in WAYS)
        print(f"{row['usecase']:<10}{row['timestep_fs']:>5g}  {cells}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"goal": GOAL, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
