"""Excess loss: what a client loses above what clean clients lose with its classes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrms.replies.class_losses import ClassLosses
from fedrms.weighting.excess import Evidence, Updates, measure, weighted_quantiles

from .by_hand import quickly

EVERYONE = np.ones(3)
NAN = float("nan")


def losses_of(count, mean, variance=None, chance=None) -> ClassLosses:
    count, mean = np.array(count, float), np.array(mean, float)
    spread = np.zeros_like(count) if variance is None else np.array(variance, float)
    level = None if chance is None else np.broadcast_to(np.asarray(chance, float), count.shape)
    return ClassLosses(count, mean, spread, level)


# Class 0: losses 1, 2, 4 with 10 examples each; half of the weight is reached at 2.
# Class 1: losses 3, 1 with 20 and 10 examples; half of 30 is reached at 3.
COUNT = [[10, 20], [10, 0], [10, 10]]
MEAN = [[1, 3], [2, 0], [4, 1]]
VARIANCE = [[4, 8], [1, 0], [0, 1]]
CHANCE = [[6, 9], [6, 0], [3, 9]]


def by_hand(chance=CHANCE) -> Evidence:
    return measure(losses_of(COUNT, MEAN, VARIANCE, chance), EVERYONE, 0.5)


def test_a_client_is_compared_with_the_reference_of_the_classes_it_holds() -> None:
    # Observed 70, 20, 50; expected 10*2 + 20*3, 10*2, 10*2 + 10*3; chance of class 0: 6.
    unit = np.array([10 * 6 + 20 * 9, 10 * 6, 10 * 6 + 10 * 9])
    evidence = by_hand()
    assert evidence.share == pytest.approx(np.array([70 - 80, 20 - 20, 50 - 50]) / unit)
    assert evidence.misfit == pytest.approx(np.array([80, 20, 50]) / unit)
    assert evidence.chance


def test_one_huge_claim_of_a_chance_loss_moves_no_unit() -> None:
    claimed = [[6, 9], [1e9, 0], [3, 9]]
    assert by_hand(claimed).share == pytest.approx(by_hand().share)


def test_the_error_is_that_of_a_sum_of_independent_losses() -> None:
    # Unbiased variances of class 0: 40/9, 10/9, 0 weigh 10 each; of 1: 160/19 and 10/9, 20 and 10.
    pooled = np.array([50 / 9 / 3, (20 * 160 / 19 + 10 * 10 / 9) / 30])
    expected = np.sqrt(np.array(COUNT) @ pooled) / [240, 60, 150]
    assert by_hand().error == pytest.approx(expected)


def test_in_regression_the_error_is_that_of_the_clients_own_losses() -> None:
    expected = np.sqrt([10 * 4 + 20 * 8, 10 * 1, 10 * 1]) / [80, 20, 50]
    assert by_hand(chance=None).error == pytest.approx(expected)


def unitless(values, mean=((1.0,), (1.0,), (9.0,)), variance=0.0) -> ClassLosses:
    """Three clients with 100 rows; the third loses nine times as much."""
    own = np.array(values, float)[:, None]
    made = losses_of(np.full((3, 1), 100), mean)
    return replace(made, unitless=own, unitless_variance=np.where(np.isnan(own), own, variance))


def test_in_regression_a_loss_that_other_units_explain_is_no_excess() -> None:
    """Plain losses are 8 above the reference of 1, unitless ones 0 and .5 above that of .2."""
    evidence = measure(unitless([0.2, 0.3, 0.2], variance=0.04), EVERYONE, 0.5)
    assert evidence.share == pytest.approx([0.0, 0.0, 0.0])
    assert evidence.error == pytest.approx([0, 0, np.sqrt((0.04 / 0.2**2 + 2 + 0.8) / 100)])
    noisy = measure(unitless([0.2, 0.2, 1.0]), EVERYONE, 0.5)
    assert noisy.share == pytest.approx([0.0, 0.0, 4.0])


def test_an_unsure_unitless_loss_explains_nothing() -> None:
    assert measure(unitless([0.2, 0.2, 0.2], variance=1e3), EVERYONE, 0.5).share[2] == 8.0


@pytest.mark.parametrize("told", [[NAN, NAN, 0.2], [0.2, 0.2, NAN]])
def test_who_tells_no_unitless_loss_is_compared_by_the_plain_one(told) -> None:
    """The third is compared with those of its kind: with itself, where nobody else tells one."""
    share = measure(unitless(told), EVERYONE, 0.5).share
    assert share == pytest.approx([0.0, 0.0, 8.0 if np.isnan(told[2]) else 0.0])


def test_a_claim_of_no_unitless_loss_at_all_is_no_reference() -> None:
    losses = unitless([0.2, 0.2, 0.0], [[1.0], [9.0], [1.0]])
    assert measure(losses, np.array([1, 1, 9]), 0.5).share == pytest.approx([0.0, 0.0, 0.0])


@pytest.mark.parametrize(("forgiven", "left"), [(1.0, 0.0), (0.25, 6.0), (0.0, 8.0)])
def test_a_part_of_what_units_explain_may_count_all_the_same(forgiven, left) -> None:
    found = measure(unitless([0.2, 0.2, 0.2]), EVERYONE, 0.5, forgiven=forgiven)
    assert found.share[2] == pytest.approx(left)


def test_the_spread_is_the_variance_within_classes_above_that_of_clean_clients() -> None:
    """Clean variances are 0 and 10/9; of 30, 10 and 20 examples 28, 9 and 18 tell of a spread."""
    above = [9 * 40 / 9 + 19 * (160 / 19 - 10 / 9), 9 * 10 / 9, 0.0]
    expected = np.array(above) / [28, 9, 18] / np.square([240 / 30, 60 / 10, 150 / 20])
    assert by_hand().spread == pytest.approx(expected)


def test_a_class_of_one_example_tells_nothing_of_a_spread() -> None:
    losses = losses_of([[1, 9], [1, 9], [1, 9]], [[1, 1]] * 3, [[0, 2]] * 3, chance=5)
    assert measure(losses, EVERYONE, 0.5).spread == pytest.approx(np.zeros(3))


def test_hardness_is_the_expected_loss_of_an_example_over_that_of_the_cohort() -> None:
    # 80/30, 20/10, 50/20 over 150/60.
    assert by_hand().hardness == pytest.approx([80 / 75, 0.8, 1.0])


def test_without_a_chance_loss_the_unit_is_the_expected_loss() -> None:
    evidence = by_hand(chance=None)
    assert evidence.share == pytest.approx([-10 / 80, 0.0, 0.0])
    assert evidence.misfit == pytest.approx([1.0, 1.0, 1.0])
    assert not evidence.chance


def test_who_alone_holds_a_class_has_no_excess_on_it_however_hard_it_is() -> None:
    evidence = measure(
        losses_of([[10, 0], [10, 0], [0, 30]], [[1, 0], [1, 0], [0, 50]]), EVERYONE, 0.25
    )
    assert evidence.share.tolist() == [0.0, 0.0, 0.0]
    assert evidence.hardness[2] > 1.0


def test_effort_is_work_an_example_over_the_usual_one_and_at_most_ten_times_it() -> None:
    losses = losses_of(COUNT, MEAN, VARIANCE, CHANCE)  # 30, 10 and 20 examples
    told = measure(losses, EVERYONE, 0.5, updates=Updates(work=np.array([3.0, 2.0, 50.0]))).effort
    assert told.tolist() == [0.5, 1.0, 10.0]
    told = measure(losses, EVERYONE, 0.5, updates=Updates(work=np.array([3.0, 2.0, np.nan]))).effort
    assert told == pytest.approx(np.array([0.1 / 0.15, 0.2 / 0.15, 1.0]))
    assert measure(losses, EVERYONE, 0.5).effort.tolist() == [1.0, 1.0, 1.0]


def test_work_that_an_update_contradicts_does_not_make_a_client_count_little() -> None:
    losses = losses_of(np.full((5, 1), 10), np.ones((5, 1)), np.ones((5, 1)), np.full((5, 1), 2))
    work = np.array([1.0, 1.0, 1.0, 1.0, 0.01])
    found = measure(losses, np.ones(5), 0.5, 2.0, Updates(np.ones(5), work))
    assert found.contradicted.tolist() == [False] * 5  # no longer than others' by any measure
    long = np.array([1.0, 1.0, 1.0, 1.0, 2.5])
    found = measure(losses, np.ones(5), 0.5, 2.0, Updates(long, work))
    assert found.contradicted.tolist() == [False] * 4 + [True]
    assert found.effort.tolist() == [1.0] * 5


def test_the_same_mean_loss_is_noise_on_an_easy_class_and_none_on_a_hard_one() -> None:
    """Overall means could not tell client 2 (clean, hard class) from client 3 (noisy, easy one)."""
    count = [[10, 0], [10, 10], [0, 10], [10, 0]]
    mean = [[1, 0], [1, 5], [0, 5], [5, 0]]
    evidence = measure(losses_of(count, mean, chance=[8, 8]), np.ones(4), 0.25)
    assert evidence.share == pytest.approx([0, 0, 0, (5 - 1) / 8])


@quickly
@given(factor=st.floats(1e-6, 1e6))
def test_losses_in_other_units_change_nothing(factor: float) -> None:
    scaled = losses_of(
        COUNT, factor * np.array(MEAN), factor**2 * np.array(VARIANCE), factor * np.array(CHANCE)
    )
    there, here = measure(scaled, EVERYONE, 0.5), by_hand()
    for name in ("share", "error", "misfit", "hardness"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), rel=1e-9)


@quickly
@given(
    flips=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    right=st.floats(0.01, 1.0),
    wrong=st.floats(2.0, 9.0),
    seed=st.integers(0, 99),
)
def test_the_excess_over_the_loss_from_right_to_chance_is_the_flip_rate(
    flips: list[float], right: float, wrong: float, seed: int
) -> None:
    """Classes alike in difficulty, any class mix: a client's mean loss is (1-p) a + p b."""
    rates = np.array([0.0, 0.0, *flips])
    count = np.random.default_rng(seed).integers(1, 50, (len(rates), 3)).astype(float)
    mean = ((1 - rates) * right + rates * wrong)[:, None] * np.ones(3)
    evidence = measure(losses_of(count, mean, chance=wrong), np.where(rates, 1e-9, 1.0), 0.25)
    assert evidence.share == pytest.approx(rates * (wrong - right) / wrong, abs=1e-9)


