from typing import Any

import numpy as np
import pytest

from fedrms.errors import ConfigError
from fedrms.server import FedRMS
from fedrms.server.weighed_by import weighed_by
from fedrms.weighting import Oracle

from ..by_hand import HandClient, column, grid_of, numbers, record, train_round


def oracle_round(levels: list[float], **options: Any) -> FedRMS:
    oracle = weighed_by(Oracle, **options)
    oracle.weighting.reveal_truth(lambda server_round: np.array(levels))
    clients = [HandClient(k, record(w=[float(k)]), examples=10) for k in range(len(levels))]
    train_round(oracle, grid_of(clients), record(w=[0.0]))
    return oracle


@pytest.mark.parametrize(
    ("mode", "levels", "expected"),
    [
        ("clean_only", [0.0, 0.3, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]),
        ("clean_only", [0.1, 0.3], [1.0, 1.0]),
        ("true_rate", [0.0, 0.25, 1.0], [1.0, 0.75, 0.0]),
        ("true_rate", [0.5, 3.0], [0.5, 0.0]),
        ("inverse_rate", [0.0, 0.1, 0.4], [1.0, 0.5, 0.2]),
        ("inverse_variance", [0.1, 0.2, 0.4], [1.0, 0.25, 0.0625]),
        ("inverse_variance", [0.0, 0.1, 0.2], [1.0, 1e-6, 2.5e-7]),
        ("inverse_variance", [0.0, 0.0], [1.0, 1.0]),
    ],
)
def test_scales_come_from_the_truth(mode: str, levels: list[float], expected: list[float]) -> None:
    assert column(oracle_round(levels, mode=mode), "scale") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("mode", "levels", "liars", "expected"),
    [
        ("clean_only", [0.0, 0.3, 0.0], [0], [0.0, 0.0, 1.0]),
        ("clean_only", [0.0, 0.3, 0.3], [0], [0.0, 1.0, 1.0]),
        ("clean_only", [0.0, 0.3], [0, 1], [1.0, 0.0]),
        ("true_rate", [0.0, 0.25, 0.5], [1], [1.0, 0.0, 0.5]),
        ("inverse_rate", [0.0, 0.1, 0.4], [0], [0.0, 0.5, 0.2]),
        ("inverse_variance", [0.1, 0.2, 0.4], [0], [0.0, 1.0, 0.25]),
    ],
)
def test_adversaries_are_not_clean(
    mode: str, levels: list[float], liars: list[int], expected: list[float]
) -> None:
    oracle = weighed_by(Oracle, mode=mode)
    oracle.weighting.reveal_truth(
        lambda server_round: np.array(levels), lambda clients: np.isin(clients, liars)
    )
    clients = [HandClient(k, record(w=[float(k)])) for k in range(len(levels))]
    train_round(oracle, grid_of(clients), record(w=[0.0]))
    assert column(oracle, "scale") == pytest.approx(expected)


def test_weights_are_shares_of_examples_times_the_truth() -> None:
    oracle = weighed_by(Oracle, mode="true_rate")
    oracle.weighting.reveal_truth(lambda server_round: np.array([0.0, 0.5, 0.75]))
    clients = [
        HandClient(k, record(w=[float(k)]), examples=examples)
        for k, examples in enumerate([10, 40, 40])
    ]
    arrays, _ = train_round(oracle, grid_of(clients), record(w=[0.0]))
    # 10 * 1, 40 * .5, 40 * .25 are a quarter, a half, a quarter: 0 + .5 + .5.
    assert column(oracle, "weight") == pytest.approx([0.25, 0.5, 0.25])
    assert numbers(arrays)["w"] == pytest.approx([1.0])


def test_the_truth_is_looked_up_by_client_and_round() -> None:
    oracle = weighed_by(Oracle, mode="true_rate")
    by_round = {1: [0.0, 0.5, 0.25], 2: [0.5, 0.0, 1.0]}
    oracle.weighting.reveal_truth(lambda server_round: np.array(by_round[server_round]))
    later_clients = [HandClient(2), HandClient(1)]
    train_round(oracle, grid_of(later_clients), record(w=[0.0]), 1)
    assert column(oracle, "scale") == [0.5, 0.75]
    train_round(oracle, grid_of(later_clients), record(w=[0.0]), 2)
    assert column(oracle, "scale") == [1.0, 0.0]


def test_the_estimates_are_kept_beside_the_truth() -> None:
    oracle = oracle_round([0.0, 0.5])
    assert column(oracle, "rms") == pytest.approx([1.0, 1.0])


def test_clients_need_not_report_any_statistic() -> None:
    oracle = weighed_by(Oracle, mode="true_rate")
    oracle.weighting.reveal_truth(lambda server_round: np.array([0.0, 0.5]))
    clients = [HandClient(k, losses={}) for k in range(2)]
    train_round(oracle, grid_of(clients), record(w=[0.0]))
    assert column(oracle, "scale") == [1.0, 0.5]


@pytest.mark.parametrize("combine", ["median", "trimmed_mean", "geometric_median", "multi_krum"])
def test_noisy_clients_have_no_say_in_a_robust_centre_either(combine: str) -> None:
    levels = [0.0, 0.0, 0.0, 0.9, 0.9]
    options = {"combine_options": {"trim": 0.0}} if combine == "trimmed_mean" else {}
    oracle = weighed_by(Oracle, combine=combine, **options)
    oracle.weighting.reveal_truth(lambda server_round: np.array(levels))
    clients = [HandClient(k, record(w=[2.0 if k < 3 else 100.0])) for k in range(5)]
    arrays, _ = train_round(oracle, grid_of(clients), record(w=[0.0]))
    assert numbers(arrays)["w"] == pytest.approx([2.0])


def test_without_the_truth_it_says_where_it_belongs() -> None:
    with pytest.raises(ConfigError, match="needs the true noise") as caught:
        train_round(weighed_by(Oracle), grid_of([HandClient(0), HandClient(1)]), record(w=[0.0]))
    assert caught.value.key == "strategy"
    assert "simulation" in caught.value.remedy


def test_an_unknown_mode_is_refused_with_its_key() -> None:
    with pytest.raises(ConfigError) as caught:
        weighed_by(Oracle, mode="perfect")
    assert caught.value.key == "mode"
    assert "inverse_variance" in caught.value.remedy


def test_eps_is_the_rate_at_which_a_client_counts_half() -> None:
    oracle = oracle_round([0.0, 0.3, 0.9], mode="inverse_rate", eps=0.3)
    assert column(oracle, "scale") == pytest.approx([1.0, 0.5, 0.25])


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan"), float("inf")])
def test_an_eps_that_is_not_positive_is_refused_with_its_key(eps: float) -> None:
    with pytest.raises(ConfigError) as caught:
        weighed_by(Oracle, mode="inverse_rate", eps=eps)
    assert caught.value.key == "eps"
