"""Clients whose inputs look different: who, how, and what judges them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedrms.data import build
from fedrms.data.appearance import LOOKS
from fedrms.errors import ConfigError

PICTURE = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3) / 8


def digits(look: str = "none", noise: Any = None, **options: Any) -> Any:
    return build(
        seed=3,
        clients=8,
        data={"name": "digits"},
        partition={"name": "dirichlet", "alpha": 0.5},
        noise=noise or {"name": "none"},
        appearance={"name": look, **options},
    )


@pytest.mark.parametrize(
    ("look", "options", "row"),
    [
        ("inverted", {}, [1, 7 / 8, 6 / 8]),
        ("turned", {}, [2 / 8, 5 / 8, 1]),
        ("turned", {"quarters": 2}, [1, 7 / 8, 6 / 8]),
        ("mirrored", {}, [2 / 8, 1 / 8, 0]),
        ("blurred", {}, [1 / 6, 1 / 4, 1 / 3]),
        ("faint", {"gain": 0.5}, [0, 1 / 16, 1 / 8]),
    ],
)
def test_a_look_is_what_it_says(look: str, options: Any, row: list[float]) -> None:
    seen = LOOKS[look](0, PICTURE, **options)(PICTURE)
    assert seen.shape == PICTURE.shape
    assert seen[0, 0, 0] == pytest.approx(row)


def test_shifted_columns_have_the_mean_and_spread_they_are_given() -> None:
    draw = np.random.default_rng(0)
    table = (draw.standard_normal((4000, 5)) * [1, 2, 5, 0.1, 1] + 7).astype(np.float32)
    change = LOOKS["shifted"](0, table, shift=1.0, rescale=2.0)
    seen = change(table)
    moved = (seen.mean(axis=0) - table.mean(axis=0)) / table.std(axis=0)
    stretched = seen.std(axis=0) / table.std(axis=0)
    assert np.all(np.abs(moved) <= 1)
    assert np.abs(moved).max() > 0.3
    assert np.all((stretched >= 0.5) & (stretched <= 2))
    assert stretched.std() > 0.2
    assert change(table[:10]) == pytest.approx(seen[:10])


@pytest.mark.parametrize("look", ["inverted", "turned", "mirrored", "blurred", "faint"])
def test_only_some_clients_look_different_and_labels_stay(look: str) -> None:
    usual, changed = digits(), digits(look, fraction=0.25)
    assert usual.looks is None
    assert np.count_nonzero(changed.looks == look) == 2
    for client in range(8):
        one, other = usual.client(client), changed.client(client)
        assert np.array_equal(one.y, other.y)
        same = np.array_equal(one.x, other.x)
        assert same == (changed.looks[client] == "usual")


def test_each_client_is_judged_on_test_rows_that_look_like_its_own() -> None:
    usual, changed = digits(), digits("inverted", fraction=0.25)
    count = len(usual.test_y)
    assert np.array_equal(changed.test_x[:count], usual.test_x)
    assert changed.test_y.tolist() == usual.test_y.tolist() * 2
    raw = usual.test_x - usual.test_x.min()
    inverted = changed.test_x[count:] - usual.test_x.min()
    assert inverted == pytest.approx(raw.max() - raw, abs=1e-5)
    right = np.concatenate([np.ones(count), np.zeros(count)])
    assert changed.per_client_metric(right) == pytest.approx((changed.looks == "usual") * 1.0)
    mine = changed.client_mix[:, :10] + changed.client_mix[:, 10:]
    assert np.array_equal(mine, usual.client_mix)


def test_clients_that_own_their_test_rows_are_judged_on_those_with_their_look() -> None:
    def synthetic(**look: Any) -> Any:
        return build(
            seed=1,
            clients=6,
            data={"name": "synthetic"},
            partition={"name": "natural"},
            noise={"name": "none"},
            appearance=look or None,
        )

    usual, changed = synthetic(), synthetic(name="shifted", fraction=0.5)
    assert np.array_equal(usual.test_groups, changed.test_groups)
    assert np.array_equal(usual.client_mix, changed.client_mix)
    moved = np.any(usual.test_x != changed.test_x, axis=1)
    assert np.array_equal(moved, (changed.looks == "shifted")[usual.test_groups])


def test_clients_that_look_different_are_spared_by_noise_unless_told_otherwise() -> None:
    noise = {"name": "label", "fraction": 0.75}
    for seed_free in (True, False):
        made = digits("turned", noise, fraction=0.25, spare=seed_free)
        noisy, other = made.true_noise(1) > 0, made.looks == "turned"
        assert np.count_nonzero(noisy) == 6
        assert np.any(noisy & other) == (not seed_free)


def test_a_look_that_all_have_leaves_one_block() -> None:
    usual, changed = digits(), digits("mirrored", fraction=1.0)
    assert np.array_equal(changed.test_x, usual.test_x[:, :, :, ::-1])
    assert np.array_equal(changed.client_mix, usual.client_mix)


def test_nobody_who_looks_different_is_no_look_at_all() -> None:
    usual, changed = digits(), digits("mirrored", fraction=0.0)
    assert changed.looks is None
    assert np.array_equal(changed.test_x, usual.test_x)


@pytest.mark.parametrize(
    ("look", "key"),
    [
        ({"name": "green"}, "appearance"),
        ({"name": "shifted"}, "appearance"),
        ({"name": "turned", "fraction": 2}, "appearance.fraction"),
        ({"name": "turned", "quarters": 0}, "appearance.quarters"),
        ({"name": "turned", "radius": 1}, "appearance.radius"),
        ({"name": "blurred", "radius": 0.5}, "appearance.radius"),
        ({"name": "faint", "gain": 0}, "appearance.gain"),
        ({"name": "faint", "spare": "no"}, "appearance.spare"),
        ({"name": "none", "fraction": 0.5}, "appearance.fraction"),
    ],
)
def test_an_impossible_look_names_its_key(look: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        digits(look.pop("name"), **look)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("data", "look", "told"),
    [
        ({"name": "regression"}, "turned", "choose shifted"),
        ({"name": "population"}, "shifted", "choose other data"),
    ],
)
def test_a_look_that_does_not_fit_the_data_says_what_does(
    data: dict[str, Any], look: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        build(
            seed=0,
            clients=4,
            data=data,
            partition={"name": "natural"},
            noise={"name": "none"},
            appearance={"name": look},
        )


def test_pictures_that_are_not_square_cannot_be_turned_by_a_quarter() -> None:
    wide = np.zeros((2, 1, 2, 3), np.float32)
    with pytest.raises(ConfigError, match="set 2"):
        LOOKS["turned"](0, wide)
    assert LOOKS["turned"](0, wide, quarters=2)(wide).shape == wide.shape


def test_regression_clients_that_look_different_are_judged_apart() -> None:
    made = build(
        seed=0,
        clients=4,
        data={"name": "regression"},
        partition={"name": "iid"},
        noise={"name": "none"},
        appearance={"name": "shifted", "fraction": 0.5},
    )
    assert len(made.test_y) == 4000
    right = np.concatenate([np.ones(2000), np.zeros(2000)])
    assert made.per_client_metric(right) == pytest.approx((made.looks == "usual") * 1.0)
