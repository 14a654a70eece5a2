"""Clients that look different, beside the others."""

import math

import numpy as np
import pytest

from fedrms.results import by_look
from fedrms.results.attribution import least_clean_weight


def test_the_two_groups_are_averaged_apart_and_weight_is_told_as_a_multiple_of_fedavgs():
    got = by_look(
        np.array([0.9, 0.8, 0.3, 0.5]),
        np.array([0.5, 0.3, 0.1, 0.1]),
        np.array([10, 10, 10, 10]),
        np.array([False, False, True, True]),
        np.ones(4, bool),
    )
    assert got == pytest.approx({"usual_mean": 0.85, "other_mean": 0.4, "other_weight": 0.4})


def test_who_took_no_part_has_a_score_and_no_weight():
    took_part = np.array([True, False, True])
    other = np.array([True, True, False])
    weight = np.array([0.5, math.nan, 0.5])
    got = by_look(np.array([0.2, 0.4, 1.0]), weight, np.array([30, 99, 10]), other, took_part)
    assert got["other_mean"] == pytest.approx(0.3)
    assert got["other_weight"] == pytest.approx(0.5 * 40 / 30)


def test_a_strategy_that_tells_no_weights_leaves_them_unknown():
    nan = np.full(2, math.nan)
    got = by_look(np.ones(2), nan, np.ones(2), np.array([True, False]), np.ones(2, bool))
    assert math.isnan(got["other_weight"])


def test_the_least_weight_of_a_clean_client_counts_in_multiples_of_its_share():
    n, w = np.array([10, 30, 60]), np.array([0.05, 0.35, 0.6])
    clean = np.array([0.0, 0.0, 0.4])
    assert least_clean_weight(n, w, clean) == pytest.approx(0.5)
    assert least_clean_weight(n, np.array([0.1, 0.3, 0.6]), clean) == pytest.approx(1.0)
    assert least_clean_weight(n, np.array([math.nan, 0.4, 0.6]), clean) == pytest.approx(1.2)
    assert math.isnan(least_clean_weight(n, w, np.full(3, 0.1)))
