"""The valley: condition numbers that can be derived by hand."""

import numpy as np
import pytest

from fedrms.lab.scaled_curvature import effective_condition


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    outcomes = {key: verdict.outcome for key, verdict in quick("valley").verdicts.items()}
    assert outcomes == {
        "one step size": "holds",
        "root of kappa": "holds in part",
        "fewer iterations": "holds in part",
        "noisy clients": "holds",
    }


def test_gradient_descent_takes_the_iterations_of_theory(quick):
    """At 2 / (1 + 1 / kappa) both directions shrink by (kappa - 1) / (kappa + 1) a step."""
    table = quick("valley").table
    took = table.query("optimizer == 'gd' and setting == 'aligned' and condition == 100")["value"]
    rate = 99 / 101
    start = 1.0
    while start > 1e-6:
        start *= rate
        took -= 1
    assert abs(took.item()) < 60  # the median start is not at a distance of 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("setting", "power"),
    [
        ("noise as curvature", 0.5),
        ("noise as its square", 0.0),
        ("noise everywhere alike", 1.0),
        ("noise as its square, rotated", 1.0),
    ],
)
def test_what_scaling_leaves_of_a_condition_number(setting, power):
    """A gradient of variance h^(2 - 2p) is divided by h^(1 - p), which leaves kappa^p."""
    left = effective_condition(setting, 100.0, 2000, range(4))
    assert np.median(left) == pytest.approx(100.0**power, rel=0.25)
