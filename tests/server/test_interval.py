"""Between which ends a rate of wrong labels lies, by hand."""

import numpy as np
import pytest

from fedrms.weighting.excess_scaler import ExcessScaler
from fedrms.weighting.interval import lower_end, upper_end

from .by_hand import losses_of


def upper(noise=0.3, error=0.02, share=0.3, least=0.0, spread=0.24, misfit=0.0, within=0.0, **kw):
    parts = (np.array([value]) for value in (noise, error, share))
    rest = (np.array([value]) for value in (spread, misfit, within))
    return upper_end(*parts, least, *rest, np.array([kw.get("mixed", True)]))[0]


def test_the_lower_end_is_so_many_errors_below_and_not_below_nothing() -> None:
    found = lower_end(np.array([0.3, 0.01]), np.array([0.1, 0.1]))
    assert found == pytest.approx([0.3 - 0.1645, 0.0])


def test_the_upper_end_is_as_far_above_the_largest_of_three_rates() -> None:
    assert upper() == pytest.approx(0.3 + 0.0329)
    # A wrong label costs half of a random one: .3^2 / (.3^2 + .06) of the labels are wrong.
    assert upper(spread=0.06) == pytest.approx(0.09 / 0.15 + 0.0329)
    # Who passes for clean loses .1 more than the references: the mixture's rate is that of .2.
    assert upper(noise=0.2, least=0.1) == pytest.approx(0.3 + 0.0329)


def test_with_other_inputs_the_estimate_alone_is_asked() -> None:
    assert upper(noise=0.0, spread=0.0, mixed=False) == pytest.approx(0.0329)


def test_what_passes_for_clean_may_be_noisy_as_far_as_its_losses_are_a_mixture() -> None:
    """Clean clients lose .2 of chance: a mixture with a rate of .2 has a variance of .16."""
    alone = upper(misfit=0.2, share=0.0, noise=0.0, spread=0.0)
    assert alone == pytest.approx(0.0329)
    whole = upper(misfit=0.2, share=0.0, noise=0.0, spread=0.0, within=0.16)
    assert whole == pytest.approx(0.0329 + 0.2 * (1 - 0.0329))
    half = upper(misfit=0.2, share=0.0, noise=0.0, spread=0.0, within=0.6 * 0.16)
    assert half == pytest.approx(0.0329 + 0.1 * (1 - 0.0329))


def test_no_rate_is_above_one_and_no_end_below_the_estimate() -> None:
    assert upper(noise=0.95, error=0.2, share=0.95, spread=0.05) == 1.0
    assert upper(noise=1.2, error=0.2, share=1.2, spread=0.0) == 1.2


def test_in_regression_both_ends_are_as_far_away() -> None:
    scaler = ExcessScaler()
    losses = losses_of([[1.0], [1.0], [3.0]], [[1.0], [1.0], [4.0]])
    evidence = scaler.measure([0, 1, 2], losses)
    found = scaler.update(1, [0, 1, 2], evidence, np.full(3, 10.0))
    assert found.error is not None
    assert found.low is not None
    assert found.high is not None
    assert found.high == pytest.approx(found.rms + 1.645 * found.error)
    assert found.low == pytest.approx(np.maximum(found.rms - 1.645 * found.error, 0.0))


def test_weights_do_not_depend_on_ends() -> None:
    """An excess that is held for another look keeps its weight, whatever its upper end."""
    scaler = ExcessScaler()
    losses = losses_of([[0.1], [0.1], [0.5]], [[0.0], [0.0], [0.2]], chance=1.0, count=1000)
    evidence = scaler.measure([0, 1, 2], losses)
    found = scaler.update(1, [0, 1, 2], evidence, np.full(3, 1000.0))
    assert found.high is not None
    assert found.high[2] > found.rms[2] + 0.1
    assert np.all(found.high[:2] < 0.1)
