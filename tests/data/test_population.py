"""Clients whose rows are made only when they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from fedrms.data import Population, build
from fedrms.errors import ConfigError

NATURAL = {"name": "natural"}
NONE = {"name": "none"}
LABEL = {"name": "label", "fraction": 0.5}


def make(clients: int = 40, seed: int = 0, noise: Any = NONE, **data: Any) -> Population:
    made = build(
        seed=seed,
        clients=clients,
        data={"name": "population", "test_examples": 50, **data},
        partition=NATURAL,
        noise=noise,
    )
    assert isinstance(made, Population)
    return made


@pytest.mark.parametrize("round", [1, 5])
def test_a_clients_rows_do_not_depend_on_who_else_is_asked(round: int) -> None:
    population = make(noise={**LABEL, "drift": [{"round": 4, "levels": "shuffle"}]})
    together = population.rows_of(np.arange(40)[::-1], round)
    for place, client in enumerate(range(39, -1, -1)):
        rows = slice(together.offsets[place], together.offsets[place + 1])
        alone = population.client(client, round)
        np.testing.assert_array_equal(together.x[rows], alone.x)
        np.testing.assert_array_equal(together.y[rows], alone.y)
        assert len(alone) == population.sizes[client] == population.sizes_of(np.array([client]))[0]


def test_a_clients_rows_and_the_test_set_do_not_depend_on_how_many_clients_there_are() -> None:
    few, many = make(clients=10, noise=LABEL), make(clients=1_000_000, noise=LABEL)
    np.testing.assert_array_equal(few.client(7).x, many.client(7).x)
    np.testing.assert_array_equal(few.client(7).y, many.client(7).y)
    np.testing.assert_array_equal(few.test_x, many.test_x)
    np.testing.assert_array_equal(few.test_y, many.test_y)


def test_a_client_is_clean_if_no_round_that_is_run_makes_it_noisy() -> None:
    population = make(noise={**LABEL, "drift": [{"round": 4, "levels": "shuffle"}]})
    everyone = np.arange(40)
    first, later = (population.true_noise(round) == 0 for round in (3, 4))
    assert population.clean_of(everyone, 3).tolist() == first.tolist()
    assert population.clean_of(everyone, 4).tolist() == (first & later).tolist()
    assert 0 < (first & later).sum() < first.sum()


def test_another_seed_makes_other_clients_and_another_test_set() -> None:
    one, two = make(seed=1), make(seed=2)
    assert not np.array_equal(one.client(0).x[:10], two.client(0).x[:10])
    assert not np.array_equal(one.test_x, two.test_x)


def test_shapes_and_types_are_those_that_models_take() -> None:
    rows = make(features=7, classes=3).rows_of(np.array([3, 1]))
    assert rows.x.shape == (rows.offsets[-1], 7)
    assert (rows.x.dtype, rows.y.dtype) == (np.float32, np.int64)
    assert rows.offsets.tolist() == [0, rows.offsets[1], len(rows.y)]
    assert set(rows.y.tolist()) <= {0, 1, 2}


def test_features_have_the_variances_and_the_client_means_of_the_law() -> None:
    clients = np.arange(100)
    rows = make(
        100, features=5, beta=2.0, size_spread=0, median_examples=400, max_examples=400
    ).rows_of(clients)
    x = rows.x.reshape(100, 400, 5).astype(np.float64)
    # A variance estimated from 39,900 normal numbers is within 3 % in 4 standard deviations.
    within = x.var(axis=1, ddof=1).mean(axis=0)
    np.testing.assert_allclose(within, np.arange(1, 6) ** -1.2, rtol=0.03)
    means = x.mean(axis=1).ravel()  # 500 centres with deviation 2: 0.063 is one of its own
    assert means.std() == pytest.approx(2.0, abs=4 * 0.063)
    assert abs(means.mean()) < 4 * 2 / 500**0.5


def test_clients_of_one_concept_agree_on_labels_and_of_different_concepts_do_not() -> None:
    def score(alpha: float) -> float:
        """Train labels on one half of the clients by least squares, and test on the other."""
        population = make(60, alpha=alpha, features=5, classes=3)
        rows = population.rows_of(np.arange(60))
        x, half = np.c_[rows.x, np.ones(len(rows.x))], rows.offsets[30]
        weights = np.linalg.lstsq(x[:half], np.eye(3)[rows.y[:half]], rcond=None)[0]
        return float(((x[half:] @ weights).argmax(1) == rows.y[half:]).mean())

    assert score(0.0) > 0.85
    assert score(0.0) > score(2.0) + 0.15


def test_sizes_are_log_normal_and_bounded() -> None:
    sizes = make(20_000, median_examples=50, size_spread=0.5).sizes
    assert (sizes.min(), sizes.max()) == (10, 200)
    inside = (sizes > 10) & (sizes < 200)
    logs = np.log(sizes[inside]) - np.log(50)
    # Cut at 3.2 deviations below and 2.8 above; rounding adds less than 1e-2.
    assert stats.kstest(logs / 0.5, stats.truncnorm(-3.2, 2.77).cdf).statistic < 0.03


def test_with_no_spread_everyone_has_the_median() -> None:
    assert set(make(size_spread=0, median_examples=33).sizes.tolist()) == {33}


def test_a_client_is_scored_by_the_mean_on_each_class_in_its_own_clean_mix() -> None:
    options = {"classes": 4, "test_examples": 500}
    clean, population = make(**options), make(noise={**LABEL, "fraction": 1.0}, **options)
    values = np.random.default_rng(0).random(500)
    by_class = np.array([values[population.test_y == c].mean() for c in range(4)])
    expected = [
        (np.bincount(clean.client(k).y, minlength=4) / clean.sizes[k]) @ by_class for k in range(40)
    ]
    some = np.array([5, 0, 17])
    for _ in range(2):  # from rows made for the purpose, and from those asked for last
        np.testing.assert_allclose(
            population.per_client_metric(values, some), np.take(expected, some)
        )
        population.rows_of(np.array([17, 3, 0]))
    np.testing.assert_allclose(population.per_client_metric(values), expected)


def test_nobody_alone_holds_a_class() -> None:
    assert not make().rare.any()
    assert make().rare_of(np.arange(3)).tolist() == [False] * 3


@pytest.mark.parametrize("client", [-1, 40])
def test_a_client_that_does_not_exist_is_named(client: int) -> None:
    with pytest.raises(IndexError, match=f"client {client} is not one of 0 to 39"):
        make().client(client)


def test_what_is_held_does_not_grow_with_the_population() -> None:
    """Bytes of every array that is left after a round of the same cohort."""

    def held(clients: int) -> int:
        population = make(clients, noise=LABEL)
        cohort = np.arange(100)
        population.rows_of(cohort)
        population.per_client_metric(np.ones(50), cohort)
        population.true_noise_of(cohort, 1)
        arrays = [
            value
            for owner in (vars(population), vars(population.source), population._latest)
            for value in owner.values()
            if isinstance(value, np.ndarray)
        ]
        assert len(arrays) >= 4
        return sum(array.nbytes for array in arrays)

    assert held(1_000_000) == held(1_000)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"data": {"features": 0}}, "data.features"),
        ({"data": {"classes": 1}}, "data.classes"),
        ({"data": {"alpha": -1}}, "data.alpha"),
        ({"data": {"median_examples": 0}}, "data.median_examples"),
        ({"data": {"size_spread": -1}}, "data.size_spread"),
        ({"data": {"min_examples": 300}}, "data.min_examples"),
        ({"data": {"feature": 3}}, "data.feature"),
        ({"partition": {"name": "iid"}}, "partition"),
        ({"partition": {"name": "natural", "alpha": 1}}, "partition.alpha"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key(options: dict[str, Any], key: str) -> None:
    given = {"partition": NATURAL, "noise": NONE, **options}
    given["data"] = {"name": "population", **options.get("data", {})}
    with pytest.raises(ConfigError) as caught:
        build(seed=0, clients=5, **given)
    assert caught.value.key == key
