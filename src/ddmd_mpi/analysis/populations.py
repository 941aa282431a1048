"""Free energies, populations and passage times of a steered run, each with an interval, and a verdict on them.

Intervals are those of a bootstrap over stretches: stretches are independent given where they start, frames are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from . import verdict
from .estimators import (
    MarkovModel,
    connected,
    frame_weights,
    import_deeptime,
    passage_time,
    random_clusterings,
    riteweight,
)
from .transitions import Stretches, Transitions, counts, transitions
from .verdict import Interval, Scan, interval

METHODS = ("msm", "riteweight")
#: Candidates for the lag, in frames; how many random clusterings are drawn, and bootstrap samples of the lag scan.
LAGS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200)
N_CLUSTERINGS, SCAN_SAMPLES = 30, 24
MAX_STATES, FRAMES_PER_STATE, CLUSTERED = 60, 40, 20_000
N_BINS = 30
#: Fewer transitions or stretches say nothing.
MIN_PAIRS, MIN_STRETCHES = 50, 4


@dataclass(frozen=True)
class Question:
    """What is asked of the frames of :class:`.Stretches`.

    Parameters
    ----------
    source, target
        Whether a frame is in the region that passages start from and end in, shape (n_frames,).
    columns
        Values of the coordinates along which free energies are wanted, each of shape (n_frames,).
    report_ps
        Time between frames, ps.
    """

    source: np.ndarray
    target: np.ndarray
    columns: dict[str, np.ndarray]
    report_ps: float


@dataclass(frozen=True)
class Answer:
    """What one method says; a number is an interval of value, low and high.

    Parameters
    ----------
    target, source
        Populations of the regions.
    there, back
        Mean first passage times from source to target and from target to source, ps.
    profiles
        Populations of the bins of each coordinate, shape (n_bins, 3): value, low, high.
    """

    target: Interval
    source: Interval
    there: Interval
    back: Interval
    profiles: dict[str, np.ndarray]


@dataclass(frozen=True)
class Populations:
    """The answers of both methods, and what is missing to trust them.

    Parameters
    ----------
    lag_ps
        Lag of the transitions, ps.
    scan
        The slowest implied timescale at each lag.
    answers
        By method.
    edges
        Edges of the bins of each coordinate.
    missing
        Sentences on what is missing; none if the answers are converged.
    """

    lag_ps: float
    scan: list[Scan]
    answers: dict[str, Answer]
    edges: dict[str, np.ndarray]
    missing: list[str]

    @property
    def converged(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing

    @property
    def target(self) -> Interval:
        """Population of the target: RiteWeight's value, and the intervals of both methods together."""
        return self.answers["riteweight"].target.hull(self.answers["msm"].target)

    @property
    def there(self) -> Interval:
        """Mean first passage time to the target, ps: as :attr:`target`."""
        return self.answers["riteweight"].there.hull(self.answers["msm"].there)

    @property
    def back(self) -> Interval:
        """Mean first passage time from the target, ps: as :attr:`target`."""
        return self.answers["riteweight"].back.hull(self.answers["msm"].back)


def estimate(data: Stretches, question: Question, n_samples: int = 100, seed: int = 0) -> Populations:
    """Populations and passage times from stretches of frames.

    Parameters
    ----------
    n_samples
        Samples of the bootstrap.
    seed
        Of clusterings and samples.

    Raises
    ------
    InputError
        If deeptime is not installed, or there are so few frames that nothing can be said.
    """
    random = np.random.default_rng(seed)
    if data.n_stretches < MIN_STRETCHES or len(data) - data.n_stretches < MIN_PAIRS:
        raise InputError(
            f"there are {len(data)} frames in {data.n_stretches} stretches, and {MIN_PAIRS} transitions in "
            f"{MIN_STRETCHES} stretches are the least: continue the run"
        )
    scaled = data.features / np.maximum(data.features.std(axis=0), 1e-12)
    states = _states(scaled, question, seed)
    samples = [np.ones(data.n_stretches), *_resampled(data.n_stretches, n_samples, random)]
    scan = _scan(data, states, samples, question.report_ps)
    lag = verdict.chosen_lag(scan)
    pairs = transitions(data, lag, states)
    clusterings = random_clusterings(scaled, N_CLUSTERINGS, random)
    edges = {
        name: np.linspace(v.min(), np.nextafter(v.max(), np.inf), N_BINS + 1) for name, v in question.columns.items()
    }
    bins = {name: np.searchsorted(edges[name], v[pairs.start], "right") - 1 for name, v in question.columns.items()}
    methods = {
        "msm": lambda weight: _by_markov(pairs, states, question, weight),
        "riteweight": lambda weight: _by_riteweight(pairs, states, clusterings, question, weight),
    }
    answers = {
        name: _answer(pairs, states, question, bins, samples, lag * question.report_ps, method)
        for name, method in methods.items()
    }
    missing = verdict.missing(data, pairs, states, question.source, question.target, scan, answers)
    return Populations(lag * question.report_ps, scan, answers, edges, missing)


