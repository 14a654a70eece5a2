"""The distribution of true shares, estimated from noisy ones, and what it makes of each client."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrms.weighting.noise_prior import GRID, fit, likelihood, posterior, quantile

from .by_hand import quickly


def seen(share: np.ndarray, error: float, examples: float = 1e9, reach: float = 1.0) -> np.ndarray:
    count = len(share)
    return likelihood(share, np.full(count, error), np.full(count, reach), np.full(count, examples))


@quickly
@given(seed=st.integers(0, 999))
def test_where_all_are_alike_the_prior_gathers_there(seed: int) -> None:
    share = np.random.default_rng(seed).normal(0.05, 0.04, 200)
    prior = fit(seen(share, 0.04))
    assert prior.sum() == pytest.approx(1.0)
    assert prior @ GRID == pytest.approx(share.mean(), abs=0.01)
    spread = np.sqrt(prior @ np.square(GRID - prior @ GRID))
    assert spread < 0.75 * 0.04


def test_two_kinds_of_clients_are_found_with_their_shares() -> None:
    draw = np.random.default_rng(3)
    true = np.repeat([0.0, 0.4], [150, 50])
    prior = fit(seen(draw.normal(true, 0.06), 0.06))
    assert prior[GRID > 0.2].sum() == pytest.approx(0.25, abs=0.03)
    assert quantile(prior, 0.5) == pytest.approx(0.0, abs=0.02)
    assert quantile(prior, 0.9) == pytest.approx(0.4, abs=0.05)


def test_a_posterior_mean_is_nearer_to_the_truth_than_what_was_seen() -> None:
    """Robbins' point: the others say how far to believe one."""
    draw = np.random.default_rng(5)
    true = draw.beta(1, 4, 300)
    share = draw.normal(true, 0.1)
    likelihoods = seen(share, 0.1)
    mean = posterior(likelihoods, fit(likelihoods)) @ GRID
    assert np.square(mean - true).mean() < 0.75 * np.square(share - true).mean()


def test_a_share_known_exactly_is_kept_though_it_lies_between_grid_points() -> None:
    share = np.array([0.0, 0.1125, 0.4333, 0.89])
    likelihoods = seen(share, 0.0)
    assert posterior(likelihoods, fit(likelihoods)) @ GRID == pytest.approx(share, abs=0.0126)


def test_a_share_beyond_the_grid_counts_as_its_end() -> None:
    likelihoods = seen(np.array([0.0, 0.0, 4000.0]), 0.01)
    assert posterior(likelihoods, fit(likelihoods))[2] @ GRID == pytest.approx(GRID[-1], abs=0.01)


def test_few_examples_make_a_rate_uncertain_and_not_a_clean_client() -> None:
    """A rate of .5 among 25 labels has a standard deviation of .1; a rate of 0 has none."""
    one = seen(np.array([0.3]), 0.001, examples=25.0)[0]
    at = {g: one[np.abs(GRID - g).argmin()] for g in (0.0, 0.5)}
    assert at[0.5] > 1e-3
    assert at[0.0] < 1e-12
