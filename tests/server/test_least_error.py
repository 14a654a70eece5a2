"""Where the error of an average is least: bias of the noisy against the variance of the few."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrms.weighting.least_error import LEVELS, SAMPLE, least_error

from .by_hand import quickly


def known(noise) -> tuple[np.ndarray, np.ndarray]:
    """Noise that is certain."""
    noise = np.array(noise, float)[:, None]
    return noise, np.ones_like(noise)


def errors(eps: float, noise: np.ndarray, examples: np.ndarray, bias: float) -> np.ndarray:
    """Squared bias and variance, and variance beside the squared signal."""
    weight = examples * eps / (eps + noise)
    weight = weight / weight.sum()
    wrong, variance = float(weight @ noise), float((weight**2).sum())
    signal = 1.0 - (1.5 * bias) ** 0.5 * wrong
    return np.array([bias * wrong**2 + variance, variance / signal**2 if signal > 0 else np.inf])


@quickly
@given(seed=st.integers(0, 999), bias=st.floats(0.5, 50.0))
def test_the_larger_of_the_two_eps_of_least_error_is_taken(seed: int, bias: float) -> None:
    draw = np.random.default_rng(seed)
    clients = int(draw.integers(2, 40))
    noise = np.where(draw.random(clients) < 0.5, 0.0, draw.random(clients))
    examples = draw.integers(1, 1000, clients).astype(float)
    best = least_error(*known(noise), examples, bias)
    grid = np.geomspace(LEVELS[0], LEVELS[-1], 500)
    everywhere = np.array([errors(eps, noise, examples, bias) for eps in grid])
    least = everywhere.min(axis=0)
    here = errors(best, noise, examples, bias)
    told = np.isfinite(least)
    assert (here[told] <= least[told] * 1.01).any()
    for one in np.flatnonzero(told):  # none of the two wants a larger one
        wanted = grid[np.flatnonzero(everywhere[:, one] <= least[one] * (1 + 1e-12))[-1]]
        assert best >= wanted * 0.85 or here[one] <= least[one] * 1.01


def test_by_hand() -> None:
    """Clean clients weigh 1 and noisy ones of z weigh s = eps / (eps + z).

    Ten and ten: variance beside signal is, up to a factor, (1 + s^2) / (1 + a s)^2 with
    a = 1 - root(12) z. Its derivative is zero at s = a. Nineteen and one: squared bias and variance
    are ((8 z^2 + 1) s^2 + 19) / (19 + s)^2, least at s = 1 / (8 z^2 + 1).
    """
    z = 0.15
    s = 1.0 - 12.0**0.5 * z
    half = least_error(*known([0.0] * 10 + [z] * 10), np.ones(20), 8.0)
    assert half == pytest.approx(z * s / (1.0 - s), rel=0.02)
    s = 1.0 / (8.0 * z**2 + 1.0)
    alone = least_error(*known([0.0] * 19 + [z]), np.ones(20), 8.0)
    assert alone == pytest.approx(z * s / (1.0 - s), rel=0.02)


def test_noise_that_leaves_no_signal_is_given_up_as_far_as_can_be() -> None:
    assert least_error(*known([0.6] * 19 + [0.5]), np.ones(20), 8.0) == LEVELS[0]


def test_nobody_is_given_up_where_nobody_is_noisy() -> None:
    assert least_error(*known(np.zeros(20)), np.ones(20), 8.0) == 1.0
    assert least_error(*known([0.0] * 19 + [0.02]), np.ones(20), 8.0) == 1.0


def test_what_is_uncertain_is_weighed_by_its_chances() -> None:
    """A client that may be clean or very noisy keeps the part of its weight that it may deserve."""
    noise, chances = np.zeros((20, 2)), np.full((20, 2), 0.5)
    noise[10:, 1] = 0.5
    sure = least_error(*known([0.0] * 10 + [0.25] * 10), np.ones(20), 8.0)
    assert least_error(noise, chances, np.ones(20), 8.0) != pytest.approx(sure, rel=0.05)


def test_a_large_cohort_is_judged_by_a_sample_as_if_by_all() -> None:
    noise = np.tile([0.0, 0.0, 0.1], 3 * SAMPLE)
    some = least_error(*known(noise[:300]), np.ones(300), 8.0)
    assert least_error(*known(noise), np.ones(9 * SAMPLE), 8.0) == pytest.approx(some, rel=0.02)
