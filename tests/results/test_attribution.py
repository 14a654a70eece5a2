"""Weights of a round against the truth, by hand and against scikit-learn and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from fedrms.results.attribution import (
    clean_weight_share,
    effective_sample_size,
    false_penalty_share,
    noise_auroc,
    noise_spearman,
)

NAN = float("nan")
# few distinct values, so that ties are common
SCORES = arrays(np.float64, st.integers(2, 30), elements=st.integers(0, 6).map(float))


def test_auroc_counts_the_pairs_in_which_the_noisy_client_scores_higher():
    # noisy 2.0 beats both clean ones, noisy 0.5 ties one (1/2) and loses to the other
    rms = np.array([2.0, 0.5, 0.5, 1.0])
    assert noise_auroc(rms, np.array([True, True, False, False])) == 2.5 / 4


@given(SCORES, st.data())
def test_auroc_agrees_with_scikit_learn(rms, data):
    noisy = np.array(data.draw(st.lists(st.booleans(), min_size=rms.size, max_size=rms.size)))
    if noisy.all() or not noisy.any():
        assert math.isnan(noise_auroc(rms, noisy))
    else:
        assert noise_auroc(rms, noisy) == pytest.approx(roc_auc_score(noisy, rms), abs=1e-12)


def test_auroc_leaves_out_clients_without_an_estimate_or_a_known_truth():
    rms = np.array([2.0, 1.0, NAN, 9.0])
    noisy = np.array([1.0, 0.0, 1.0, NAN])
    assert noise_auroc(rms, noisy) == 1.0


def test_auroc_is_unknown_without_estimates():
    assert math.isnan(noise_auroc(np.full(3, NAN), np.array([True, False, True])))


@given(SCORES, st.data())
def test_spearman_agrees_with_scipy(rms, data):
    level = data.draw(arrays(np.float64, rms.size, elements=st.integers(0, 4).map(float)))
    if np.ptp(rms) == 0 or np.ptp(level) == 0:
        assert math.isnan(noise_spearman(rms, level))
    else:
        expected = spearmanr(rms, level).statistic
        assert noise_spearman(rms, level) == pytest.approx(expected, abs=1e-12)


def test_spearman_sees_any_monotone_relation_as_perfect():
    level = np.array([0.0, 0.3, 0.5, 0.8])
    assert noise_spearman(np.exp(level), level) == 1.0
    assert noise_spearman(-level, level) == -1.0


def test_clean_weight_share_is_the_part_of_the_weight_with_clean_clients():
    weight = np.array([0.6, 0.3, 0.3])
    assert clean_weight_share(weight, np.array([0.0, 0.0, 0.5])) == pytest.approx(0.75)
    assert math.isnan(clean_weight_share(np.full(3, NAN), np.zeros(3)))


def test_false_penalty_sums_what_clean_clients_lost_against_their_examples():
    n = np.array([100, 100, 200, 400])  # shares 1/8, 1/8, 1/4, 1/2
    weight = np.array([0.025, 0.2, 0.2, 0.575])  # lost .1, gained, lost .05, gained
    clean = np.array([0.0, 0.0, 0.0, 0.4])
    assert false_penalty_share(n, weight, clean) == pytest.approx(0.15)
    rare = np.array([False, True, True, False])
    assert false_penalty_share(n, weight, clean, rare) == pytest.approx(0.05)


def test_false_penalty_ignores_noisy_clients_and_is_zero_at_sample_size_weights():
    n = np.array([1, 1])
    assert false_penalty_share(n, np.array([1.0, 0.0]), np.array([0.0, 0.9])) == 0.0
    assert false_penalty_share(n, np.array([0.5, 0.5]), np.zeros(2)) == 0.0


def test_false_penalty_takes_shares_over_the_clients_that_answered():
    n = np.array([1, 1, 2])
    weight = np.array([0.5, 0.5, NAN])  # the third failed: the others lost nothing by it
    assert false_penalty_share(n, weight, np.zeros(3)) == 0.0


def test_false_penalty_is_unknown_when_there_is_nobody_to_lose():
    n, weight = np.ones(2), np.full(2, 0.5)
    assert math.isnan(false_penalty_share(n, weight, np.array([0.1, 0.2])))
    assert math.isnan(false_penalty_share(n, weight, np.zeros(2), np.zeros(2, bool)))


def test_effective_sample_size_counts_equal_weights_and_ignores_their_unit():
    assert effective_sample_size(np.full(5, 0.2)) == pytest.approx(5)
    assert effective_sample_size(np.array([1.0, 0.0])) == 1.0
    assert effective_sample_size(np.array([3.0, 1.0]) * 1e-200) == pytest.approx(1.6)
    assert math.isnan(effective_sample_size(np.array([NAN, 0.0])))
