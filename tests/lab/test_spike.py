"""One outlier, and one wild client."""

import math

import numpy as np
import pytest

from fedrms.lab import spike


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    outcomes = {key: verdict.outcome for key, verdict in quick("spike").verdicts.items()}
    assert outcomes == {
        "stall": "holds",
        "cures": "holds",
        "no price": "does not hold",
        "wild client": "holds in part",
        "forgiven": "holds",
    }


def test_an_outliers_own_step_and_the_one_after_are_those_of_the_formula():
    beta, size = 0.9, 100.0
    (steps,) = spike._after_outlier("rmsprop", beta, [size])
    squared = beta + (1 - beta) * size**2
    assert steps[0] == pytest.approx(size / math.sqrt(squared), rel=1e-3)
    assert steps[1] == pytest.approx(1 / math.sqrt(beta * squared + 1 - beta), rel=1e-3)


def test_a_clients_weight_before_its_wild_round_is_the_measure():
    weights = spike._wild_client("excess", seed=1, rounds=spike.WILD + 15)
    assert len(weights) == 16
    assert weights[0] < 0.5
    np.testing.assert_allclose(weights[-1], 1.0, atol=0.1)
