"""Free energies, populations and passage times of a steered run, each with an interval, and a verdict on them.

Intervals are those of a bootstrap over families: what a restart copies is in several stretches, which are no
independent samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree

from ..errors import InputError
from . import verdict
from .estimators import MarkovModel, connected, random_clusterings, riteweight
from .intervals import Interval, expit, interval, logit, width_of
from .lag import SAME, SAME_LATE, Scan, chosen_lag, is_flat, scan_lags
from .passages import Passage
from .transitions import Stretches, Transitions, counts, counts_of_blocks, lineage_blocks, transitions

#: How many random clusterings are drawn, and into how many families the frames are divided for the bootstrap.
N_CLUSTERINGS, N_BLOCKS = 30, 40
MAX_STATES, FRAMES_PER_STATE, CLUSTERED, KMEANS_STEPS = 60, 40, 20_000, 20
N_BINS = 30
#: After how many of the slowest implied timescales a stretch has forgotten which frame it was started from.
FORGOTTEN = 3.0
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
    skip_ps
        How much of the begin of each stretch is left out, ps.
    scan
        The slowest implied timescale at each lag.
    answers
        By method: ``msm``, ``riteweight``, ``msm_twice`` at about twice the lag if the scan got there, and if no
        frame is left out ``msm_late`` of the later half of them.
    edges
        Edges of the bins of each coordinate.
    missing
        Sentences on what is missing; none if the answers are converged.
    """

    lag_ps: float
    skip_ps: float
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
        """Population of the target: RiteWeight's value, and the intervals of all methods together."""
        return self._of_all("target")

    @property
    def there(self) -> Interval:
        """Mean first passage time to the target, ps: as :attr:`target`."""
        return self._of_all("there")

    @property
    def back(self) -> Interval:
        """Mean first passage time from the target, ps: as :attr:`target`."""
        return self._of_all("back")

    def _of_all(self, name: str) -> Interval:
        found: Interval = getattr(self.answers["riteweight"], name)
        for answer in self.answers.values():
            found = found.hull(getattr(answer, name))
        return found


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
        If there are so few frames that nothing can be said.
    """
    random = np.random.default_rng(seed)
    if data.n_stretches < MIN_STRETCHES or len(data) - data.n_stretches < MIN_PAIRS:
        raise InputError(
            f"there are {len(data)} frames in {data.n_stretches} stretches, and {MIN_PAIRS} transitions in "
            f"{MIN_STRETCHES} stretches are needed at least: continue the run"
        )
    scaled = data.features / np.maximum(data.features.std(axis=0), 1e-12)
    states = _states(scaled, question, seed)
    blocks = lineage_blocks(data, N_BLOCKS)
    samples = _samples(int(blocks.max()) + 1, n_samples, random)
    skip, scan = _scan(data, states, blocks, samples, question.report_ps)
    same = SAME_LATE if skip else SAME
    lag = chosen_lag(scan, same)
    pairs = transitions(data, lag, states, skip)
    clusterings = random_clusterings(scaled, N_CLUSTERINGS, random)
    edges = {
        name: np.linspace(v.min(), np.nextafter(v.max(), np.inf), N_BINS + 1) for name, v in question.columns.items()
    }
    bin_of = {name: np.searchsorted(edges[name], v, "right") - 1 for name, v in question.columns.items()}
    bins = _bins(bin_of, pairs)
    solutions = {
        "msm": _by_markov(pairs, lag, states, blocks, samples, question, bins),
        "riteweight": _by_riteweight(pairs, lag, states, blocks, samples, question, bins, clusterings),
    }
    if twice := next((point.lag for point in scan if point.lag >= 2 * lag), None):
        later = transitions(data, twice, states, skip)
        solutions["msm_twice"] = _by_markov(later, twice, states, blocks, samples, question, _bins(bin_of, later))
    if not skip and len((late := transitions(data, lag, states, int(np.median(data.age)))).start):
        solutions["msm_late"] = _by_markov(late, lag, states, blocks, samples, question, _bins(bin_of, late))
    width = width_of(len(np.unique(blocks[pairs.stretch])))
    answers = {name: _answer(found, question.report_ps, width) for name, found in solutions.items()}
    crossings = verdict.fewest_crossings(data, blocks, _committor(pairs, states, question))
    missing = verdict.missing(pairs, states, question.source, question.target, scan, same, crossings, answers)
    return Populations(lag * question.report_ps, skip * question.report_ps, scan, answers, edges, missing)


def _scan(
    data: Stretches, states: np.ndarray, blocks: np.ndarray, samples: np.ndarray, report_ps: float
) -> tuple[int, list[Scan]]:
    """How many frames of each stretch to leave out, and the timescales of the rest.

    Steering selects frames by more than the coordinates tell. Dynamics forgets that selection in a few timescales. If
    half of the frames are later in their stretches than that, they alone count; else all of them do.
    """
    skip = int(np.median(data.age))
    late = scan_lags(data, states, blocks, samples, report_ps, skip)
    slowest = max((point.timescale_ps.value for point in late), default=np.nan)
    if is_flat(late, SAME_LATE) and skip * report_ps >= FORGOTTEN * slowest:
        return skip, late
    return 0, scan_lags(data, states, blocks, samples, report_ps)


def _bins(bin_of: dict[str, np.ndarray], pairs: Transitions) -> dict[str, np.ndarray]:
    """The bin of each pair's start along each coordinate."""
    return {name: bins[pairs.start] for name, bins in bin_of.items()}


