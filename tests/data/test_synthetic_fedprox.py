"""FedProx's synthetic set: the law of each client, and whose test rows are whose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fedrms.data import Federation, build
from fedrms.data.synthetic_fedprox import synthetic
from fedrms.errors import ConfigError

SMALL = {"log_size_std": 0.5}


def federation(clients: int = 12, seed: int = 0, **data: Any) -> Federation:
    made = build(
        seed=seed,
        clients=clients,
        data={"name": "synthetic", **SMALL, **data},
        partition={"name": "natural"},
        noise={"name": "none"},
    )
    assert isinstance(made, Federation)
    return made


def test_a_client_is_scored_on_its_own_test_rows_and_the_global_score_is_over_all() -> None:
    dataset = synthetic(0, 5, **SMALL)
    owners = dataset.test_natural_ids
    assert owners is not None
    correct = np.random.default_rng(0).integers(0, 2, len(owners))
    scores = federation(5).per_client_metric(correct)
    assert scores == pytest.approx([correct[owners == k].mean() for k in range(5)])
    sizes = np.bincount(owners)
    assert (sizes @ scores) / sizes.sum() == pytest.approx(correct.mean())


def test_rows_are_split_eighty_to_ten_and_nobody_else_holds_them() -> None:
    held = federation(10, log_size_std=0.0)
    # floor(e^4) + 50 = 104 rows each: int(83.2), and 104 - int(93.6).
    assert held.sizes.tolist() == [83] * 10
    assert np.bincount(held.test_groups).tolist() == [11] * 10
    rows = np.concatenate([held.stages[0].x, held.test_x])
    assert len(np.unique(rows, axis=0)) == 10 * (83 + 11)


def test_sizes_are_log_normal_beyond_the_smallest() -> None:
    dataset = synthetic(1, 2000, features=1, classes=2, train_fraction=0.5, test_fraction=0.5)
    assert dataset.natural_ids is not None
    assert dataset.test_natural_ids is not None
    sizes = np.bincount(dataset.natural_ids) + np.bincount(dataset.test_natural_ids)
    assert sizes.min() >= 50
    # Quartiles of LogNormal(4, 2): exp(4 -+ 2 * .6745) = 14.2, 54.6, 210; 5 sigma is 31 %.
    quartiles = np.quantile(sizes - 50, [0.25, 0.5, 0.75])
    assert quartiles == pytest.approx([14.2, 54.6, 210.4], rel=0.31)


def test_features_vary_within_a_client_and_around_a_mean_of_its_own() -> None:
    held = federation(200, log_size_mean=7.0, log_size_std=0.0)
    x = np.stack([held.client(k).x for k in range(200)])
    within = x.var(axis=1).mean(axis=0)
    assert within == pytest.approx(np.arange(1, 61) ** -1.2, rel=0.05)
    means = x.mean(axis=1)
    # v_k,j = B_k + N(0, 1): within a client its means have variance 1, between clients more.
    assert means.var(axis=1).mean() == pytest.approx(1, rel=0.1)
    # Var(B_k) = 1, and 1 / 60 for the mean of 60: 5 sigma of a variance of 200 is .5.
    assert means.mean(axis=1).var() == pytest.approx(1 + 1 / 60, rel=0.5)


def test_a_clients_labels_are_one_linear_rule_and_clients_share_none() -> None:
    held = federation(2, log_size_mean=6.0, log_size_std=0.0, features=8, classes=3)
    one, two = held.client(0), held.client(1)
    fit = LogisticRegression(C=1e4, max_iter=5000).fit(one.x, one.y)
    assert fit.score(one.x, one.y) > 0.99
    assert fit.score(two.x, two.y) < 0.9


def test_iid_clients_share_the_rule() -> None:
    alike = {"iid": True, "beta": 0.0}
    held = federation(2, log_size_mean=6.0, log_size_std=0.0, features=8, classes=3, **alike)
    one, two = held.client(0), held.client(1)
    fit = LogisticRegression(C=1e4, max_iter=5000).fit(one.x, one.y)
    assert fit.score(two.x, two.y) > 0.95
    # No means of the client's own: 5 sigma of a mean of 362 is .26 for the widest feature.
    assert one.x.mean(axis=0) == pytest.approx(np.zeros(8), abs=0.27)


def test_alpha_moves_all_scores_alike_and_changes_no_label() -> None:
    near, far = (federation(20, alpha=alpha) for alpha in (0.0, 3.0))
    np.testing.assert_array_equal(near.clean_y, far.clean_y)


def test_a_clients_rows_do_not_depend_on_who_else_exists() -> None:
    few, many = federation(3), federation(9)
    np.testing.assert_array_equal(few.client(2).x, many.client(2).x)
    np.testing.assert_array_equal(few.client(2).y, many.client(2).y)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"alpha": -1}, "data.alpha"),
        ({"beta": "wide"}, "data.beta"),
        ({"iid": 1}, "data.iid"),
        ({"classes": 1}, "data.classes"),
        ({"min_examples": 1}, "data.min_examples"),
        ({"train_fraction": 0.95}, "data.test_fraction"),
        ({"test_fraction": 0}, "data.test_fraction"),
        ({"log_size_std": -1}, "data.log_size_std"),
        ({"foo": 1}, "data.foo"),
    ],
)
def test_an_impossible_set_names_its_key(data: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        federation(**data)
    assert caught.value.key == key