def test_where_right_labels_cost_next_to_nothing_the_share_is_the_flip_rate() -> None:
    rates = np.array([0.0, 0.3, 0.8])
    mean = ((1 - rates) * 0.001 + rates * 5.0)[:, None] * np.ones(2)
    evidence = measure(losses_of([[20, 30]] * 3, mean, chance=5.0), EVERYONE, 0.25)
    assert evidence.share == pytest.approx(rates, abs=2e-4)


def test_who_claims_to_lose_nothing_sets_no_reference_and_no_unit() -> None:
    count, mean = [[10], [10], [10]], [[2], [2], [0]]
    evidence = measure(losses_of(count, mean, chance=[[8], [8], [0]]), EVERYONE, 0.25)
    assert evidence.claims_noise.tolist() == [True, True, False]
    assert evidence.share == pytest.approx([0.0, 0.0, -0.25])


def test_where_nobody_loses_anything_nobody_is_noisy() -> None:
    evidence = measure(losses_of([[10]] * 3, [[0]] * 3, chance=0), EVERYONE, 0.25)
    assert evidence.share.tolist() == [0.0] * 3
    assert evidence.hardness.tolist() == [1.0] * 3


def test_who_is_not_trusted_moves_the_reference_less() -> None:
    losses = losses_of([[10], [10]], [[1], [3]], chance=10)
    assert measure(losses, np.array([1.0, 1.0]), 0.5).share == pytest.approx([0.0, 0.2])
    assert measure(losses, np.array([0.5, 1.0]), 0.5).share == pytest.approx([-0.2, 0.0])


# Quantiles


@quickly
@given(
    pairs=st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 4)), min_size=1, max_size=9),
    quantile=st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]),
)
def test_a_weight_is_so_many_copies(pairs: list[tuple[int, int]], quantile: float) -> None:
    values, weights = np.array(pairs, float).T
    copies = np.repeat(values, weights.astype(int))
    got = weighted_quantiles(values[:, None], weights[:, None], quantile)
    expected = np.quantile(copies, quantile, method="inverted_cdf") if copies.size else 0.0
    assert got.tolist() == [expected]


def test_each_class_has_a_quantile_of_its_own() -> None:
    values = np.array([[1.0, 9.0], [2.0, 8.0], [3.0, 7.0]])
    weights = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 5.0]])
    assert weighted_quantiles(values, weights, 0.5).tolist() == [2.0, 7.0]


def test_a_class_that_nobody_holds_has_the_reference_zero() -> None:
    assert weighted_quantiles(np.array([[4.0]]), np.array([[0.0]]), 0.25).tolist() == [0.0]
