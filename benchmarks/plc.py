"""Many ligands: bytes per frame by hop, and what a restart across topologies costs beside its OpenMM context.

    python benchmarks/plc.py [--restarts 5] [--json FILE]

The first table sets the features that travel on against the positions and velocities of all atoms, which stay at the
aggregator: for the embedded complexes, and for a protein of 309 residues in 132,000 atoms, PLPro's size. The second
times, in turns, a new context of a topology until it is ready (OpenMM does most of the work with the first step), and
restarts from a frame of that topology by a walker that holds another one: the first such restart makes the context,
later ones find it, and take as long as a step in a context that is there.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from ddmd_mpi import config
from ddmd_mpi.config.dynamics import FeaturesSection
from ddmd_mpi.config.schema import Config
from ddmd_mpi.frames.block import FIELD, FrameBlock, Hop
from ddmd_mpi.md.engine_pool import EnginePool, EngineSlot
from ddmd_mpi.md.engines import check_engine, engine_maker
from ddmd_mpi.md.topologies import Topology, check_topologies
from ddmd_mpi.structure.features import FeatureCalculator

FRAMES = 64
PLPRO_ATOMS, PLPRO_RESIDUES = 132_000, 309
STRAND, STEP_NM, SPACING_NM = 7, 0.38, 0.55


def serpentine(n: int) -> np.ndarray:
    """A chain that fills a block strand by strand, nm, shape (n, 3): about as dense as a protein."""
    strand, along = np.divmod(np.arange(n), STRAND)
    along = np.where(strand % 2, STRAND - 1 - along, along)
    layer, row = np.divmod(strand, STRAND)
    row = np.where(layer % 2, STRAND - 1 - row, row)
    return np.stack([STEP_NM * along, SPACING_NM * row, SPACING_NM * layer], axis=1)


def features_nbytes(descriptor_nm: np.ndarray, n_order_parameters: int) -> float:
    """Bytes of a frame on the hop of features, in a packed block."""
    found = FeatureCalculator(descriptor_nm, FeaturesSection(order_parameters=[])).compute(descriptor_nm)
    found["order_parameters"] = np.zeros(n_order_parameters, np.float32)
    zeros = {name: np.zeros((), row.dtype) for name, row in FIELD.items() if not row.shape}
    block = FrameBlock.from_rows([{**zeros, **found}] * FRAMES, Hop.FEATURES)
    return len(block.pack(Hop.FEATURES)) / FRAMES


def hops(name: str, n_atoms: int, descriptor_nm: np.ndarray, n_order_parameters: int) -> dict:
    """One row of the first table."""
    whole = 2 * 3 * 4 * n_atoms
    features = features_nbytes(descriptor_nm, n_order_parameters)
    return {
        "complex": name,
        "atoms": n_atoms,
        "residues": len(descriptor_nm),
        "positions_and_velocities_bytes": whole,
        "features_bytes": features,
        "ratio": whole / features,
    }


def seconds(function, *arguments) -> tuple[float, object]:
    """Seconds that a call takes, and what it gives."""
    clock = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - clock, result


def go_to(bodies: EnginePool, topology: int, state) -> EngineSlot:
    """A walker's restart from a state of a topology, up to its first step; see roles/walker.py."""
    body = bodies.take(topology, 0)
    body.engine.set_state(state.positions, state.velocities, state.box, seed=1)
    body.engine.advance(1)
    return body


def restarts(settings: Config, found: list[Topology], index: int, repetitions: int) -> dict:
    """One row of the second table: medians over turns."""
    make = engine_maker(settings, None, check_engine(settings, max(t.n_atoms for t in found), None))
    topology = found[index]
    source = make(topology, 1)
    source.start(1)
    state = source.state()
    times = {name: [] for name in ("context", "ready", "first", "cached", "step")}
    for _ in range(repetitions):
        clock = time.perf_counter()
        engine = make(topology, 2)
        times["context"].append(time.perf_counter() - clock)
        step_seconds(engine, state)
        times["ready"].append(time.perf_counter() - clock)
        times["step"].append(step_seconds(engine, state))
        engine.free()
        bodies = EnginePool(settings, lambda k: found[k], make)
        bodies.topology(index)
        for name in ("first", "cached"):
            spent, body = seconds(go_to, bodies, index, state)
            times[name].append(spent)
            bodies.put(body)
        bodies.free()
    median = {name: float(np.median(values)) for name, values in times.items()}
    return {
        "complex": topology.name,
        "atoms": topology.n_atoms,
        **{f"{n}_ms": 1000 * v for n, v in median.items()},
        "first_over_ready": median["first"] / median["ready"],
        "cached_less_step_over_ready": (median["cached"] - median["step"]) / median["ready"],
    }


def step_seconds(engine, state) -> float:
    """Seconds to set a state and take its first step in a context that is there: what any restart takes."""
    clock = time.perf_counter()
    engine.set_state(state.positions, state.velocities, state.box, seed=1)
    engine.advance(1)
    return time.perf_counter() - clock


def show(rows: list[dict]) -> None:
    """Print rows as a table."""
    names = list(rows[0])
    text = [[f"{row[n]:.4g}" if isinstance(row[n], float) else str(row[n]) for n in names] for row in rows]
    widths = [max(len(n), *(len(line[i]) for line in text)) for i, n in enumerate(names)]
    for line in (names, *text):
        print("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)))
    print()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings = config.load("plc", assignments=("simulation.minimize_iterations=20",))
    found = list(check_topologies(settings))
    n_parameters = len(settings.features.order_parameters)
    by_hop = [hops(t.name, t.n_atoms, t.structures.positions_nm[t.structures.descriptor], n_parameters) for t in found]
    by_hop.append(hops("PLPro's size (made up)", PLPRO_ATOMS, serpentine(PLPRO_RESIDUES), n_parameters))
    show(by_hop)
    of_restarts = [
        restarts(settings, found, index, 1 if options.quick else options.restarts)
        for index in ((0,) if options.quick else (0, len(found) - 1))
    ]
    show(of_restarts)
    if options.json:
        options.json.write_text(json.dumps({"bytes_by_hop": by_hop, "restarts": of_restarts}, indent=1))


if __name__ == "__main__":
    main()
