"""Intervals of a mean and of a ratio, against scipy and against every resample."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq

from fedrms.results.intervals import BOOTSTRAP_FROM, mean_interval, ratio_interval

SIX = np.array([0.3, 1.1, -0.4, 0.9, 2.5, 0.2])
values = st.floats(-100, 100).map(lambda x: round(x, 3))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_of_few_seeds_the_interval_is_students(n):
    d = SIX[:n]
    expected = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert mean_interval(d) == pytest.approx(tuple(expected))


def test_from_six_seeds_on_the_critical_values_are_those_of_the_bootstrapped_t():
    n = len(SIX)
    assert n == BOOTSTRAP_FROM
    drawn = SIX[np.array(list(itertools.product(range(n), repeat=n)))]  # every resample
    with np.errstate(divide="ignore"):
        t = (drawn.mean(1) - SIX.mean()) / (drawn.std(1, ddof=1) / math.sqrt(n))
    low, high = np.quantile(t, [0.025, 0.975], method="inverted_cdf")
    error = SIX.std(ddof=1) / math.sqrt(n)
    expected = (SIX.mean() - high * error, SIX.mean() - low * error)
    assert mean_interval(SIX) == pytest.approx(expected, abs=0.1)
    student = stats.ttest_1samp(SIX, 0).confidence_interval(0.95)
    assert mean_interval(SIX).high > student.high + 0.3  # one seed is far above: skewed


def test_one_seed_far_from_all_others_does_not_take_an_end_beyond_them() -> None:
    """The draws without it have next to no spread, so their ratio is dozens of times Student's."""
    values = np.array([-5, 5, 10, -5, 0, 5, 10, -947, 10, 14]) / 1000
    low, high = mean_interval(values)
    assert values.min() < low < values.mean() < high < 0.1


@pytest.mark.parametrize("sign", [1, -1])
def test_a_ratios_ends_are_where_a_t_test_just_rejects(sign):
    d, o = np.array([1.0, 2.0, 1.5, 2.2]), sign * np.array([2.0, 2.6, 1.9, 3.0])

    def margin(g):
        return stats.ttest_1samp(d - g * o, 0).pvalue - 0.05

    ratio = d.mean() / o.mean()
    expected = (brentq(margin, ratio - 0.6, ratio), brentq(margin, ratio, ratio + 0.6))
    assert ratio_interval(d, o) == pytest.approx(expected, rel=1e-6)


def test_a_ratio_of_two_losses_is_that_of_two_gains():
    o = np.array([2.0, 2.6, 1.9, 3.0, 2.2, 2.4])
    assert ratio_interval(-SIX, -o) == ratio_interval(SIX, o)


def test_a_ratio_to_what_may_be_zero_has_no_end():
    assert ratio_interval(np.array([1.0, 2.0, 1.0]), np.array([3.0, -1.0, 1.0])) == (
        -math.inf,
        math.inf,
    )


def test_values_without_spread_have_no_interval_but_zero():
    assert mean_interval(np.zeros(3)) == (0, 0)
    for d in ([0.1, 0.1, 0.1], [0.3], [], [1.0, math.nan], [1.0, math.inf]):
        assert all(map(math.isnan, mean_interval(np.array(d))))


@given(st.lists(values, min_size=3, max_size=8), st.permutations(range(8)), st.integers(-6, 6))
def test_neither_the_seeds_order_nor_the_unit_matters(listed, order, exponent):
    d = np.array(listed)
    shuffled = d[[i for i in order if i < len(d)]]
    assert mean_interval(shuffled) == pytest.approx(tuple(mean_interval(d)), nan_ok=True)
    scaled = np.array(mean_interval(d * 2.0**exponent)) / 2.0**exponent
    assert tuple(scaled) == pytest.approx(tuple(mean_interval(d)), nan_ok=True, rel=1e-9)


@pytest.mark.parametrize("n", [3, 8])
def test_a_95_percent_interval_covers_the_truth_in_95_of_100(n):
    draws = np.random.default_rng(0).normal(2.0, 1.0, (1000, n))
    inside = [low <= 2.0 <= high for low, high in map(mean_interval, draws)]
    assert 0.93 < np.mean(inside) < 0.97


def test_a_ratios_interval_covers_too_where_the_percentile_bootstraps_does_not():
    rng = np.random.default_rng(0)
    covered = {"here": 0, "percentile": 0}
    for _ in range(300):
        shared, own, other = rng.normal(0.0, 0.7, (3, 6))
        d, o = 1.6 + shared + own, 2.0 + shared + other  # the ratio of the means is 0.8
        low, high = ratio_interval(d, o)
        at = rng.integers(0, 6, (400, 6))
        ends = np.quantile(d[at].mean(1) / o[at].mean(1), [0.025, 0.975])
        covered["here"] += low <= 0.8 <= high
        covered["percentile"] += ends[0] <= 0.8 <= ends[1]
    assert 0.92 < covered["here"] / 300 < 0.98
    assert covered["percentile"] / 300 < 0.9