def _states(scaled: np.ndarray, question: Question, seed: int) -> np.ndarray:
    """Labels of the frames: clusters by k-means, divided where they cross the border of a region."""
    clustering = import_deeptime().clustering
    n = int(np.clip(len(scaled) // FRAMES_PER_STATE, 4, MAX_STATES))
    some = scaled[np.linspace(0, len(scaled) - 1, min(len(scaled), CLUSTERED)).astype(int)]
    n = min(n, len(np.unique(some, axis=0)))
    model = clustering.KMeans(n, max_iter=50, fixed_seed=seed + 1, n_jobs=1).fit_fetch(some)
    cluster = model.transform(scaled, n_jobs=1)
    _, labels = np.unique(4 * cluster + 2 * question.source + question.target, return_inverse=True)
    return labels


def _resampled(n: int, n_samples: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each stretch is in each sample of the bootstrap."""
    for _ in range(n_samples):
        yield np.bincount(random.integers(n, size=n), minlength=n).astype(float)


def _scan(data: Stretches, states: np.ndarray, samples: list[np.ndarray], report_ps: float) -> list[Scan]:
    """The slowest implied timescale at each lag that enough stretches are longer than."""
    scan = []
    n_states = int(states.max()) + 1
    for lag in LAGS:
        pairs = transitions(data, lag, states)
        n_long = int((data.lengths > lag).sum())
        if lag > 1 and (len(pairs.start) < MIN_PAIRS or n_long < max(MIN_STRETCHES, data.n_stretches // 3)):
            break
        slowest = [
            lag * report_ps * MarkovModel(_count(pairs, states, n_states, sample)).timescales(1)[0]
            for sample in samples[: 1 + SCAN_SAMPLES]
        ]
        scan.append(Scan(lag, lag * report_ps, interval(np.array(slowest))))
    return scan


def _count(pairs: Transitions, states: np.ndarray, n_states: int, sample: np.ndarray) -> np.ndarray:
    return counts(pairs, states, n_states, pairs.weight * sample[pairs.stretch])


class Solution(NamedTuple):
    """What a method makes of a sample: weights of the pairs' starts, connected states, passage times in lags."""

    weights: np.ndarray
    active: np.ndarray
    there: float
    back: float


def _by_markov(pairs: Transitions, states: np.ndarray, question: Question, weight: np.ndarray) -> Solution:
    model = MarkovModel(counts(pairs, states, int(states.max()) + 1, weight))
    source, target = np.unique(states[question.source]), np.unique(states[question.target])
    weights = frame_weights(pairs, states, model.stationary, weight)
    return Solution(weights, model.active, model.passage(source, target), model.passage(target, source))


def _by_riteweight(
    pairs: Transitions, states: np.ndarray, clusterings: np.ndarray, question: Question, weight: np.ndarray
) -> Solution:
    weights = riteweight(pairs, clusterings, weight)
    count = counts(pairs, states, int(states.max()) + 1, weights)
    active = connected(count)
    own = count[np.ix_(active, active)]
    mass = own.sum(axis=1)
    source, target = (
        np.flatnonzero(np.isin(active, np.unique(states[region]))) for region in (question.source, question.target)
    )
    if len(active) < 2 or not len(source) or not len(target):
        return Solution(weights, active, np.nan, np.nan)
    matrix = own / mass[:, None]
    there, back = passage_time(matrix, mass, source, target), passage_time(matrix, mass, target, source)
    return Solution(weights, active, there, back)


def _answer(
    pairs: Transitions,
    states: np.ndarray,
    question: Question,
    bins: dict[str, np.ndarray],
    samples: list[np.ndarray],
    lag_ps: float,
    method: Callable[[np.ndarray], Solution],
) -> Answer:
    """The first sample gives the values, the others the intervals."""
    numbers: list[tuple[float, ...]] = []
    profiles: dict[str, list[np.ndarray]] = {name: [] for name in bins}
    for sample in samples:
        found = method(pairs.weight * sample[pairs.stretch])
        weights = found.weights / max(found.weights.sum(), 1e-300)
        inside = [_population(pairs, states, weights, found.active, r) for r in (question.target, question.source)]
        numbers.append((*inside, found.there * lag_ps, found.back * lag_ps))
        for name, bin_of in bins.items():
            profiles[name].append(np.bincount(bin_of, weights=weights, minlength=N_BINS))
    target, source, there, back = (interval(values) for values in np.array(numbers).T)
    limits = {name: np.percentile(found[1:], (2.5, 97.5), axis=0) for name, found in profiles.items()}
    return Answer(
        target, source, there, back, {name: np.column_stack([profiles[name][0], *limits[name]]) for name in bins}
    )


def _population(
    pairs: Transitions, states: np.ndarray, weights: np.ndarray, active: np.ndarray, region: np.ndarray
) -> float:
    """Weight of a region; NaN if nothing both enters and leaves it, so that the transitions do not tell."""
    return float(weights[region[pairs.start]].sum()) if np.isin(states[region], active).any() else np.nan
