from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedrms.data import Dataset, Examples
from fedrms.data.levels import WORK, Dealt
from fedrms.data.noise import Noise, decide
from fedrms.errors import ConfigError
from fedrms.randomness import counter_uniform

NOBODY = np.zeros(20, bool)
SIZES = np.arange(20, 0, -1)


def levels_of(
    noise: dict[str, Any], rare: Any = NOBODY, seed: int = 0, sizes: Any = None, classes: int = 10
) -> Any:
    sizes = np.full(len(rare), 50) if sizes is None else np.asarray(sizes)
    return decided(noise, Dealt(seed, np.asarray(rare), sizes), classes)


def decided(noise: dict[str, Any], spread: Dealt, classes: int | None = 10) -> Any:
    everyone = np.arange(len(spread.rare))
    return noise_of(noise, spread, classes).levels.of(everyone, 1)


def noise_of(noise: dict[str, Any], spread: Dealt, classes: int | None = 10) -> Noise:
    task = "regression" if classes is None else "classification"
    nothing = Examples(np.zeros((0, 1), np.float32), np.zeros(0))
    dataset = Dataset(nothing, nothing, task, classes, (1,))
    return decide(spread.seed, dataset, noise, spread)


def test_eight_of_twenty_clients_are_noisy_at_evenly_spaced_rates() -> None:
    levels = levels_of({"name": "label"})
    assert np.sort(levels)[:12].tolist() == [0.0] * 12
    assert np.sort(levels)[12:] == pytest.approx(0.3 + 0.5 * np.arange(8) / 7)


def test_the_noisy_count_rounds_halves_up() -> None:
    levels = levels_of({"name": "label", "fraction": 0.5, "low": 0.4}, np.zeros(5, bool))
    assert np.count_nonzero(levels) == 3


def test_log_spacing_has_equal_ratios() -> None:
    noise = {"name": "target"}
    levels = np.sort(decided(noise, Dealt(0, NOBODY, SIZES), None))
    assert levels[[0, -1]] == pytest.approx([0.1, 3.0])
    assert levels[1:] / levels[:-1] == pytest.approx(np.full(19, 30 ** (1 / 19)))


def test_rare_clients_are_spared_unless_told_otherwise() -> None:
    rare = np.arange(20) < 12
    for seed in range(5):
        assert not levels_of({"name": "label"}, rare, seed)[rare].any()
    everyone = {"name": "label", "fraction": 1.0, "spare_rare": False}
    assert levels_of(everyone, rare).all()


def test_explicit_levels_are_taken_as_they_are() -> None:
    assert levels_of({"name": "label", "levels": [0, 0.25]}, NOBODY[:2]).tolist() == [0, 0.25]


def test_fedcorr_draws_who_is_noisy_and_how_much() -> None:
    crowd = np.zeros(4000, bool)
    levels = levels_of({"name": "fedcorr", "rho": 0.3, "tau": 0.6}, crowd)
    noisy = levels[levels > 0]
    # Binomial(4000, .3): 5 sigma = 145. U(.6, 1): mean .8, sigma .115 / sqrt(1200) = .0033.
    assert len(noisy) == pytest.approx(1200, abs=145)
    assert noisy.min() >= 0.6
    assert noisy.max() <= 1
    assert noisy.mean() == pytest.approx(0.8, abs=0.017)
    assert np.array_equal(levels_of({"name": "fedcorr", "rho": 0.3, "tau": 0.6}), levels[:20])


def test_rates_of_people_follow_a_beta_distribution() -> None:
    crowd = np.zeros(4000, bool)
    levels = levels_of({"name": "beta", "a": 2.0, "b": 6.0, "fraction": 0.5}, crowd)
    noisy = levels[levels > 0]
    # Binomial(4000, .5): 5 sigma = 158. Beta(2, 6): mean .25, variance 12 / (64 * 9) = .0208.
    assert len(noisy) == pytest.approx(2000, abs=158)
    assert noisy.mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.0208 / 2000))
    assert noisy.var() == pytest.approx(0.0208, abs=0.002)
    assert np.array_equal(
        levels_of({"name": "beta", "a": 2.0, "b": 6.0, "fraction": 0.5}), levels[:20]
    )


def test_relabelling_among_all_classes_spares_one_label_in_ten() -> None:
    other, every = (levels_of({"name": "fedcorr", "relabel": name}) for name in ("other", "any"))
    np.testing.assert_allclose(every, 0.9 * other)


@pytest.mark.parametrize(
    ("order", "expected"),
    [("by_size", [0.6, 0, 0.5, 0.4, 0]), ("against_size", [0, 0.6, 0, 0.4, 0.5])],
)
def test_the_noisiest_clients_are_the_largest_or_the_smallest(
    order: str, expected: list[float]
) -> None:
    noise = {"name": "label", "fraction": 0.6, "low": 0.4, "high": 0.6, "order": order}
    for seed in range(3):
        levels = levels_of(noise, np.zeros(5, bool), seed, [90, 20, 80, 60, 30])
        assert levels == pytest.approx(expected)


def test_between_clients_of_one_size_the_seed_decides() -> None:
    noise = {"name": "label", "fraction": 0.5, "order": "by_size"}
    drawn = [levels_of(noise, np.zeros(4, bool), seed, [10, 10, 50, 10]) for seed in range(20)]
    assert all(levels[2] == 0.8 for levels in drawn)
    assert {int(np.flatnonzero(levels == 0.3)[0]) for levels in drawn} == {0, 1, 3}


