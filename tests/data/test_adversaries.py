from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedrms.data import Federation, build
from fedrms.data.adversaries import choose_adversaries
from fedrms.errors import ConfigError

from .conftest import Build

ALL = np.arange(20)


@pytest.fixture
def digits(build_digits: Build) -> Federation:
    """Twenty clients, eight of them noisy."""
    return build_digits(noise={"name": "label"})


@pytest.mark.parametrize(
    ("among", "fraction", "count"), [("any", 0.2, 4), ("noisy", 0.5, 4), ("clean", 0.25, 3)]
)
def test_a_share_of_those_among_whom_they_are_chosen_lies(
    digits: Federation, among: str, fraction: float, count: int
) -> None:
    lies = choose_adversaries(0, digits, fraction=fraction, among=among).lie(ALL)
    assert lies.sum() == count
    noisy = digits.true_noise(1) > 0
    if among != "any":
        assert (noisy[lies] == (among == "noisy")).all()


def test_the_count_rounds_halves_up(digits: Federation) -> None:
    assert choose_adversaries(0, digits, fraction=0.125).lie(ALL).sum() == 3


def test_who_lies_depends_on_the_seed_alone(digits: Federation) -> None:
    chosen = {
        tuple(np.flatnonzero(choose_adversaries(s, digits).lie(ALL)).tolist()) for s in range(5)
    }
    assert len(chosen) == 5
    again = choose_adversaries(3, digits)
    assert again.lie(ALL[::-1]).tolist() == choose_adversaries(3, digits).lie(ALL)[::-1].tolist()


def test_a_list_names_the_adversaries(digits: Federation) -> None:
    lies = choose_adversaries(0, digits, fraction=0.9, clients=[3, 7]).lie(ALL)
    assert np.flatnonzero(lies).tolist() == [3, 7]


def test_clean_clients_are_honest_and_clean_in_the_round(build_digits: Build) -> None:
    moves = [0.5, 0.0, 0.0, 0.0], [{"round": 5, "levels": [0.0, 0.5, 0.0, 0.0]}]
    noise = {"name": "label", "levels": moves[0], "drift": moves[1]}
    held = build_digits(clients=4, noise=noise)
    adversaries = choose_adversaries(0, held, clients=[3])
    assert adversaries.clean(np.arange(4), 1).tolist() == [False, True, True, False]
    assert adversaries.clean(np.arange(4), 5).tolist() == [True, False, True, False]


def test_of_a_population_each_client_lies_with_a_probability_whoever_else_is_asked() -> None:
    held = build(
        seed=0,
        clients=20_000,
        data={"name": "population"},
        partition={"name": "natural"},
        noise={"name": "label", "fraction": 0.5},
    )
    adversaries = choose_adversaries(0, held, fraction=0.3, among="noisy")
    everyone = np.arange(20_000)
    lies = adversaries.lie(everyone)
    noisy = held.true_noise(1) > 0
    assert not lies[~noisy].any()
    assert lies[noisy].mean() == pytest.approx(0.3, abs=0.023)  # Binomial(10000, .3): 5 sigma
    some = np.array([17, 4, 12_345])
    assert adversaries.lie(some).tolist() == lies[some].tolist()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"fraction": 1.5}, "adversary.fraction"),
        ({"among": "rich"}, "adversary.among"),
        ({"clients": [20]}, "adversary.clients"),
        ({"clients": 3}, "adversary.clients"),
        ({"clients": [0.5]}, "adversary.clients"),
    ],
)
def test_an_impossible_choice_names_its_key(
    digits: Federation, options: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_adversaries(0, digits, **options)
    assert caught.value.key == key


def test_nobody_to_choose_among_is_said(build_digits: Build) -> None:
    with pytest.raises(ConfigError, match="no client is noisy") as caught:
        choose_adversaries(0, build_digits(), among="noisy")
    assert caught.value.key == "adversary.among"
