"""Noise whose levels are drawn client by client."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedrms.data import Dataset, Examples
from fedrms.data.drawn_levels import Drawn, DrawnLevels
from fedrms.data.noise import KINDS, Noise
from fedrms.data.noise import decide as decide_of
from fedrms.errors import ConfigError

MANY = np.arange(20_000)


def about(classes: int | None) -> Dataset:
    nothing = Examples(np.zeros((0, 1), np.float32), np.zeros(0, np.int64))
    task = "regression" if classes is None else "classification"
    return Dataset(nothing, nothing, task, classes, (1,))


def decide(classes: int | None = 10, **noise: Any) -> Noise:
    return decide_of(0, about(classes), {"name": "label", **noise}, Drawn(0, "population"))


def flip(
    noise: Noise, labels: np.ndarray, clients: np.ndarray, offsets: np.ndarray, classes: int
) -> np.ndarray:
    x = np.zeros((len(labels), 1), np.float32)
    return noise.spoil(x, labels, offsets, clients, 1, about(classes))[1]


def flipped(noise: Noise, size: int = 50, classes: int = 10) -> np.ndarray:
    """How labels that are all 0 come out, ``[clients, size]``, for the first 2,000 clients."""
    clients = np.arange(2000)
    offsets = np.arange(2001) * size
    labels = np.zeros(2000 * size, np.int64)
    return flip(noise, labels, clients, offsets, classes).reshape(2000, size)


def test_a_share_of_clients_is_noisy_at_levels_uniform_in_the_range() -> None:
    levels = decide(fraction=0.3, low=0.2, high=0.6).levels.of(MANY, 1)
    noisy = levels[levels > 0]
    assert len(noisy) / 20_000 == pytest.approx(0.3, abs=4 * (0.21 / 20_000) ** 0.5)
    assert noisy.min() >= 0.2
    assert noisy.max() <= 0.6
    quarters = np.quantile(noisy, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quarters, [0.3, 0.4, 0.5], atol=0.01)


def test_log_spacing_is_uniform_in_the_levels_logarithm() -> None:
    levels = decide(fraction=1.0, low=0.01, high=1.0, spacing="log").levels.of(MANY, 1)
    np.testing.assert_allclose(np.quantile(levels, 0.5), 0.1, rtol=0.1)


def test_each_label_flips_at_its_clients_rate_to_any_other_class() -> None:
    noise = decide(fraction=0.5, low=0.5, high=0.5)
    labels, noisy = flipped(noise), noise.levels.of(np.arange(2000), 1) > 0
    assert (labels[~noisy] == 0).all()
    assert (labels[noisy] != 0).mean() == pytest.approx(0.5, abs=0.01)
    counts = np.bincount(labels[noisy].ravel(), minlength=10)[1:]
    np.testing.assert_allclose(counts / counts.sum(), np.full(9, 1 / 9), atol=0.01)


def test_a_pair_flip_goes_to_the_next_class() -> None:
    noise = decide(name="label_pairflip", fraction=1.0, low=1.0, high=1.0)
    assert (flipped(noise) == 1).all()
    last = flip(noise, np.array([9]), np.array([0]), np.array([0, 1]), 10)
    assert last.tolist() == [0]


def test_a_higher_level_flips_a_superset_of_what_a_lower_one_does() -> None:
    low, high = (
        flipped(Noise(0, "label", KINDS["label"], DrawnLevels(0, 1.0, "linear", at, at)))
        for at in (0.2, 0.7)
    )
    assert ((low == 0) | (high == low)).all()
    assert (high != 0).sum() > 3 * (low != 0).sum()


def test_fedcorr_is_a_share_rho_at_levels_uniform_from_tau_to_one() -> None:
    noise = decide(name="fedcorr", rho=0.5, tau=0.8)
    levels = noise.levels.of(MANY, 1)
    assert (levels > 0).mean() == pytest.approx(0.5, abs=0.015)
    assert levels[levels > 0].mean() == pytest.approx(0.9, abs=0.005)


def test_relabelling_among_all_four_classes_spares_one_label_in_four() -> None:
    levels = decide(4, name="fedcorr", rho=1.0, tau=0.8, relabel="any").levels.of(MANY, 1)
    assert 0.6 <= levels.min() < 0.61
    assert 0.74 < levels.max() <= 0.75


def test_levels_of_people_who_label_follow_their_beta_law() -> None:
    levels = decide(name="beta", fraction=0.8, a=2.0, b=6.0).levels.of(MANY, 1)
    noisy = levels[levels > 0]
    assert len(noisy) / 20_000 == pytest.approx(0.8, abs=0.012)
    # Mean a / (a + b); variance ab / ((a + b)^2 (a + b + 1)) = 1 / 48.
    assert noisy.mean() == pytest.approx(0.25, abs=0.005)
    assert noisy.var() == pytest.approx(1 / 48, rel=0.04)


def test_drift_draws_all_levels_anew_from_its_round_on() -> None:
    noise = decide(drift=[{"round": 3, "levels": "shuffle"}])
    before, at, after = (noise.levels.of(MANY, round) for round in (2, 3, 9))
    np.testing.assert_array_equal(at, after)
    assert ((before > 0) & (at > 0)).mean() == pytest.approx(0.16, abs=0.012)  # 0.4 squared
    np.testing.assert_array_equal(before, decide().levels.of(MANY, 9))


def test_without_noise_labels_are_the_very_array() -> None:
    labels = np.array([1, 2])
    noise = decide(3, name="none")
    assert flip(noise, labels, np.array([0]), np.array([0, 2]), 3) is labels


@pytest.mark.parametrize(
    ("noise", "classes", "key"),
    [
        ({"name": "file", "path": "labels.parquet"}, 10, "noise"),
        ({"name": "target"}, 10, "noise"),
        ({"name": "target", "distribution": "cauchy"}, None, "noise.distribution"),
        ({"name": "missing", "fill": "median"}, 10, "noise.fill"),
        ({"name": "missing", "high": 1.5}, 10, "noise.high"),
        ({"name": "label"}, None, "noise"),
        ({"levels": [0.1, 0.2]}, 10, "noise.levels"),
        ({"fraction": 1.5}, 10, "noise.fraction"),
        ({"low": 0.9, "high": 0.1}, 10, "noise.low"),
        ({"low": 0, "spacing": "log"}, 10, "noise.low"),
        ({"spacing": "cubic"}, 10, "noise.spacing"),
        ({"drift": [{"round": 2, "levels": [0.1]}]}, 10, "noise.drift"),
        ({"drift": [{"round": 1, "levels": "shuffle"}]}, 10, "noise.drift.round"),
        ({"name": "fedcorr", "rho": 2}, 10, "noise.rho"),
        ({"name": "fedcorr", "relabel": "none"}, 10, "noise.relabel"),
        ({"order": "by_size"}, 10, "noise.order"),
        ({"name": "gamma"}, 10, "noise"),
        ({"foo": 1}, 10, "noise.foo"),
    ],
)
def test_noise_that_cannot_be_drawn_client_by_client_is_refused_with_its_key(
    noise: dict[str, Any], classes: int | None, key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        decide(classes, **noise)
    assert caught.value.key == key
