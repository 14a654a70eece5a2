"""Which excess the variance of losses bears out: that of wrong labels, not of other inputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrms.weighting.mixture import ALIKE, LEAST_REACH, MOST, UNLIKE, borne_out, reach_of

from .by_hand import quickly

RATES = np.array([0.05, 0.3, 0.5, 0.8])


@quickly
@given(misfit=st.floats(0.0, 0.9), seed=st.integers(0, 999))
def test_wrong_labels_at_any_rate_are_borne_out(misfit: float, seed: int) -> None:
    """Losses drawn as a mixture: a fraction of the rows loses ``reach`` more than clean ones."""
    draw, (reach,) = np.random.default_rng(seed), reach_of(np.array([misfit]))
    for rate in RATES:
        losses = misfit + reach * (draw.random(4000) < rate)
        share, spread = losses.mean() - misfit, losses.var()
        assert borne_out(np.array([share]), np.array([spread]), np.array([reach])) == [1.0]


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.8, 1.0, 1.7])
def test_a_loss_that_is_raised_alike_is_not(rate: float) -> None:
    assert borne_out(np.array([rate]), np.array([0.0]), np.array([1.0])) == [0.0]
    noise = 0.35 * min(rate, MOST) * (1 - min(rate, MOST))  # what turned pictures have at most
    assert borne_out(np.array([rate]), np.array([noise]), np.array([1.0])) == [0.0]


def test_between_the_two_it_rises_with_the_variance() -> None:
    spread = 0.25 * np.array([UNLIKE, (UNLIKE + ALIKE) / 2, ALIKE])
    assert borne_out(np.full(3, 0.5), spread, np.ones(3)) == pytest.approx([0.0, 0.5, 1.0])


def test_labels_that_are_all_wrong_alike_are_another_concept() -> None:
    assert borne_out(np.array([1.0]), np.array([0.01]), np.array([1.0])) == [0.0]


def test_where_the_model_tells_nothing_apart_nothing_is_borne_out_by_rounding() -> None:
    reach = reach_of(np.array([1.0, 1.2]))
    assert reach.tolist() == [LEAST_REACH, LEAST_REACH]
    assert borne_out(np.array([1e-3, 0.02]), np.array([1e-6, 1e-5]), reach).tolist() == [0.0, 0.0]
