"""Paired tests and Holm's correction, against scipy, closed testing and by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedrms.results.significance import (
    EXACT_UP_TO,
    holm,
    seeds_needed,
    sign_flip_p,
    t_test_p,
)

numbers = st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=9)


def test_three_seeds_all_better_are_a_quarter():
    assert sign_flip_p(np.array([0.04, 0.02, 0.07])) == 0.25
    assert sign_flip_p(np.array([-0.04, -0.02, -0.07])) == 0.25


def test_sign_flips_are_counted_by_hand():
    # sums of +-1 +-2 +-4 are all odd numbers from -7 to 7; 5 is reached by 7, 5, -5, -7
    assert sign_flip_p(np.array([-1.0, 2.0, 4.0])) == 4 / 8


@given(numbers)
def test_sign_flips_agree_with_scipy(listed):
    d = np.array(listed)
    expected = 1.0
    if len(d) > 1:
        expected = stats.permutation_test(
            (d,), np.sum, permutation_type="samples", n_resamples=np.inf
        ).pvalue
    assert sign_flip_p(d) == pytest.approx(expected)


def test_rounding_does_not_tell_equal_sums_apart():
    assert sign_flip_p(np.array([0.1, 0.2, -0.3])) == 1.0  # 0.1 + 0.2 - 0.3 is 5.6e-17
    assert sign_flip_p(np.array([0.1, 0.2, 0.3, 0.7])) == 2 / 16  # added in another order: 1.3


def test_many_seeds_are_tested_by_random_flips_that_never_give_zero():
    assert sign_flip_p(np.ones(EXACT_UP_TO + 14)) == 2**-16  # the observed signs, and no others
    d = np.random.default_rng(0).normal(0.3, 1.0, EXACT_UP_TO + 4)
    assert sign_flip_p(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)


def test_the_t_test_is_scipys():
    d = np.array([0.04, 0.02, 0.07])
    assert t_test_p(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue)


def test_what_cannot_be_tested_has_no_p():
    assert math.isnan(t_test_p(np.array([0.1])))
    assert math.isnan(t_test_p(np.array([0.1, 0.1, 0.1])))  # no spread to judge by
    assert t_test_p(np.zeros(3)) == 1.0
    for test in (sign_flip_p, t_test_p):
        assert math.isnan(test(np.array([])))
        assert math.isnan(test(np.array([0.1, math.nan])))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.integers(0, 100).map(lambda k: k / 100), min_size=1, max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p):
    corrected = holm(p)
    for i in range(len(p)):
        others = [j for j in range(len(p)) if j != i]
        subsets = itertools.chain.from_iterable(
            itertools.combinations(others, k) for k in range(len(p))
        )
        worst = max((1 + len(s)) * min(p[j] for j in (i, *s)) for s in subsets)
        assert corrected[i] == pytest.approx(min(1.0, worst))


def test_an_untested_comparison_still_counts():
    first, second = holm([0.02, math.nan])
    assert first == 0.04
    assert math.isnan(second)


@pytest.mark.parametrize("comparisons", [1, 2, 14, 105])
def test_fewer_seeds_than_needed_cannot_decide(comparisons):
    n = seeds_needed(comparisons)
    assert comparisons * sign_flip_p(np.ones(n)) <= 0.05
    assert comparisons * sign_flip_p(np.ones(n - 1)) > 0.05
    assert seeds_needed(1) == 6
    assert seeds_needed(comparisons, "t") == 2
