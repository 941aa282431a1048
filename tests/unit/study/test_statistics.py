"""Tests, effect sizes and intervals, against SciPy and by hand."""

import numpy as np
import pytest
from scipy import stats

from ddmd_mpi.study.statistics import cliffs_delta, compare, holm, mean_interval

#: Depression scale factors of nine patients before and after (Hollander and Wolfe, 1973), Table 3.1.
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]


def by_seed(values, first=1):
    return dict(enumerate(values, first))


def test_the_tests_are_those_of_scipy():
    found = compare(by_seed(AFTER), by_seed(BEFORE))
    assert found.p_rank == stats.mannwhitneyu(AFTER, BEFORE).pvalue
    assert found.p_paired == pytest.approx(stats.wilcoxon(np.array(AFTER) - BEFORE).pvalue)
    assert found.p_paired == pytest.approx(0.0390625)  # Hollander and Wolfe: two-sided, exact
    assert found.difference.value == pytest.approx(np.mean(AFTER) - np.mean(BEFORE))
    assert found.paired.value == pytest.approx(found.difference.value)
    assert (found.n, found.n_reference, found.n_pairs) == (9, 9, 9)


def test_pairs_have_the_same_seed_whatever_their_order():
    found = compare({3: 1.0, 1: 5.0, 9: 0.0}, {1: 4.0, 3: 3.0, 2: 7.0})
    assert found.n_pairs == 2
    assert found.paired.value == pytest.approx((-2.0 + 1.0) / 2)


def test_cliffs_delta_by_hand():
    generator = np.random.default_rng(1)
    found = cliffs_delta(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 4.0]), generator)
    # 1 is below all three; 2 below one, equal to two; 3 above two, below one.
    assert found.value == pytest.approx((-3 - 1 + 2 - 1) / 9)
    assert -1 <= found.low < found.value < found.high <= 1
    apart = cliffs_delta(np.arange(5.0), np.arange(5.0) + 9, generator)
    assert tuple(apart)[:3] == (-1.0, -1.0, -1.0)


def test_the_interval_of_a_mean_is_that_of_scipy():
    values = np.random.default_rng(3).normal(size=40)
    found = mean_interval(values, np.random.default_rng(1))
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=2).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(expected.low, abs=0.02)
    assert found.high == pytest.approx(expected.high, abs=0.02)


def test_the_interval_of_a_difference_holds_its_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(60):
        arm, reference = generator.normal(0.5, 1.0, 20), generator.normal(0.0, 2.0, 20)
        found = compare(by_seed(arm), by_seed(reference)).difference
        held += found.low <= 0.5 <= found.high
    assert 50 <= held <= 60


def test_a_passage_that_was_not_reached_is_later_than_all_others():
    late, early = by_seed([np.inf, 8.0, np.inf, 9.0]), by_seed([1.0, 2.0, 3.0, np.inf])
    found = compare(late, early)
    assert found.effect.value == pytest.approx((3 * 4 - 2 + 0) / 16)
    assert np.isnan(found.difference.value)
    assert found.p_rank == pytest.approx(stats.mannwhitneyu([99.0, 8.0, 99.0, 9.0], [1.0, 2.0, 3.0, 99.0]).pvalue)
    assert np.isfinite(found.p_paired)


def test_equal_arms_do_not_differ():
    never = by_seed([np.inf, np.inf, np.inf])
    found = compare(never, never)
    assert (found.effect.value, found.p_rank, found.p_paired, found.paired.value) == (0.0, 1.0, 1.0, 0.0)


def test_without_a_trial_there_is_no_number():
    found = compare({}, by_seed([1.0, 2.0]))
    assert np.isnan([found.p_rank, found.p_paired, found.effect.value, found.difference.value]).all()


def test_a_single_trial_has_no_interval():
    found = compare({1: 2.0}, {1: 1.0, 2: 1.5})
    assert (found.difference.value, found.effect.value, found.paired.value) == (0.75, 1.0, 1.0)
    assert np.isnan([found.difference.low, found.effect.high, found.paired.low]).all()


def test_holm_by_hand():
    corrected = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    assert corrected[[4, 0, 3, 1]] == pytest.approx([0.02, 0.03, 0.06, 0.06])
    assert np.isnan(corrected[2])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])
