"""What a client says of its losses, clipped and noised."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedrms.client import LocalSettings
from fedrms.client.class_losses import stacked_class_losses
from fedrms.client.statistic_privacy import StatisticPrivacy, _sums, laplace, private_losses
from fedrms.errors import ConfigError
from fedrms.statistic import BY_CLASS

from ..server.by_hand import quickly

ORDERS = LocalSettings(
    seed=7, statistic="incoming", class_losses=3, statistic_clip=2.0, statistic_epsilon=np.inf
)
CLIENTS = np.arange(2)
SCORES = np.array([[[0.5, 1.0], [3.0, 0.1], [0.0, 5.0], [1.0, 2.0]]] * 2)
PRESENT = np.array([[True] * 4, [True, True, True, False]])
LABELS = np.array([[0, 0, 2, 2], [1, 1, 1, 0]])


def said(orders: LocalSettings = ORDERS, server_round: int = 1, **more: Any) -> dict[str, Any]:
    given = {"clients": CLIENTS, "scores": SCORES, "present": PRESENT, "labels": LABELS} | more
    return private_losses(orders, server_round, **given)


def test_without_noise_it_is_the_losses_by_class_of_clipped_losses() -> None:
    exact = stacked_class_losses(3, np.minimum(SCORES, 2.0), PRESENT, LABELS)
    told = said()
    for key in (BY_CLASS["count"].key, BY_CLASS["mean"].key):
        np.testing.assert_allclose(told[key], np.nan_to_num(exact[key]), atol=1e-12, err_msg=key)
    # The variance and the chance loss are those of all examples: chance losses 1, .1, 2, 2.
    assert told[BY_CLASS["variance"].key][:, 0] == pytest.approx([told["loss-variance"][0], 0.0])
    assert told[BY_CLASS["chance"].key][:, 2] == pytest.approx([5.1 / 4, 0.0])
    assert told[BY_CLASS["chance"].key][:, 1] == pytest.approx([0.0, 3.1 / 3])


def test_moments_over_all_classes_are_sums_over_the_same_table() -> None:
    # Client 0: losses .5, 2 (3 is clipped), 0, 1; client 1: .5, 2, 0.
    told = said()
    assert told["loss-mean"] == pytest.approx([3.5 / 4, 2.5 / 3])
    assert told["loss-second-moment"] == pytest.approx([5.25 / 4, 4.25 / 3])
    assert told["loss-variance"] == pytest.approx([5.25 / 4 - (3.5 / 4) ** 2, 4.25 / 3 - 25 / 36])
    assert "loss-mad" not in told


def test_noise_has_the_scale_of_the_sensitivity_over_its_share_of_the_budget() -> None:
    """The sum of losses: C = 2, five tables, epsilon 5: scale 2. Counts: 2 * 5 / 5 = 2."""
    many = 4000
    orders = replace(ORDERS, statistic_epsilon=5.0, class_losses=2)
    told = said(
        orders,
        clients=np.arange(many),
        scores=np.full((many, 1000, 2), 1.0),
        present=np.ones((many, 1000), bool),
        labels=np.tile([0, 1], (many, 500)),
    )
    total = told["loss-mean"] * 1000
    assert total.mean() == pytest.approx(1000, abs=0.3)
    assert total.var() == pytest.approx(2 * 2**2, rel=0.1)
    # Losses by class add up to the same total, and counts to the public one.
    held = [told[BY_CLASS["count"].key][:, label] for label in (0, 1)]
    losses = [told[BY_CLASS["mean"].key][:, label] for label in (0, 1)]
    np.testing.assert_allclose(held[0] * losses[0] + held[1] * losses[1], total)
    assert held[0] + held[1] == pytest.approx(np.full(many, 1000.0))
    # 500 plus half the difference of two draws.
    assert (held[0] - 500).var() == pytest.approx(2 * 2 * 2**2 / 4, rel=0.1)
    # All losses are alike; what the server is told of their spread is the noise's: n v >= 8.
    spread = told[BY_CLASS["variance"].key][:, 0] * 1000
    assert np.quantile(spread, 0.1) >= 8.0 - 1e-9


def test_with_a_single_class_the_count_is_public_and_two_tables_share_the_budget() -> None:
    """C = 2, epsilon 4: noise of scale 2 * 2 / 4 = 1 on the sum."""
    many = 4000
    orders = replace(ORDERS, statistic_epsilon=4.0, class_losses=1)
    told = said(
        orders,
        clients=np.arange(many),
        scores=np.full((many, 100, 1), 1.0),
        present=np.ones((many, 100), bool),
        labels=None,
    )
    assert (told[BY_CLASS["count"].key][:, 0] == 100).all()
    assert (told["loss-mean"] * 100).var() == pytest.approx(2.0, rel=0.1)


def test_noise_is_that_of_laplace() -> None:
    draws = laplace(0, np.arange(200)[:, None], 3, np.arange(50)).ravel()
    assert stats.kstest(draws, stats.laplace.cdf).pvalue > 0.01
    assert np.isfinite(draws).all()


def test_noise_differs_between_clients_rounds_and_seeds_and_is_the_same_again() -> None:
    slightly = replace(ORDERS, statistic_epsilon=1000.0)

    def noise(*args: Any, **more: Any) -> np.ndarray:
        return np.asarray(said(slightly, *args, **more)["loss-mean"])

    exact = said()["loss-mean"][: len(CLIENTS)]
    drawn = noise() - exact
    np.testing.assert_array_equal(noise() - exact, drawn)
    assert drawn[0] != drawn[1]
    assert (noise(2) - exact != drawn).all()
    assert (noise(seed=8) - exact != drawn).all()
    last = slice(1, None)
    alone = {"clients": CLIENTS[last], "scores": SCORES[last]}
    alone |= {"present": PRESENT[last], "labels": LABELS[last]}
    assert noise(**alone)[0] - exact[1] == pytest.approx(drawn[1])


example = st.tuples(st.floats(0, 10), st.floats(0, 10), st.integers(0, 2))


@quickly
@given(st.lists(example, min_size=1, max_size=8), example, st.data())
def test_one_example_replaced_changes_the_sums_by_no_more_than_the_sensitivity(
    examples: list[Any], other: Any, data: st.DataObject
) -> None:
    clip = 2.0
    changed = list(examples)
    changed[data.draw(st.integers(0, len(examples) - 1))] = other

    def sums(rows: list[Any]) -> dict[str, np.ndarray]:
        scores = np.array([[row[:2] for row in rows]])
        labels = np.array([[row[2] for row in rows]])
        return _sums(np.clip(scores, 0, clip), np.ones(labels.shape, bool), labels, 3)

    one, two = sums(examples), sums(changed)
    bounds = {"loss": clip, "square": clip**2, "chance": clip, "count": 2.0}
    bounds["loss_by_class"] = 2 * clip
    assert set(one) == set(bounds)
    for name, most in bounds.items():
        assert np.abs(one[name] - two[name]).sum() <= most + 1e-9


@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 1.0])
def test_however_noisy_everything_said_is_finite_and_can_be(epsilon: float) -> None:
    told = said(replace(ORDERS, statistic_epsilon=epsilon))
    for key, values in told.items():
        assert np.isfinite(values).all(), key
        assert (values >= 0).all(), key


@pytest.mark.parametrize("statistic", ["prequential", "holdout"])
def test_losses_that_one_example_can_change_all_of_are_refused(statistic: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LocalSettings(statistic=statistic, statistic_clip=1.0, statistic_epsilon=1.0)
    assert caught.value.key == "strategy.statistic"
    assert caught.value.remedy == "set it to incoming"


@pytest.mark.parametrize(("clip", "epsilon"), [(0.0, 1.0), (1.0, 0.0), (np.inf, 1.0)])
def test_half_a_mechanism_is_none(clip: float, epsilon: float) -> None:
    with pytest.raises(ConfigError, match="set both above 0"):
        LocalSettings(statistic="incoming", statistic_clip=clip, statistic_epsilon=epsilon)


def test_a_client_that_insists_takes_the_stricter_of_the_two() -> None:
    own = StatisticPrivacy(clip=3.0, epsilon=0.5)
    ordered = replace(ORDERS, statistic_epsilon=1.0)
    bound = own.bind(ordered)
    assert (bound.statistic_clip, bound.statistic_epsilon) == (2.0, 0.5)
    free = own.bind(replace(ORDERS, statistic_clip=0.0, statistic_epsilon=0.0))
    assert (free.statistic_clip, free.statistic_epsilon) == (3.0, 0.5)
