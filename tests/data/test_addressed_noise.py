"""Label noise that is drawn client by client."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedrms.data.addressed_noise import AddressedNoise, decide_by_address
from fedrms.errors import ConfigError

MANY = np.arange(20_000)


def decide(classes: int | None = 10, **noise: Any) -> AddressedNoise:
    return decide_by_address(0, "population", classes, {"name": "label", **noise})


def flipped(noise: AddressedNoise, size: int = 50, classes: int = 10) -> np.ndarray:
    """How labels that are all 0 come out, ``[clients, size]``, for the first 2,000 clients."""
    clients = np.arange(2000)
    offsets = np.arange(2001) * size
    labels = np.zeros(2000 * size, np.int64)
    return noise.flip(labels, clients, offsets, 1, classes).reshape(2000, size)


def test_a_share_of_clients_is_noisy_at_levels_uniform_in_the_range() -> None:
    levels = decide(fraction=0.3, low=0.2, high=0.6).levels_of(MANY, 1)
    noisy = levels[levels > 0]
    assert len(noisy) / 20_000 == pytest.approx(0.3, abs=4 * (0.21 / 20_000) ** 0.5)
    assert noisy.min() >= 0.2
    assert noisy.max() <= 0.6
    quarters = np.quantile(noisy, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quarters, [0.3, 0.4, 0.5], atol=0.01)


def test_log_spacing_is_uniform_in_the_levels_logarithm() -> None:
    levels = decide(fraction=1.0, low=0.01, high=1.0, spacing="log").levels_of(MANY, 1)
    np.testing.assert_allclose(np.quantile(levels, 0.5), 0.1, rtol=0.1)


def test_each_label_flips_at_its_clients_rate_to_any_other_class() -> None:
    noise = decide(fraction=0.5, low=0.5, high=0.5)
    labels, noisy = flipped(noise), noise.levels_of(np.arange(2000), 1) > 0
    assert (labels[~noisy] == 0).all()
    assert (labels[noisy] != 0).mean() == pytest.approx(0.5, abs=0.01)
    counts = np.bincount(labels[noisy].ravel(), minlength=10)[1:]
    np.testing.assert_allclose(counts / counts.sum(), np.full(9, 1 / 9), atol=0.01)


def test_a_pair_flip_goes_to_the_next_class() -> None:
    noise = decide(name="label_pairflip", fraction=1.0, low=1.0, high=1.0)
    assert (flipped(noise) == 1).all()
    last = noise.flip(np.array([9]), np.array([0]), np.array([0, 1]), 1, 10)
    assert last.tolist() == [0]


def test_a_higher_level_flips_a_superset_of_what_a_lower_one_does() -> None:
    low, high = (flipped(AddressedNoise(0, 1.0, at, at)) for at in (0.2, 0.7))
    assert ((low == 0) | (high == low)).all()
    assert (high != 0).sum() > 3 * (low != 0).sum()


def test_fedcorr_is_a_share_rho_at_levels_uniform_from_tau_to_one() -> None:
    noise = decide_by_address(0, "x", 10, {"name": "fedcorr", "rho": 0.5, "tau": 0.8})
    levels = noise.levels_of(MANY, 1)
    assert (levels > 0).mean() == pytest.approx(0.5, abs=0.015)
    assert levels[levels > 0].mean() == pytest.approx(0.9, abs=0.005)


def test_relabelling_among_all_four_classes_spares_one_label_in_four() -> None:
    noise = {"name": "fedcorr", "rho": 1.0, "tau": 0.8, "relabel": "any"}
    levels = decide_by_address(0, "x", 4, noise).levels_of(MANY, 1)
    assert 0.6 <= levels.min() < 0.61
    assert 0.74 < levels.max() <= 0.75


def test_drift_draws_all_levels_anew_from_its_round_on() -> None:
    noise = decide(drift=[{"round": 3, "levels": "shuffle"}])
    before, at, after = (noise.levels_of(MANY, round) for round in (2, 3, 9))
    np.testing.assert_array_equal(at, after)
    assert ((before > 0) & (at > 0)).mean() == pytest.approx(0.16, abs=0.012)  # 0.4 squared
    np.testing.assert_array_equal(before, decide().levels_of(MANY, 9))


def test_without_noise_labels_are_the_very_array() -> None:
    labels = np.array([1, 2])
    noise = decide_by_address(0, "x", 3, {"name": "none"})
    assert noise.flip(labels, np.array([0]), np.array([0, 2]), 1, 3) is labels


@pytest.mark.parametrize(
    ("noise", "classes", "key"),
    [
        ({"name": "feature"}, 10, "noise"),
        ({"name": "missing"}, 10, "noise"),
        ({"name": "target"}, None, "noise"),
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
