"""Random seeds: a run's seed, a walker and a segment give the same numbers on every machine."""

from __future__ import annotations

import numpy as np


def segment_seed(run_seed: int, walker: int, segment: int) -> int:
    """Seed in [1, 2^31): independent per (run, walker, segment), and never 0, which OpenMM takes for "any seed"."""
    word = np.random.SeedSequence(run_seed, spawn_key=(walker, segment)).generate_state(1)[0]
    return int(word) % (2**31 - 1) + 1


def engine_seed(run_seed: int, walker: int, session: int = 0, further: int = 0) -> int:
    """Seed in [1, 2^31) of a walker's thermostat, independent of its segments' seeds, another in each session.

    Parameters
    ----------
    further
        How many engines the session has made for the walker before this one.
    """
    key = (walker,) if not session and not further else (walker, 0, session, further)[: 4 if further else 3]
    word = np.random.SeedSequence(run_seed, spawn_key=key).generate_state(1)[0]
    return int(word) % (2**31 - 1) + 1