def _states(scaled: np.ndarray, question: Question, seed: int) -> np.ndarray:
    """Labels of the frames: clusters by k-means, divided where they cross the border of a region."""
    n = int(np.clip(len(scaled) // FRAMES_PER_STATE, 4, MAX_STATES))
    some = scaled[np.linspace(0, len(scaled) - 1, min(len(scaled), CLUSTERED)).astype(int)]
    n = min(n, len(np.unique(some, axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a cluster that loses all its frames
        centres, _ = kmeans2(some, n, KMEANS_STEPS, minit="++", seed=seed)
    cluster = cKDTree(centres[np.isfinite(centres).all(axis=1)]).query(scaled)[1]
    _, labels = np.unique(4 * cluster + 2 * question.source + question.target, return_inverse=True)
    return labels


def _samples(n_blocks: int, n_samples: int, random: np.random.Generator) -> np.ndarray:
    """How often each block is in each sample of the bootstrap; the first sample is the data."""
    drawn = random.integers(n_blocks, size=(n_samples, n_blocks))
    return np.array([np.ones(n_blocks), *(np.bincount(row, minlength=n_blocks) for row in drawn)])


def _committor(pairs: Transitions, states: np.ndarray, question: Question) -> np.ndarray:
    """Chance of each frame to reach the target before the source; NaN outside the connected set."""
    model = MarkovModel(counts(pairs, states, int(states.max()) + 1, pairs.weight))
    return model.committor(np.unique(states[question.source]), np.unique(states[question.target]))[states]


class Solution(NamedTuple):
    """What a method makes of one sample: populations, passage times in frames, populations of the bins."""

    target: float
    source: float
    there: float
    back: float
    profiles: dict[str, np.ndarray]


def _by_markov(
    pairs: Transitions,
    lag: int,
    states: np.ndarray,
    blocks: np.ndarray,
    samples: np.ndarray,
    question: Question,
    bins: dict[str, np.ndarray],
) -> Iterator[Solution]:
    """One solution per sample; within a state the bins have the shares that they have in the data."""
    n_states = int(states.max()) + 1
    count = counts_of_blocks(pairs, states, n_states, blocks)
    regions = [np.unique(states[region]) for region in (question.target, question.source)]
    begins = states[pairs.start]
    total = np.maximum(np.bincount(begins, pairs.weight, n_states), 1e-300)
    shares = {
        name: np.bincount(begins * N_BINS + bin_of, pairs.weight, n_states * N_BINS).reshape(n_states, N_BINS)
        / total[:, None]
        for name, bin_of in bins.items()
    }
    there, back = _passages(pairs, lag, states, question)
    block, model = blocks[pairs.stretch], None
    for sample in samples:
        model = MarkovModel(np.tensordot(sample, count, axes=1), model)
        weight = pairs.weight * sample[block]
        target, source = (_population(model.stationary, model.active, region) for region in regions)
        profiles = {name: model.stationary @ share for name, share in shares.items()}
        to, fro = (passage.mean(weight, model.stationary, model.active) for passage in (there, back))
        yield Solution(target, source, to, fro, profiles)


def _by_riteweight(
    pairs: Transitions,
    lag: int,
    states: np.ndarray,
    blocks: np.ndarray,
    samples: np.ndarray,
    question: Question,
    bins: dict[str, np.ndarray],
    clusterings: np.ndarray,
) -> Iterator[Solution]:
    """One solution per sample."""
    n_states = int(states.max()) + 1
    regions = [np.unique(states[region]) for region in (question.target, question.source)]
    there, back = _passages(pairs, lag, states, question)
    block, guess = blocks[pairs.stretch], None
    for sample in samples:
        weights = riteweight(pairs, clusterings, pairs.weight * sample[block], guess)
        guess = weights if guess is None else guess
        count = counts(pairs, states, n_states, weights)
        mass, active = count.sum(axis=1), connected(count)
        target, source = (_population(mass, active, region) for region in regions)
        profiles = {name: np.bincount(bin_of, weights, N_BINS) for name, bin_of in bins.items()}
        to, fro = (passage.mean(weights, mass, active) for passage in (there, back))
        yield Solution(target, source, to, fro, profiles)


def _passages(pairs: Transitions, lag: int, states: np.ndarray, question: Question) -> tuple[Passage, Passage]:
    """Those to the target, and back."""
    source, target = question.source, question.target
    return Passage(pairs, lag, states, source, target), Passage(pairs, lag, states, target, source)


def _answer(solutions: Iterator[Solution], report_ps: float, width: float) -> Answer:
    """The first solution gives the values, the others the intervals, of `width` standard deviations on each side."""
    found = list(solutions)
    target, source = (
        interval(np.array(values), logit, expit, width) for values in zip(*(f[:2] for f in found), strict=True)
    )
    there, back = (
        interval(report_ps * np.array(values), np.log, np.exp, width)
        for values in zip(*(f[2:4] for f in found), strict=True)
    )
    profiles = {}
    for name in found[0].profiles:
        samples = np.array([f.profiles[name] for f in found])
        profiles[name] = np.column_stack([samples[0], *np.percentile(samples[1:], (2.5, 97.5), axis=0)])
    return Answer(target, source, there, back, profiles)


def _population(mass: np.ndarray, active: np.ndarray, region: np.ndarray) -> float:
    """Probability of the states of a region; NaN if nothing both enters and leaves it: the transitions do not tell."""
    return float(mass[region].sum() / mass.sum()) if np.isin(region, active).any() else np.nan
