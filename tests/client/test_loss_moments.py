"""The evidence that FedRMS weighs clients by."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

import fedrms
from fedrms.client.loss_moments import loss_moments, stacked_moments

KEYS = {"loss-mean", "loss-variance", "loss-second-moment", "loss-mad"}
losses_of_a_client = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=60)


def test_the_moments_of_four_losses_by_hand():
    """Losses 0, 1, 3, 8: mean 3, deviations -3, -2, 0, 5, median 2, absolute 2, 1, 1, 6."""
    moments = loss_moments([0.0, 1.0, 3.0, 8.0])
    assert moments == {
        "loss-mean": 3.0,
        "loss-variance": (9 + 4 + 0 + 25) / 4,
        "loss-second-moment": (0 + 1 + 9 + 64) / 4,
        "loss-mad": pytest.approx((1.4826 * 1.5) ** 2),
    }


def test_one_loss_has_no_spread():
    moments = loss_moments([2.0])
    assert list(moments.values()) == [2.0, 0.0, 4.0, 0.0]


@settings(deadline=None)
@given(losses_of_a_client)
def test_the_moments_agree_with_numpy_and_scipy(losses):
    moments = loss_moments(losses)
    assert moments["loss-mean"] == pytest.approx(np.mean(losses), rel=1e-12)
    assert moments["loss-variance"] == pytest.approx(np.var(losses), rel=1e-9, abs=1e-12)
    assert moments["loss-second-moment"] == pytest.approx(np.mean(np.square(losses)), rel=1e-12)
    spread = 1.4826 * median_abs_deviation(losses)
    assert moments["loss-mad"] == pytest.approx(spread**2, rel=1e-9, abs=1e-12)


def test_the_mad_of_gaussian_losses_estimates_their_variance():
    losses = np.random.default_rng(0).normal(5.0, 3.0, size=200_000)
    assert loss_moments(losses)["loss-mad"] == pytest.approx(9.0, rel=0.02)


def test_one_outlier_moves_the_variance_and_not_the_mad():
    losses = np.random.default_rng(0).normal(size=1001)
    spoilt = np.append(losses, 1e4)
    assert loss_moments(spoilt)["loss-variance"] > 1e4 * loss_moments(losses)["loss-variance"]
    assert loss_moments(spoilt)["loss-mad"] == pytest.approx(
        loss_moments(losses)["loss-mad"], rel=0.02
    )


@settings(deadline=None)
@given(losses_of_a_client, st.sampled_from([0.125, 4.0, 1024.0]))
def test_a_scaled_loss_scales_the_mean_once_and_the_spreads_twice(losses, factor):
    plain, scaled = loss_moments(losses), loss_moments(np.array(losses) * factor)
    assert scaled["loss-mean"] == pytest.approx(plain["loss-mean"] * factor)
    for key in KEYS - {"loss-mean"}:
        assert scaled[key] == pytest.approx(plain[key] * factor**2, abs=1e-300)


@settings(deadline=None)
@given(losses_of_a_client)
def test_the_second_moment_is_the_squared_mean_plus_the_variance(losses):
    moments = loss_moments(losses)
    parts = moments["loss-mean"] ** 2 + moments["loss-variance"]
    assert moments["loss-second-moment"] == pytest.approx(parts, rel=1e-9)


@pytest.mark.parametrize(
    "losses",
    [
        [0.5, 1.5, 4.0],
        (0.5, 1.5, 4.0),
        np.array([0.5, 1.5, 4.0]),
        np.array([[0.5], [1.5], [4.0]], dtype=np.float32),
        torch.tensor([0.5, 1.5, 4.0]),
        torch.tensor([0.5, 1.5, 4.0], dtype=torch.bfloat16),
        torch.tensor([[0.5, 1.5, 4.0]], requires_grad=True),
    ],
    ids=["list", "tuple", "array", "column", "tensor", "bfloat16", "requires grad"],
)
def test_losses_come_as_tensors_arrays_or_lists_of_any_shape(losses):
    assert loss_moments(losses) == loss_moments([0.5, 1.5, 4.0])


def test_the_keys_are_those_of_a_metric_record_and_the_values_plain_floats():
    moments = loss_moments(torch.tensor([1.0, 2.0]))
    assert set(moments) == KEYS
    assert all(type(value) is float for value in moments.values())


def test_the_two_lines_that_an_existing_client_adds_are_public():
    assert fedrms.loss_moments is loss_moments


@pytest.mark.parametrize("nothing", [[], np.zeros(0), torch.zeros(0), torch.zeros(0, 3)])
def test_no_loss_is_an_error(nothing):
    with pytest.raises(ValueError, match="at least one"):
        loss_moments(nothing)


def test_many_clients_at_once_get_what_each_gets_alone():
    draw = np.random.default_rng(1)
    present = draw.random((9, 14)) < 0.6
    present[0] = True
    losses = draw.exponential(size=(9, 14))
    spoilt = np.where(present, losses, np.nan)  # what padding holds is nobody's business
    together = stacked_moments(spoilt, present)
    for row in range(9):
        for key, value in loss_moments(losses[row][present[row]]).items():
            name = key.removeprefix("loss-").replace("-", "_")
            assert together[name][row] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_client_without_losses_or_with_a_bad_one_gets_nan_and_the_others_do_not(bad):
    losses = np.array([[1.0, 2.0], [0.0, 0.0], [bad, 2.0]])
    present = np.array([[True, True], [False, False], [True, True]])
    moments = stacked_moments(losses, present)
    assert moments["mad"][0] == pytest.approx((1.4826 * 0.5) ** 2)
    for name in ("variance", "mad"):
        assert np.isnan(moments[name]).tolist() == [False, True, True]
    assert not np.isfinite(moments["second_moment"][1:]).any()
