"""Spread over clients by hand, by properties, and the choice of metrics by name."""

import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy as scipy_entropy

from fedrms.errors import ConfigError
from fedrms.results.fairness import (
    AVAILABLE,
    best_share,
    client_metrics,
    cosine_to_uniform,
    entropy,
    gini,
    jain,
    validate,
    weighting_metrics,
    worst_share,
)

ACCURACIES = arrays(np.float64, st.integers(1, 40), elements=st.floats(1e-6, 1.0, allow_nan=False))
TEN = np.array([0.9, 0.5, 0.8, 0.7, 0.6, 0.9, 0.8, 0.7, 0.6, 0.5])


def all_of(values, *, fraction=0.1, higher_is_better=True):
    return client_metrics(
        values, metrics=AVAILABLE, fraction=fraction, higher_is_better=higher_is_better
    )


def test_accuracies_worked_by_hand():
    got = all_of(np.array([0.2, 0.4, 0.6, 0.8]), fraction=0.5)
    assert got["client_mean"] == pytest.approx(0.5)
    assert got["client_std"] == pytest.approx(math.sqrt(0.05))
    assert got["client_variance_e4"] == pytest.approx(500)  # 5 points^2 x 100
    assert got["client_worst"] == pytest.approx(0.3)
    assert got["client_best"] == pytest.approx(0.7)
    assert got["client_min"] == 0.2
    assert got["client_jain"] == pytest.approx(4 / 4.8)
    assert got["client_gini"] == pytest.approx(0.25)  # 2 * (3*.2+2*.4+.2) / (2*16*.5)
    assert got["client_entropy"] == pytest.approx(
        -(0.1 * math.log(0.1) + 0.2 * math.log(0.2) + 0.3 * math.log(0.3) + 0.4 * math.log(0.4))
        / math.log(4)
    )
    assert got["client_cosine"] == pytest.approx(math.sqrt(4 / 4.8))


def test_for_errors_the_worst_clients_are_the_highest():
    got = all_of(np.array([1.0, 2.0, 5.0]), higher_is_better=False)
    assert (got["client_worst"], got["client_best"], got["client_min"]) == (5.0, 1.0, 5.0)


@pytest.mark.parametrize(("clients", "taken"), [(1, 1), (9, 1), (10, 1), (20, 2), (39, 3)])
def test_worst_share_takes_the_floor_of_a_tenth_but_at_least_one_client(clients, taken):
    x = np.arange(clients, dtype=float)
    assert worst_share(x, 0.1) == np.mean(x[:taken])
    assert best_share(x, 0.1) == np.mean(x[-taken:])


def test_share_size_survives_binary_fractions():
    assert worst_share(np.arange(100.0), 0.29) == np.mean(np.arange(29.0))


@given(ACCURACIES)
def test_jain_is_the_squared_cosine_to_the_uniform_vector(x):
    cosine = x @ np.ones_like(x) / (np.linalg.norm(x) * np.sqrt(x.size))
    assert cosine_to_uniform(x) == pytest.approx(cosine)
    assert jain(x) == pytest.approx(cosine**2)


@given(ACCURACIES, st.floats(1e-3, 1e3))
def test_inequality_does_not_depend_on_the_unit_and_stays_in_bounds(x, unit):
    for index in (gini, jain, entropy, cosine_to_uniform):
        assert index(unit * x) == pytest.approx(index(x), abs=1e-9)
    n = x.size
    assert 0 <= gini(x) <= (n - 1) / n + 1e-12
    assert 1 / n - 1e-12 <= jain(x) <= 1 + 1e-12
    assert -1e-12 <= entropy(x) <= 1 + 1e-12


@given(ACCURACIES)
def test_gini_is_the_mean_absolute_difference_over_twice_the_mean(x):
    pairs = np.abs(x[:, None] - x[None, :]).mean()
    assert gini(x) == pytest.approx(pairs / (2 * x.mean()), abs=1e-12)


@given(ACCURACIES)
def test_entropy_agrees_with_scipy(x):
    expected = (
        scipy_entropy(x) / math.log(x.size) if x.size > 1 else 1.0
    )  # scipy divides by the sum
    assert entropy(x) == pytest.approx(expected, abs=1e-9)


@given(ACCURACIES, st.randoms())
def test_the_order_of_the_clients_changes_no_bit(x, random):
    shuffled = x.copy()
    random.shuffle(shuffled)
    assert all_of(shuffled) == all_of(x)


def test_equal_clients_are_perfectly_fair_and_one_owner_is_not():
    got = all_of(np.full(8, 0.7))
    for name, value in {"jain": 1, "entropy": 1, "cosine": 1, "gini": 0, "std": 0}.items():
        assert got[f"client_{name}"] == pytest.approx(value, abs=1e-9)
    owner = np.array([0.0, 0.0, 0.0, 1.0])
    assert (jain(owner), gini(owner), entropy(owner)) == (0.25, 0.75, 0.0)


def test_shares_of_nothing_are_unknown():
    for index in (gini, jain, entropy, cosine_to_uniform):
        assert math.isnan(index(np.zeros(3)))


