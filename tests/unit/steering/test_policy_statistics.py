"""Steering pays: on a double well, guided walkers reach the other side while a plain ensemble stays where it is."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from ddmd_mpi.config.schema import SteeringSection
from ddmd_mpi.frames.block import FrameBlock
from ddmd_mpi.frames.window import FrameWindow
from ddmd_mpi.steering.outliers import find_outliers
from ddmd_mpi.steering.policy import Policy

N_WALKERS, ROUNDS, REPORTS, STEPS = 8, 60, 5, 3
BARRIER, TIMESTEP = 9.0, 0.001  # kT; units of the diffusion
START, TARGET = np.array([-1.0, 0.0]), np.array([1.0, 0.0])
SEEDS = range(8)


def advance(positions: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Overdamped Langevin steps in V = BARRIER (x^2 - 1)^2 + 2 y^2."""
    for noise in generator.normal(scale=np.sqrt(2 * TIMESTEP), size=(STEPS, *positions.shape)):
        x, y = positions.T
        force = -np.stack([4 * BARRIER * x * (x**2 - 1), 4 * y], axis=1)
        positions = positions + TIMESTEP * force + noise
    return positions


def simulate(settings: SteeringSection, seed: int) -> Iterator[FrameBlock]:
    """Blocks of one frame per walker, for the same number of steps whatever the strategy; restarts in between."""
    generator = np.random.default_rng(seed)
    policy = Policy(settings, N_WALKERS, seed)
    window = FrameWindow(int(settings.window_rounds * N_WALKERS * REPORTS))
    positions, segments, walkers = np.tile(START, (N_WALKERS, 1)), np.zeros(N_WALKERS, np.int32), np.arange(N_WALKERS)
    for report in range(ROUNDS * REPORTS):
        positions = advance(positions, generator)
        columns = {
            "walker": walkers, "segment": segments.copy(), "frame": np.full(N_WALKERS, report),
            "topology": np.zeros(N_WALKERS, np.int32),
            "rmsd": np.linalg.norm(positions - TARGET, axis=1), "slot_generation": np.ones(N_WALKERS, int),
            "positions": positions.copy(), "contact_counts": np.zeros((N_WALKERS, 1), np.uint16),
            "contact_columns": np.zeros(0, np.uint16),
        }  # fmt: skip
        window.append(FrameBlock(columns))
        yield FrameBlock(columns)
        if (report + 1) % REPORTS == 0:
            block = window.block()
            outliers = find_outliers(block["positions"], settings)
            for restart in policy.choose(block, block["positions"], outliers, np.ones(N_WALKERS, bool)):
                positions[restart.walker] = block["positions"][restart.index]
                segments[restart.walker] += 1


def best_distances(strategy: str) -> list[float]:
    """Nearest approach to the target in each of the runs."""
    settings = SteeringSection(strategy=strategy)
    return [min(block["rmsd"].min() for block in simulate(settings, seed)) for seed in SEEDS]


@pytest.fixture(scope="module")
def plain() -> list[float]:
    return best_distances("none")


@pytest.mark.parametrize("strategy", ["greedy", "ml_rmsd"])
def test_guided_walkers_come_nearer_to_the_target_than_a_plain_ensemble(strategy, plain):
    assert mannwhitneyu(best_distances(strategy), plain, alternative="less").pvalue < 0.001


def test_random_restarts_do_not_steer(plain):
    assert mannwhitneyu(best_distances("random"), plain, alternative="less").pvalue > 0.01
