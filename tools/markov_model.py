"""Make ``inputs/bba-go-markov.npz``, the Markov model behind ``simulation.engine = "markov"``, of unsteered runs.

    python tools/markov_model.py simulate OUT [--minutes 30] [--seed 1] [--reports 2500]
    python tools/markov_model.py estimate OUT FILE [--states 1200] [--structures 8]

`simulate` adds trajectories to OUT/*.npy until its time is up: bead positions at every report, from the start and from
the target in turn. Repeat it, with other seeds, for more data; `estimate` takes all of OUT. It clusters the frames by
the slow linear combinations of the distances between residues (TICA), estimates a reversible Markov model at a lag of
one report (deeptime), and writes the fluxes between states and some frames of each.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from ddmd_mpi import config
from ddmd_mpi.md.emulated.markov import RESOLUTION_NM
from ddmd_mpi.md.openmm_engine import OpenMMEngine
from ddmd_mpi.md.structures import build_system, load_structures
from ddmd_mpi.structure import ANGSTROM_PER_NM
from ddmd_mpi.structure.rmsd import superposed_rmsd

USECASE = "bba-go"
#: Of TICA: lag in reports, and how many combinations are kept; residues at least so far apart along the chain.
LAG_REPORTS, DIMENSIONS, APART = 10, 8, 3
#: Between the bands of RMSD to the target.
BANDS_ANGSTROM = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)


def simulate(out: Path, minutes: float, seed: int, reports: int) -> None:
    """Write one trajectory after the other, shape (n_reports, n_residues, 3) int16, until the time is up."""
    settings = config.load(USECASE)
    structures = load_structures(settings.system)
    system = build_system(structures, settings.simulation, settings.system)
    out.mkdir(parents=True, exist_ok=True)
    until, number = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < until:
        engine = OpenMMEngine(structures, settings.simulation, settings.system, 1000 * seed + number, model=system)
        engine.start(seed + number)
        if number % 2:
            engine.set_state(structures.target_nm.astype(np.float32), seed=seed + number)
        frames = []
        while len(frames) < reports and time.monotonic() < until:
            engine.advance(settings.simulation.steps_per_report)
            x = engine.state().positions
            frames.append(np.rint((x - x.mean(axis=0)) / RESOLUTION_NM).astype(np.int16))
        engine.free()
        np.save(out / f"{seed:03d}-{number:04d}.npy", np.array(frames))
        number += 1


def estimate(out: Path, file: Path, n_states: int, n_structures: int) -> None:
    """Estimate the model of all trajectories in `out`."""
    from deeptime.decomposition import TICA
    from deeptime.markov import TransitionCountEstimator
    from deeptime.markov.msm import MaximumLikelihoodMSM

    runs = [np.load(path) for path in sorted(out.glob("*.npy"))]
    runs = [run for run in runs if len(run) > 2 * LAG_REPORTS]
    tica = TICA(lagtime=LAG_REPORTS, dim=DIMENSIONS)
    features = [distances(run) for run in runs]
    latents = tica.fit_fetch(features).transform(np.concatenate(features))
    labels = np.split(states_in_bands(np.concatenate(runs), latents, n_states), np.cumsum([len(r) for r in runs])[:-1])
    counts = TransitionCountEstimator(1, "sliding").fit_fetch(labels).submodel_largest()
    model = MaximumLikelihoodMSM(reversible=True).fit_fetch(counts)
    flux = model.stationary_distribution[:, None] * model.transition_matrix
    flux = (flux + flux.T) / 2
    first, second = np.nonzero(np.triu(flux))
    rng, frames, states = np.random.default_rng(1), np.concatenate(runs), np.concatenate(labels)
    chosen = []
    for symbol in counts.state_symbols:
        members = np.flatnonzero(states == symbol)
        chosen.append(rng.choice(members, min(n_structures, len(members)), replace=False))
    np.savez(
        file,
        lag_ps=np.float64(config.load(USECASE).simulation.report_interval_ps),
        first=first.astype(np.uint16),
        second=second.astype(np.uint16),
        flux=flux[first, second],
        positions=frames[np.concatenate(chosen)],
        state=np.repeat(np.arange(len(chosen)), [len(c) for c in chosen]).astype(np.uint16),
    )
    scales = ", ".join(f"{t:.0f}" for t in model.timescales(5))
    say(f"{len(frames)} frames, {len(chosen)} states, {len(first)} fluxes, timescales {scales} reports")
    say(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    for lag in (5, 25):
        other = TransitionCountEstimator(lag, "sliding").fit_fetch(labels).submodel_largest()
        scales = MaximumLikelihoodMSM(reversible=True).fit_fetch(other).timescales(3)
        say(f"at a lag of {lag} reports: {', '.join(f'{t:.0f}' for t in scales)} reports")


def states_in_bands(frames: np.ndarray, latents: np.ndarray, n_states: int) -> np.ndarray:
    """State of each frame, shape (n_frames,): k-means in bands of RMSD, so that no state is folded and unfolded.

    A band gets states in proportion to the square root of its frames: the folded ones are rare.
    """
    from sklearn.cluster import MiniBatchKMeans

    target = load_structures(config.load(USECASE).system).target_nm
    rmsd = ANGSTROM_PER_NM * superposed_rmsd(frames * RESOLUTION_NM, target)
    band = np.digitize(rmsd, BANDS_ANGSTROM)
    share = np.sqrt(np.bincount(band, minlength=len(BANDS_ANGSTROM) + 1))
    labels, known = np.empty(len(frames), int), 0
    for i, n in enumerate(np.ceil(n_states * share / share.sum()).astype(int)):
        members = np.flatnonzero(band == i)
        n = min(n, len(members) // 2)
        if n:
            means = MiniBatchKMeans(n, random_state=1, n_init=1, batch_size=10_000).fit(latents[members])
            labels[members], known = known + means.labels_, known + n
        else:
            labels[members], known = known, known + 1
    return labels


def say(line: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{line}\n")


def distances(frames: np.ndarray) -> np.ndarray:
    """Distances between residues that are not neighbours along the chain, nm, shape (n_frames, n_pairs)."""
    i, j = np.triu_indices(frames.shape[1], APART)
    x = frames.astype(np.float32) * RESOLUTION_NM
    return np.linalg.norm(x[:, i] - x[:, j], axis=2)


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = parser.add_subparsers(dest="stage", required=True)
    simulation = stages.add_parser("simulate")
    simulation.add_argument("out", type=Path)
    simulation.add_argument("--minutes", type=float, default=30.0)
    simulation.add_argument("--seed", type=int, default=1)
    simulation.add_argument("--reports", type=int, default=2500)
    estimation = stages.add_parser("estimate")
    estimation.add_argument("out", type=Path)
    estimation.add_argument("file", type=Path)
    estimation.add_argument("--states", type=int, default=1200)
    estimation.add_argument("--structures", type=int, default=8)
    options = parser.parse_args()
    if options.stage == "simulate":
        simulate(options.out, options.minutes, options.seed, options.reports)
    else:
        estimate(options.out, options.file, options.states, options.structures)


if __name__ == "__main__":
    main()
