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


def error(eps: float, noise: np.ndarray, examples: np.ndarray, bias: float) -> float:
    weight = examples * eps / (eps + noise)
    weight = weight / weight.sum()
    return bias * float(weight @ noise) ** 2 + float((weight**2).sum())


@quickly
@given(seed=st.integers(0, 999), bias=st.floats(0.5, 50.0))
def test_no_other_eps_has_a_smaller_error(seed: int, bias: float) -> None:
    draw = np.random.default_rng(seed)
    clients = int(draw.integers(2, 40))
    noise = np.where(draw.random(clients) < 0.5, 0.0, draw.random(clients))
    examples = draw.integers(1, 1000, clients).astype(float)
    best = least_error(*known(noise), examples, bias)
    everywhere = [error(e, noise, examples, bias) for e in np.geomspace(LEVELS[0], LEVELS[-1], 500)]
    assert error(best, noise, examples, bias) <= min(everywhere) * 1.005


def test_by_hand() -> None:
    """Ten clean clients and ten noisy ones of z, which weigh 1 and s.

    The error is 8 (s z / (1 + s))^2 + (1 + s^2) / (1 + s)^2 / 10. Its derivative by s is zero
    where 80 s z^2 = 1 - s. For z = .25 that is s = 1 / 6, eps / (eps + z) with eps = .05.
    """
    assert least_error(*known([0.0] * 10 + [0.25] * 10), np.ones(20), 8.0) == pytest.approx(
        0.05, rel=0.02
    )


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
    noise, examples = np.tile([0.0, 0.0, 0.1], 3 * SAMPLE), np.ones(9 * SAMPLE)
    assert least_error(*known(noise), examples, 8.0) == LEVELS[0]
    assert least_error(*known(noise), examples, 8.0 / len(noise)) == pytest.approx(
        least_error(*known(noise[:300]), examples[:300], 8.0 / 300), rel=0.02
    )
