"""A flat stretch after a slope."""

import math

import numpy as np
import pytest

from fedrms.lab import plateau


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    outcomes = {key: verdict.outcome for key, verdict in quick("plateau").verdicts.items()}
    assert outcomes == {
        "the sum stalls": "holds",
        "memory span": "holds in part",
        "noisy clients": "holds",
    }


def test_rmsprop_crosses_a_flat_stretch_in_steps_of_the_rate(quick):
    table = quick("plateau").table
    own = table[(table["part"] == "steps") & (table["name"] == "rmsprop")]
    took = own[own["setting"] == "common"].set_index("x")["value"]
    # 20 more in length, in steps of 0.1, once the slope before is forgotten.
    assert took[30.0] - took[10.0] == pytest.approx(20 / 0.1, abs=2)


def test_the_squared_mean_falls_by_beta_a_step():
    squares, steps = plateau._response(0.9)
    beyond = (squares - plateau.SMALL**2)[:30]
    np.testing.assert_allclose(beyond[1:] / beyond[:-1], 0.9, rtol=1e-3)
    # The step is back at half of its size when the old squares are three times the new ones.
    expected = math.log(3 * plateau.SMALL**2) / math.log(0.9)
    assert (steps >= 0.5).argmax() == pytest.approx(expected, abs=1)
