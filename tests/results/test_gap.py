"""The gap's interval holds the shares that its own test, sign flips, does not reject."""

import math

import numpy as np
import pytest

from fedrms.results.gap import gap_interval
from fedrms.results.intervals import ratio_interval
from fedrms.results.significance import sign_flip_p


def cases(count=60):
    draw = np.random.default_rng(0)
    for index in range(count):
        seeds = int(draw.integers(6, 11))
        lead = draw.normal(0.9, 0.8, seeds)
        closed = 0.6 * lead + draw.normal(0.0, 0.6, seeds)
        if index % 3 == 0:  # accuracies are counts: ties and differences of exactly 0
            lead, closed = np.round(lead * 2) / 2, np.round(closed * 2) / 2
        if lead.sum() > 0:
            yield closed, lead


def test_just_inside_its_ends_the_test_does_not_reject_and_just_outside_it_does():
    bounded = 0
    for closed, lead in cases():
        low, high = gap_interval(closed, lead, "sign_flip")
        if math.isinf(low) or math.isinf(high):
            continue
        bounded += 1
        step = 1e-7 * max(1.0, high - low)
        for end, outwards in ((low, -step), (high, step)):
            assert max(sign_flip_p(closed - g * lead) for g in (end, end - outwards)) > 0.05
            assert sign_flip_p(closed - (end + outwards) * lead) <= 0.05
        for g in np.linspace(low - 40, high + 40, 401):
            if not low <= g <= high:
                assert sign_flip_p(closed - g * lead) <= 0.05
    assert bounded > 20


def test_it_has_both_ends_where_the_test_is_sure_of_the_oracles_lead():
    for closed, lead in cases():
        if sign_flip_p(lead) <= 0.05:
            assert np.isfinite(gap_interval(closed, lead, "sign_flip")).all()


def test_it_has_no_end_where_the_oracle_may_be_no_better():
    lead = np.array([3.0, -2.5, 2.0, -1.5, 1.0, -0.5])
    closed = np.array([1.0, 0.4, 0.9, 0.2, 0.7, 0.8])
    assert gap_interval(closed, lead, "sign_flip") == (-math.inf, math.inf)


def test_by_hand_with_six_seeds_all_but_two_of_64_choices_must_be_nearer():
    # p is 2/64 beyond, and 4/64 once one flip more is as far: with equal leads that is the flip
    # of the smallest, whose root is the value itself.
    closed = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    low, high = gap_interval(closed, np.ones(6), "sign_flip")
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.6))


def test_the_order_of_the_seeds_and_the_sign_of_what_is_better_change_nothing():
    closed, lead = next(cases())
    order = np.random.default_rng(1).permutation(len(lead))
    straight = gap_interval(closed, lead, "sign_flip")
    assert gap_interval(closed[order], lead[order], "sign_flip") == straight
    assert gap_interval(-closed, -lead, "sign_flip") == pytest.approx(straight)


@pytest.mark.parametrize("seeds", [3, 8])
def test_with_the_t_test_it_is_fiellers_and_with_few_seeds_as_well(seeds):
    draw = np.random.default_rng(2)
    lead = draw.normal(3.0, 0.5, seeds)
    closed = 0.5 * lead + draw.normal(0, 0.3, seeds)
    fieller = ratio_interval(closed, lead, students=True)
    assert gap_interval(closed, lead, "t") == fieller
    assert (gap_interval(closed, lead, "sign_flip") == fieller) == (seeds == 3)


def test_a_strategy_that_is_the_oracle_has_a_gap_without_an_interval():
    lead = np.array([1.0, 2.0, 3.0, 1.5, 2.5, 0.5])
    assert np.isnan(gap_interval(lead, lead, "sign_flip")).all()
    assert gap_interval(0.0 * lead, lead, "sign_flip") == (0.0, 0.0)
