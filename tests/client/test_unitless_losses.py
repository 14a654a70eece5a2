"""What remains of squared errors in the unit of the model's own signal."""

import numpy as np
import pytest

from fedrms.client.unitless_losses import unitless_losses
from fedrms.statistic import BY_CLASS

PREDICTED = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 0.0])
ERRORS = np.array([0.1, -0.2, 0.0, -0.2, 0.1, 0.2])
"""They have a mean of 0, and so has their product with the predictions."""


def told(predicted, target) -> tuple[float, float]:
    """Mean and variance of one client's unitless losses."""
    shape = (1, len(predicted), -1)
    both = np.concatenate([np.reshape(predicted, shape), np.reshape(target, shape)], axis=2)
    found = unitless_losses(both, np.ones(both.shape[:2], bool))
    mean, variance = (found[BY_CLASS[n].key] for n in ("unitless", "unitless_variance"))
    return float(mean[0, 0]), float(variance[0, 0])


def test_it_is_what_remains_over_what_is_explained() -> None:
    """By hand: the slope is 1; six squared errors add up to .14, and predictions to 10."""
    low = 1.0 - 2.0 * np.sqrt(0.14 / 4 / 10)
    assert told(PREDICTED, PREDICTED + ERRORS)[0] == pytest.approx(0.14 / 4 / low**2 / (10 / 6))
    each = np.square(ERRORS) * 6 / 4 / low**2 / (10 / 6)
    assert told(PREDICTED, PREDICTED + ERRORS)[1] == pytest.approx(each.var())


@pytest.mark.parametrize("unit", [lambda y: 3 * y, lambda y: y + 40, lambda y: 1.8 * y + 32])
def test_the_unit_of_targets_does_not_matter(unit) -> None:
    target = PREDICTED + ERRORS
    assert told(PREDICTED, unit(target)) == pytest.approx(told(PREDICTED, target))


def test_how_far_inputs_spread_does_not_matter() -> None:
    """A linear model predicts three times as far from inputs three times as wide."""
    target = PREDICTED + ERRORS
    assert told(3 * PREDICTED + 1, target) == pytest.approx(told(PREDICTED, target))


def test_noise_is_not_taken_out() -> None:
    """Twice the noise is more than four times the quotient: the slope is less sure, too."""
    small, large = (told(PREDICTED, PREDICTED + k * ERRORS)[0] for k in (1, 2))
    assert 4 * small < large < 8 * small


@pytest.mark.parametrize(
    "target",
    [-PREDICTED + ERRORS, PREDICTED + 20 * ERRORS, np.full(6, 3.0)],
    ids=["the other way round", "a slope that may be chance", "one value alone"],
)
def test_where_predictions_explain_nothing_surely_nothing_is_told(target) -> None:
    assert np.isnan(told(PREDICTED, target)).all()


def test_a_model_that_predicts_one_value_explains_nothing() -> None:
    assert np.isnan(told(np.zeros(6), PREDICTED)).all()


def test_three_rows_tell_nothing() -> None:
    assert np.isnan(told(PREDICTED[:3], 3 * PREDICTED[:3])).all()


def test_of_an_output_that_predictions_do_not_explain_the_plain_loss_counts() -> None:
    target = PREDICTED + ERRORS
    alone = told(PREDICTED, target)[0]
    two = told(np.stack([PREDICTED, PREDICTED], 1), np.stack([target, -PREDICTED], 1))[0]
    plain = np.square(2 * PREDICTED).mean()
    signal = np.square(PREDICTED).mean()
    assert two == pytest.approx((alone * signal + plain) / (2 * signal))


def test_clients_together_are_told_what_each_is_told_alone() -> None:
    draw = np.random.default_rng(0)
    both, present = draw.normal(size=(5, 40, 4)), draw.random((5, 40)) < 0.7
    both[:, :, 2:] += 2 * both[:, :, :2]
    both[~present] = np.nan
    together = unitless_losses(both, present)
    for client in range(5):
        own = both[client][present[client]][None]
        alone = unitless_losses(own, np.ones(own.shape[:2], bool))
        for key, values in alone.items():
            assert together[key][client] == pytest.approx(values[0])