def test_clients_that_were_not_evaluated_are_left_out():
    with_gaps = np.insert(TEN, [0, 4], np.nan)
    assert all_of(with_gaps) == all_of(TEN)
    assert all(math.isnan(v) for v in all_of(np.full(3, np.nan)).values())


def test_a_diverged_client_is_seen_not_hidden():
    got = all_of(np.array([0.1, np.inf]), higher_is_better=False)
    assert got["client_min"] == got["client_mean"] == math.inf
    assert math.isnan(got["client_gini"])


def test_only_the_chosen_metrics_are_computed_each_by_its_own_family():
    chosen = ["client_gini", "effective_sample_size"]
    got = client_metrics(TEN, metrics=chosen, fraction=0.1, higher_is_better=True)
    assert list(got) == ["client_gini"]
    unknown = {"rms": None, "true_noise": None, "rare": None}
    weights = {"num_examples": np.ones(2), "weight": np.array([0.5, 0.5])}
    assert weighting_metrics(**weights, **unknown, metrics=chosen) == {"effective_sample_size": 2}


def test_weighting_metrics_join_rates_and_truth():
    got = weighting_metrics(
        num_examples=np.array([10, 10, 20]),
        weight=np.array([0.25, 0.1, 0.65]),
        rms=np.array([1.0, 3.0, 2.0]),
        true_noise=np.array([0.0, 0.0, 0.6]),
        rare=np.array([True, False, False]),
        metrics=AVAILABLE,
    )
    assert got["noise_auroc"] == 0.5
    assert got["noise_spearman"] == pytest.approx(0.0)
    assert got["clean_weight_share"] == pytest.approx(0.35)
    assert got["false_penalty"] == pytest.approx(0.15)
    assert got["false_penalty_rare"] == 0.0
    assert got["effective_sample_size"] == pytest.approx(1 / (0.0625 + 0.01 + 0.4225))


def test_what_clean_clients_lost_is_parted_into_easy_hard_and_rare():
    got = weighting_metrics(
        num_examples=np.full(5, 20),  # a share of .2 each
        weight=np.array([0.05, 0.1, 0.18, 0.67, 0.0]),  # lost .15, .1, .02, gained, lost .2
        rms=None,
        true_noise=np.array([0.0, 0.0, 0.0, 0.0, 0.5]),
        rare=np.array([True, False, False, False, False]),
        hard=np.array([True, True, False, False, True]),  # whoever is rare is not hard
        metrics=AVAILABLE,
    )
    assert got["false_penalty_rare"] == pytest.approx(0.15)
    assert got["false_penalty_hard"] == pytest.approx(0.1)
    assert got["false_penalty_easy"] == pytest.approx(0.02)
    assert got["false_penalty"] == pytest.approx(0.27)


def test_an_adversary_is_not_clean_whatever_its_data():
    got = weighting_metrics(
        num_examples=np.full(4, 20),
        weight=np.array([0.2, 0.1, 0.4, 0.3]),  # the first two lost .05 and .15
        rms=np.array([1.0, 0.0, 3.0, 2.0]),
        true_noise=np.array([0.0, 0.0, 0.5, 0.0]),
        rare=np.zeros(4, bool),
        hard=np.zeros(4, bool),
        adversary=np.array([False, True, False, False]),
        metrics=AVAILABLE,
    )
    assert got["clean_weight_share"] == pytest.approx(0.5)
    assert got["false_penalty"] == got["false_penalty_easy"] == pytest.approx(0.05)
    assert got["noise_auroc"] == 1.0


def test_nobody_is_easy_or_hard_where_that_is_not_known():
    got = weighting_metrics(
        num_examples=np.ones(2),
        weight=np.array([0.25, 0.75]),
        rms=None,
        true_noise=np.zeros(2),
        rare=np.zeros(2, bool),
        metrics=AVAILABLE,
    )
    assert got["false_penalty"] == 0.25
    assert math.isnan(got["false_penalty_easy"])
    assert math.isnan(got["false_penalty_hard"])


def test_the_default_table_has_jains_index_and_not_its_root_beside_it(repository):
    chosen = yaml.safe_load((repository / "conf" / "fairness" / "all.yaml").read_text())["metrics"]
    assert set(AVAILABLE) - set(chosen) == {"client_cosine"}


def test_a_strategy_without_weights_gets_unknown_metrics():
    got = weighting_metrics(
        num_examples=np.ones(3),
        weight=None,
        rms=None,
        true_noise=np.array([0.0, 0.5, 0.0]),
        rare=None,
        metrics=AVAILABLE,
    )
    assert len(got) == 9
    assert all(math.isnan(value) for value in got.values())


def test_the_default_choice_is_everything_in_the_order_of_the_table():
    assert validate(None) == AVAILABLE
    assert validate(["noise_auroc", "client_mean", "noise_auroc"]) == ("client_mean", "noise_auroc")
    assert validate([]) == ()


@pytest.mark.parametrize("wrong", [["client_meen"], "client_mean"])
def test_a_wrong_choice_names_its_key(wrong):
    with pytest.raises(ConfigError) as caught:
        validate(wrong)
    assert caught.value.key == "fairness.metrics"


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_a_wrong_fraction_names_its_key(fraction):
    with pytest.raises(ConfigError) as caught:
        validate(None, fraction)
    assert caught.value.key == "fairness.fraction"
