import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedrms.combining.clip import clip_factors, update_norms

from .by_hand import quickly

NORMS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12)


def test_norms_over_an_absolute_limit_are_brought_down_to_it() -> None:
    factors = clip_factors(np.array([0.0, 1.0, 2.0, 8.0]), largest=2.0, times_median=None)
    assert factors.tolist() == [1.0, 1.0, 1.0, 0.25]


def test_norms_over_a_multiple_of_the_median_are_brought_down_to_it() -> None:
    # The median of 1, 2, 3, 100 is 2.5; twice that is 5.
    factors = clip_factors(np.array([1.0, 2.0, 3.0, 100.0]), largest=None, times_median=2.0)
    assert factors.tolist() == [1.0, 1.0, 1.0, 0.05]


def test_of_two_limits_the_lower_holds() -> None:
    norms = np.array([1.0, 2.0, 4.0])
    assert clip_factors(norms, largest=1.0, times_median=1.5).tolist() == [1.0, 0.5, 0.25]
    assert clip_factors(norms, largest=3.5, times_median=1.5).tolist() == [1.0, 1.0, 0.75]


def test_without_limits_nothing_is_clipped() -> None:
    assert clip_factors(np.array([1.0, 1e9]), largest=None, times_median=None).tolist() == [1, 1]


@quickly
@given(norms=NORMS, limit=st.floats(1e-3, 1e3))
def test_clipped_norms_are_the_smaller_of_norm_and_limit(norms: list[float], limit: float) -> None:
    factors = clip_factors(np.array(norms), largest=limit, times_median=None)
    assert factors * norms == pytest.approx(np.minimum(norms, limit))


@quickly
@given(norms=st.lists(st.floats(1.0, 2.0), min_size=2, max_size=11), liar=st.floats(1e3, 1e12))
def test_one_liar_cannot_lift_the_median_limit_above_the_honest_clients(
    norms: list[float], liar: float
) -> None:
    factors = clip_factors(np.array([*norms, liar]), largest=None, times_median=1.0)
    assert factors[-1] * liar <= max(norms) * (1 + 1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-21, 1e18, 1e-30])
def test_norms_in_single_precision_are_those_in_double_whatever_their_size(scale: float) -> None:
    draw = torch.Generator().manual_seed(0)
    updates = torch.randn(7, 60_001, generator=draw) * scale
    updates[3] = 0.0
    updates[4, 1:] = 0.0
    expected = torch.linalg.vector_norm(updates.double(), dim=1).numpy()
    found = update_norms(updates, torch.zeros(60_001))
    assert found == pytest.approx(expected, rel=1e-7, abs=0.0)
    assert found[3] == 0.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("columns", [100, 9000])
@pytest.mark.parametrize("value", [1e25, np.inf, np.nan])
def test_updates_that_are_too_long_are_measured_without_a_warning(value, columns) -> None:
    norms = update_norms(torch.full((3, columns), value), torch.zeros(columns))
    np.testing.assert_allclose(norms, value * np.sqrt(columns), rtol=1e-7)


def test_a_number_that_is_not_finite_is_not_lost_in_the_norm() -> None:
    models = torch.zeros(3, 5000)
    models[0, 17], models[1, 4000] = float("nan"), float("inf")
    assert np.isnan(update_norms(models, torch.zeros(5000))[0])
    assert update_norms(models, torch.zeros(5000))[1:].tolist() == [np.inf, 0.0]
