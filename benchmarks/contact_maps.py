"""Contact maps: build, encode and decode against the fastest bare kernel that only builds the map.

A map costs a simulation one encoding, and each consumer one decoding, batch by batch. Run
``python benchmarks/contact_maps.py [--quick] [--json FILE]``; the goal is a ratio of at most 2 at every size.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist, pdist

from ddmd_mpi.structure.contacts import contact_csr, dense, round_positions

CUTOFF_ANGSTROM = 8.0
CUTOFF = 100.0 * CUTOFF_ANGSTROM
GOAL = 2.0
#: residues -> (name of the fastest bare kernel, the kernel, calls per timing, frames per decoded batch)
SIZES: dict[int, tuple[str, Callable[[np.ndarray], object], int, int]] = {
    28: ("cdist", lambda x: cdist(x, x) < CUTOFF, 200, 64),
    309: ("pdist", lambda x: pdist(x) < CUTOFF, 40, 64),
    3375: ("cKDTree.query_pairs", lambda x: cKDTree(x).query_pairs(CUTOFF, output_type="ndarray"), 1, 4),
}
REPEATS = 25


def compact_chain(n: int, seed: int = 0) -> np.ndarray:
    """C-alpha positions of a self-avoiding chain within a sphere, nm, shape (n, 3)."""
    rng = np.random.default_rng(seed)
    radius, chain = 3.6 * n ** (1 / 3), np.full((n, 3), 1e3)
    chain[0] = 0.0
    for i in range(1, n):
        steps = rng.normal(size=(40, 3))
        tries = chain[i - 1] + 3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True)
        nearest = cdist(tries, chain[max(0, i - 2000) : max(1, i - 1)]).min(axis=1)
        chain[i] = tries[np.argmax(np.minimum(nearest, 4.5) - np.maximum(np.linalg.norm(tries, axis=1) - radius, 0.0))]
    return chain / 10.0


def best_seconds(functions: list[Callable[[], object]], calls: int, repeats: int) -> list[float]:
    """Shortest time of one call of each function; the functions take turns, so that a busy machine hits them alike."""
    best = [np.inf] * len(functions)
    for _ in range(repeats):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            for _ in range(calls):
                function()
            best[i] = min(best[i], (time.perf_counter() - start) / calls)
    return best


def measure(n: int, repeats: int) -> dict[str, float | int | str]:
    """One row of the table, microseconds per frame."""
    name, kernel, calls, n_frames = SIZES[n]
    rounded = round_positions(compact_chain(n))
    positions = rounded.astype(np.float64)
    counts, columns = contact_csr(rounded, CUTOFF_ANGSTROM)
    batch_counts, batch_columns = np.tile(counts, (n_frames, 1)), np.tile(columns, n_frames)
    maps = np.empty((n_frames, n, n), np.uint8)
    reference, encode, decode, clear = best_seconds(
        [
            lambda: kernel(positions),
            lambda: contact_csr(rounded, CUTOFF_ANGSTROM),
            lambda: dense(batch_counts, batch_columns, out=maps),
            lambda: maps.fill(0),
        ],
        calls,
        repeats,
    )
    # The bare kernels stop short of a dense map, which has to be cleared whoever fills it.
    decode = (decode - clear) / n_frames
    return {
        "residues": n,
        "contacts_per_residue": len(columns) / n,
        "reference": name,
        "reference_us": 1e6 * reference,
        "encode_us": 1e6 * encode,
        "decode_us": 1e6 * decode,
        "clear_us": 1e6 * clear / n_frames,
        "ratio": (encode + decode) / reference,
        "goal": GOAL,
    }


def main() -> None:
    """Print the table and write the same numbers where ``--json`` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the same numbers")
    parser.add_argument("--quick", action="store_true", help="seconds of work: whether the script runs, no figures")
    options = parser.parse_args()
    sizes, repeats = ([28, 309], 2) if options.quick else (list(SIZES), REPEATS)
    rows = [measure(n, repeats) for n in sizes]
    print("residues  kernel               kernel us  encode us  decode us  clear us  ratio (goal <= 2)")  # noqa: T201
    for row in rows:
        print(  # noqa: T201
            f"{row['residues']:8}  {row['reference']:<19}  {row['reference_us']:9.1f}  {row['encode_us']:9.1f}  "
            f"{row['decode_us']:9.1f}  {row['clear_us']:8.1f}  {row['ratio']:5.2f}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"contact_maps": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
