"""Outliers of 20,000 latents in 10 dimensions, next to the bare neighbour query, scikit-learn and the published search.

    python benchmarks/outliers.py [--frames N] [--seed N] [--quick] [--json FILE]

Goals: eps, outliers and local outlier factor within 1.2 times the bare query; never slower than one DBSCAN and one LOF
of scikit-learn; 10 times faster than the published random walk over eps that starts off its target; identical sets.
Times are CPU seconds of one thread, so that other programs on the machine do not count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from sklearn.cluster import DBSCAN
from sklearn.neighbors import LocalOutlierFactor

from ddmd_mpi.config.schema import SteeringSection
from ddmd_mpi.steering.outliers import Outliers, find_outliers, nearest_neighbours

#: Of the published search: first eps, its largest change a try, tries (the wanted counts are those of the settings).
FIRST_EPS, EPS_STEP, TRIES = 1.3, 0.09, 120
REPEATS = 5


def latents(n: int, dimensions: int, seed: int) -> np.ndarray:
    """Clusters of different density; as in a trained autoencoder's latents some dimensions are narrow; float32."""
    generator = np.random.default_rng(seed)
    centres, widths = generator.normal(size=(12, dimensions)), generator.uniform(0.1, 0.5, size=12)
    cluster = generator.integers(12, size=n)
    points = centres[cluster] + widths[cluster, None] * generator.normal(size=(n, dimensions))
    return (points / points.std(axis=0) * np.geomspace(0.1, 1.2, dimensions)).astype(np.float32)


def published_walk(points: np.ndarray, lowest: int, highest: int, seed: int) -> tuple[int, int]:
    """The random walk over eps and min_samples, one DBSCAN a try: its tries, and the outliers it ends with."""
    generator = np.random.default_rng(seed)
    eps, min_samples = FIRST_EPS, 10
    for tries in range(1, TRIES + 1):
        count = int((DBSCAN(eps=eps, min_samples=min_samples).fit(points).labels_ == -1).sum())
        if lowest <= count <= highest:
            return tries, count
        step, coin = EPS_STEP * generator.random(), generator.random() < 0.5
        eps = eps + step if count > highest else max(0.01, eps - step)
        min_samples = max(5, min_samples - coin) if count > highest else min_samples + coin
    return TRIES, count


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds and result of one call."""
    clock = time.process_time()
    result = function()
    return time.process_time() - clock, result


def agreement(points: np.ndarray, found: Outliers, min_samples: int) -> tuple[float, bool, float]:
    """Seconds of scikit-learn's DBSCAN at our eps and its LOF; whether the sets are equal; how far the factors are."""
    seconds, (labels, factor) = timed(
        lambda: (
            DBSCAN(eps=found.eps, min_samples=min_samples).fit(points).labels_,
            -LocalOutlierFactor(n_neighbors=20).fit(points).negative_outlier_factor_,
        )
    )
    return seconds, bool(np.array_equal(labels == -1, found.mask)), float(np.abs(factor - found.lof).max())


@click.command(help=__doc__)
@click.option("--frames", default=20_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--quick", is_flag=True, help="Seconds of work: whether the script runs, no figures.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(frames: int, seed: int, quick: bool, json_file: Path | None) -> None:
    """Measure, and print the table."""
    frames = 1000 if quick else frames
    settings, points = SteeringSection(), latents(frames, 10, seed)
    query, ours = [], []
    for _ in range(REPEATS):
        query.append(timed(lambda: nearest_neighbours(points, settings.lof_neighbours + 1))[0])
        seconds, found = timed(lambda: find_outliers(points, settings))
        ours.append(seconds)
    double = points.astype(np.float64)
    sklearn_s, identical, difference = agreement(double, found, settings.min_samples)
    lowest, highest = (round(f * frames) for f in (settings.outlier_fraction_min, settings.outlier_fraction_max))
    walk_s, (tries, walk_count) = timed(lambda: published_walk(double, lowest, highest, seed))
    best = min(ours)
    numbers = {
        "frames": frames, "eps": found.eps, "outliers": int(found.mask.sum()), "identical_sets": identical,
        "largest_lof_difference": difference, "ours_s": best, "query_s": min(query), "sklearn_s": sklearn_s,
        "walk_s": walk_s, "walk_tries": tries, "walk_outliers": walk_count, "ours_over_query": best / min(query),
        "sklearn_over_ours": sklearn_s / best, "walk_over_ours": walk_s / best,
    }  # fmt: skip
    rows = [
        ("eps, outliers and LOF, ours", best, ""),
        ("bare k-NN query", min(query), f"ours / this = {best / min(query):.2f} (goal <= 1.2)"),
        ("scikit-learn, one DBSCAN and one LOF", sklearn_s, f"this / ours = {sklearn_s / best:.1f} (goal >= 1)"),
        (f"published walk, {tries} tries", walk_s, f"this / ours = {walk_s / best:.1f} (goal >= 10)"),
    ]
    click.echo(f"{frames} latents in 10 dimensions; CPU seconds, best of {REPEATS} for the first two")
    for name, seconds, ratio in rows:
        click.echo(f"{name:40s} {seconds:8.3f} s   {ratio}")
    sets = "identical" if identical else "DIFFERENT"
    found_line = f"{found.mask.sum()} outliers at eps {found.eps:.4f}: {sets} to scikit-learn's"
    click.echo(f"{found_line}, LOF within {difference:.1e}")
    click.echo(f"the walk ended with {walk_count} outliers, wanted {lowest} to {highest}")
    if json_file is not None:
        json_file.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
