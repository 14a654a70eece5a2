"""Clipping thresholds: the verdicts, and what is called a good range."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from fedrms.lab.good_range import CHANCE, good_range


@pytest.mark.long
def test_the_verdicts_hold_on_the_quick_size(quick):
    verdicts = quick("clipping").verdicts
    outcomes = {key: verdict.outcome for key, verdict in verdicts.items()}
    federated = verdicts["noisy clients"].numbers
    assert outcomes == {
        "wider": "holds",
        "no clipping": "holds",
        "every step size": "holds",
        "noisy clients": "holds",
    }
    assert federated["best loss of RMSProp"] < federated["best loss of GD"] < CHANCE


def rows(losses, lrs=(0.1, 1.0), thresholds=(0.01, 0.1, 1.0, math.inf), seeds=3):
    return pd.DataFrame(
        [
            {"lr": lr, "threshold": threshold, "seed": seed, "value": losses[i][k]}
            for (i, lr), (k, threshold), seed in itertools.product(
                enumerate(lrs), enumerate(thresholds), range(seeds)
            )
        ]
    )


def test_a_good_range_reaches_from_the_best_threshold_to_the_first_bad_one_on_each_side():
    # Good is up to .3 + (ln 10 - .3) / 10 = .5003.
    found = good_range(rows([[0.4, 2.0, 0.3, 0.5], [2.0, 2.0, np.inf, np.inf]]))
    assert (found.lr, found.best, found.unclipped) == (0.1, 0.3, 0.5)
    assert found.bound == pytest.approx(0.3 + (CHANCE - 0.3) / 10)
    # From 1 to no clipping, which counts as the place after 1; .01 is beyond a bad one.
    assert found.decades == pytest.approx(1.0)
    assert found.share == 3 / 8
    assert found.widths == (pytest.approx(1.0), 0.0)
