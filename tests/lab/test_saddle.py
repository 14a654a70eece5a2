"""Leaving a saddle."""

import math

import pytest


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    outcomes = {key: verdict.outcome for key, verdict in quick("saddle").verdicts.items()}
    assert outcomes == {
        "flatness is no matter": "holds in part",
        "noise helps": "does not hold",
        "noisy clients": "holds in part",
    }


@pytest.mark.parametrize("flatness", [0.1, 0.01])
def test_gradient_descent_grows_by_its_factor_a_step(quick, flatness):
    table = quick("saddle").table
    own = table[(table["setting"] == "no noise") & (table["optimizer"] == "gd")]
    took = own.set_index("flatness")["value"][flatness]
    # The cubic term slows the last of the way a little.
    assert took == pytest.approx(math.log(1e4) / math.log1p(0.5 * flatness), rel=0.03)
