"""Quantiles of ordered numbers are NumPy's, to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedrms.weighting.laws import deadzone
from fedrms.weighting.order_statistics import ascending, median, quantile

from .by_hand import quickly

NUMBERS = st.lists(st.floats(0, 1e6) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=40)


@quickly
@given(values=NUMBERS, share=st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_a_quantile_is_numpys(values: list[float], share: float) -> None:
    assert quantile(np.sort(values), share) == np.quantile(values, share)


@quickly
@given(values=NUMBERS)
def test_a_median_is_numpys(values: list[float]) -> None:
    assert median(np.sort(values)) == np.median(values)


def test_the_median_of_numbers_with_a_nan_is_one() -> None:
    assert np.isnan(median(np.array([1.0, 2.0, np.nan])))


@pytest.mark.parametrize("values", [[], [2.0], [1.0, 1.0, 3.0], [0.0, np.inf]])
def test_ordered_numbers_are_the_very_array(values: list[float]) -> None:
    given = np.array(values)
    assert ascending(given) is given


@pytest.mark.parametrize("values", [[2.0, 1.0], [np.nan, 1.0], [1.0, np.nan, 0.0]])
def test_others_are_sorted_with_nan_last(values: list[float]) -> None:
    np.testing.assert_array_equal(ascending(np.array(values)), np.sort(values))


@quickly
@given(
    known=st.lists(st.floats(0, 9) | st.just(0.0) | st.just(float("nan")), min_size=1),
    share=st.floats(0, 1),
)
def test_deadzones_reference_is_the_quantile_of_all_above_zero(known, share) -> None:
    values = np.array(known)
    above = values[values > 0]
    rms = np.array([0.5, 3.0])
    got = deadzone(rms, values, threshold=1.0, exponent=0.5, quantile=share)
    expected = np.minimum(1, np.quantile(above, share) / rms) if above.size else np.ones(2)
    np.testing.assert_array_equal(got, expected)