def test_the_noisiest_clients_train_longest_or_shortest() -> None:
    for seed in range(3):
        draw = counter_uniform(seed, WORK, np.arange(20), 0)
        for order, sign in (("by_work", 1), ("against_work", -1)):
            levels = levels_of({"name": "label", "order": order}, seed=seed)
            noisiest = np.argsort(-sign * draw)[:8]
            assert levels[noisiest] == pytest.approx(np.linspace(0.8, 0.3, 8))
            assert np.count_nonzero(levels) == 8


def test_levels_in_the_order_of_sizes_spare_rare_clients() -> None:
    noise = {"name": "label", "fraction": 0.5, "order": "by_size"}
    rare = np.array([True, False, False, False])
    assert levels_of(noise, rare, 0, [100, 10, 30, 20]) == pytest.approx([0, 0, 0.8, 0.3])


def test_fedcorrs_levels_go_by_size_as_well() -> None:
    drawn, dealt = (
        levels_of({"name": "fedcorr", "order": order}, sizes=SIZES)
        for order in ("random", "against_size")
    )
    assert dealt.tolist() == np.sort(drawn).tolist()


@pytest.mark.parametrize(("low", "high"), [(0.4, 0.4), (0.38, 0.42)])
def test_every_client_can_be_about_equally_noisy(low: float, high: float) -> None:
    """The negative control: FedNoisy's globalized noise (arXiv:2306.11650), and nearly so."""
    levels = levels_of({"name": "label", "fraction": 1.0, "low": low, "high": high})
    assert np.sort(levels) == pytest.approx(np.linspace(low, high, 20))


def test_a_shuffle_deals_the_same_levels_anew_and_leaves_rare_clients_alone() -> None:
    rare = np.arange(20) < 3
    drift = [{"round": 5, "levels": "shuffle"}, {"round": 9, "levels": "shuffle"}]
    levels = noise_of({"name": "label", "drift": drift}, Dealt(1, rare, SIZES)).levels
    assert levels.starts == (1, 5, 9)
    first, second, third = (levels.of(np.arange(20), start) for start in levels.starts)
    assert np.array_equal(np.sort(first), np.sort(second))
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)
    assert not second[rare].any()


@pytest.mark.parametrize(
    ("noise", "key"),
    [
        ({"name": "static"}, "noise"),
        ({"name": "label", "foo": 1}, "noise.foo"),
        ({"name": "none", "low": 1}, "noise.low"),
        ({"name": "label", "low": -0.1}, "noise.low"),
        ({"name": "label", "high": 1.1}, "noise.high"),
        ({"name": "label", "high": float("nan")}, "noise.high"),
        ({"name": "label", "low": 0.9}, "noise.low"),
        ({"name": "label", "fraction": 1.2}, "noise.fraction"),
        ({"name": "label", "fraction": 0.95}, "noise.fraction"),
        ({"name": "label", "spacing": "square"}, "noise.spacing"),
        ({"name": "feature", "spacing": "log", "fraction": 0.1}, "noise.low"),
        ({"name": "feature", "low": -1}, "noise.low"),
        ({"name": "label", "levels": [0.1, 0.2]}, "noise.levels"),
        ({"name": "label", "levels": [2.0] * 20}, "noise.levels"),
        ({"name": "label", "levels": 0.5}, "noise.levels"),
        ({"name": "label", "spare_rare": "yes"}, "noise.spare_rare"),
        ({"name": "missing", "fill": "median", "fraction": 0.1}, "noise.fill"),
        ({"name": "label", "order": "by_name", "fraction": 0.1}, "noise.order"),
        ({"name": "label", "order": "by_size", "levels": [0.1] * 20}, "noise.order"),
        ({"name": "fedcorr", "relabel": "none"}, "noise.relabel"),
        ({"name": "fedcorr", "rho": 2}, "noise.rho"),
        ({"name": "fedcorr", "tau": -1}, "noise.tau"),
        ({"name": "beta", "a": 0}, "noise.a"),
        ({"name": "beta", "b": -1}, "noise.b"),
        ({"name": "beta", "fraction": 1.1}, "noise.fraction"),
        ({"name": "target"}, "noise"),
        ({"name": "label", "drift": "shuffle"}, "noise.drift"),
        ({"name": "label", "drift": [{"round": 3}]}, "noise.drift"),
        ({"name": "label", "drift": [{"round": 1, "levels": "shuffle"}]}, "noise.drift.round"),
        (
            {"name": "label", "drift": [{"round": r, "levels": "shuffle"} for r in (5, 5)]},
            "noise.drift.round",
        ),
        ({"name": "label", "drift": [{"round": 5, "levels": [0.1]}]}, "noise.drift.levels"),
    ],
)
def test_an_impossible_noise_names_its_key(noise: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        noise_of(noise, Dealt(0, np.arange(20) < 3, SIZES))
    assert caught.value.key == key


@pytest.mark.parametrize("name", ["label", "label_pairflip", "fedcorr", "beta"])
def test_label_noise_on_a_regression_names_the_kinds_that_fit(name: str) -> None:
    with pytest.raises(ConfigError, match="choose noise=target") as caught:
        noise_of({"name": name}, Dealt(0, NOBODY, SIZES), None)
    assert caught.value.key == "noise"


def test_target_noise_options_are_checked() -> None:
    for option, value in (("distribution", "cauchy"), ("degrees_of_freedom", 0)):
        with pytest.raises(ConfigError) as caught:
            noise_of({"name": "target", option: value}, Dealt(0, NOBODY, SIZES), None)
        assert caught.value.key == f"noise.{option}"


def test_a_misspelt_option_is_answered_with_the_right_one() -> None:
    with pytest.raises(ConfigError, match=r"did you mean noise\.fraction\?"):
        noise_of({"name": "label", "fractoin": 0.5}, Dealt(0, NOBODY, SIZES))
